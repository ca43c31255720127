"""Packages that one thing needs and nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Dict, Tuple

from gluon_aff.errors import InputError, last_line

# What needs the package, and what pip installs for it
NEEDED_BY: Dict[str, Tuple[str, str]] = {
    "onnx": ("ONNX", "gluon_aff[onnx]"),
    "onnxruntime": ("ONNX", "gluon_aff[onnx]"),
    "safetensors.torch": ("a .safetensors file", "gluon_aff[safetensors]"),
    "tensorboardX": ("--tensorboard", "gluon_aff[tensorboard]"),
    "timm": ("register_with_timm", "timm"),
}


def import_extra(name: str) -> Any:
    """The module called `name`, one of `NEEDED_BY`.

    Raises:
        InputError: it is not installed, or does not work.
    """
    what, installed = NEEDED_BY[name]
    try:
        return import_module(name)
    except ImportError as error:
        reason = f"{what} needs the package {name.split('.')[0]} ({last_line(error)})"
        raise InputError(f"{reason}: pip install '{installed}'") from None
