"""Import MXNet and GluonCV without other packages that they would import or cannot bear."""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from typing import Any, Iterator


@contextlib.contextmanager
def out_of_sight(name: str) -> Iterator[None]:
    """Hide the package called `name` from imports, as if it were not installed."""
    package = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if package is None:
            del sys.modules[name]
        else:
            sys.modules[name] = package


def import_gluoncv(module: str) -> Any:
    """Return GluonCV's module with that name, such as gluoncv.loss.

    GluonCV refuses to be imported next to torch 2, though it needs no torch here.
    """
    with out_of_sight("torch"):
        return import_module(module)
