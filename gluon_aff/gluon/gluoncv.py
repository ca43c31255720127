"""GluonCV, imported where torch 2 is installed, too."""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from typing import Any, Iterator


@contextlib.contextmanager
def torch_out_of_sight() -> Iterator[None]:
    """Let imports find no torch: GluonCV refuses to be imported beside torch 2, which nothing here has it use."""
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
    """The module of GluonCV with that name, such as gluoncv.loss."""
    with torch_out_of_sight():
        return import_module(module)
