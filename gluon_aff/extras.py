"""Import optional packages, each of which only one feature needs."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Dict, Tuple

from gluon_aff.errors import InputError, last_line

# For each package: the feature that needs it, and what to install with pip
NEEDED_BY: Dict[str, Tuple[str, str]] = {
    "onnx": ("ONNX", "gluon_aff[onnx]"),
    "onnxruntime": ("ONNX", "gluon_aff[onnx]"),
    "safetensors.torch": ("a .safetensors file", "gluon_aff[safetensors]"),
    "tensorboardX": ("--tensorboard", "gluon_aff[tensorboard]"),
    "timm": ("register_with_timm", "timm"),
}


def import_extra(name: str) -> Any:
    """Import and return the module called `name`, one of `NEEDED_BY`.

    Raises:
        InputError: the package is not installed or does not work. The message says what to install.
    """
    what, installed = NEEDED_BY[name]
    try:
        return import_module(name)
    except ImportError as error:
        reason = f"{what} needs the package {name.split('.')[0]} ({last_line(error)})"
        raise InputError(f"{reason}: pip install '{installed}'") from None
