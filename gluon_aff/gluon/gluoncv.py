"""Import GluonCV, even where torch 2 is installed."""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from typing import Any, Iterator


@contextlib.contextmanager
def torch_out_of_sight() -> Iterator[None]:
    """Hide torch from imports: GluonCV refuses to be imported next to torch 2, though it needs no torch here."""
    torch = sys.modules.get("torch")
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if torch is None:
            del sys.modules["torch"]
        else:
            sys.modules["torch"] = torch


def import_gluoncv(module: str) -> Any:
    """Return GluonCV's module with that name, such as gluoncv.loss."""
    with torch_out_of_sight():
        return import_module(module)
