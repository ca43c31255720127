"""GluonCV, imported where torch 2 is installed, too."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def import_gluoncv(module: str) -> Any:
    """The module of GluonCV with that name, such as gluoncv.loss.

    GluonCV refuses to be imported beside torch 2, which nothing here has it use: for that moment torch is out of its
    sight.
    """
    torch = sys.modules.get("torch")
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        return import_module(module)
    finally:
        if torch is None:
            del sys.modules["torch"]
        else:
            sys.modules["torch"] = torch
