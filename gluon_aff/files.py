"""Writing files whole or not at all; reading text that a user may have edited."""

from __future__ import annotations

import codecs
import contextlib
import os
import tempfile
from typing import Iterator, List, Mapping

from gluon_aff.errors import GluonAFFError, InputError, last_line

LARGEST_TEXT = 16 << 20  # bytes; the names of a million classes have fewer
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: str, largest: int = LARGEST_TEXT) -> str:
    """The text of a file that a user may have edited, as `decoded` reads it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not text, or has more than `largest` bytes.
    """
    with open(path, "rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it is larger than {largest:,} bytes")
    return decoded(content)


def decoded(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 with a mark; without the mark that Notepad, Excel and PowerShell put before it.

    Raises:
        UnicodeDecodeError: it is in neither.
    """
    return content.decode("utf-16" if content.startswith(_UTF_16_MARKS) else "utf-8-sig")


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Name of a temporary file beside `path` that takes its place at the end; its directory is made.

    Where `path` is a link, the file that it leads to is replaced, and the link stays.

    Raises:
        GluonAFFError: if that cannot be written; what was at `path` stays.
    """
    with replacing_together(path) as (partial,):
        yield partial


@contextlib.contextmanager
def replacing_together(*paths: str) -> Iterator[List[str]]:
    """`replacing` for files that belong together: none takes its place before all are written.

    Raises:
        GluonAFFError: if one cannot be written; what was at the `paths` stays.
    """
    targets = [os.path.realpath(path) if os.path.islink(path) else path for path in paths]
    partials = [f"{target}.partial" for target in targets]
    try:
        for target in targets:
            os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        yield partials
        for partial, target in zip(partials, targets):
            os.replace(partial, target)
    except OSError as error:
        reason = f"({last_line(error)}): check free space and rights"
        raise GluonAFFError(f"{', '.join(paths)} cannot be written {reason}") from None
    finally:
        for partial in partials:
            with contextlib.suppress(OSError):
                os.remove(partial)


def check_directories(paths: Mapping[str, str]) -> None:
    """See that files can be written in the directories (empty: the working directory), existing or to be made.

    Args:
        paths: by flag.

    Raises:
        InputError: if not; names the flag.
    """
    for flag, path in paths.items():
        existing = os.path.abspath(path)
        while not os.path.lexists(existing):
            existing = os.path.dirname(existing)
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            reason = f"{existing} cannot be written to ({error.strerror})"
            raise InputError(f"{flag} {path or os.curdir}: {reason}; choose another directory") from None
