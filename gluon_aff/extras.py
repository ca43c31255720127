"""Packages that ONNX needs and nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from gluon_aff.errors import InputError, last_line


def import_extra(name: str) -> Any:
    """The module called `name`, onnx or onnxruntime.

    Raises:
        InputError: it is not installed, or does not work.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"ONNX needs the package {name} ({last_line(error)}): pip install 'gluon_aff[onnx]'") from None
