"""Parameters on disk: the `.params` format, finding and verifying published files, loading, saving.

What needs MXNet is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gluon_aff.weights.params import load_parameters, save_parameters

__all__ = ["load_parameters", "save_parameters"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("gluon_aff.weights.params"), name)
