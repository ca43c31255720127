"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator

from gluon_aff.errors import GluonAFFError, last_line


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Name of a temporary file beside `path` that takes its place at the end; its directory is made.

    Raises:
        GluonAFFError: if that cannot be written; what was at `path` stays.
    """
    partial = f"{path}.partial"
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise GluonAFFError(f"{path} cannot be written ({last_line(error)}): check free space and rights") from None
    finally:
        with contextlib.suppress(OSError):
            os.remove(partial)
