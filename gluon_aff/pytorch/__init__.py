"""Offer the networks as ordinary PyTorch modules that load the parameters of `.params` files.

Examples:
    >>> from gluon_aff.pytorch import get_model
    >>> net = get_model("aff_resnet50", pretrained=True)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gluon_aff._platform import check_torch

check_torch()

from gluon_aff.models import list_models  # noqa: E402
from gluon_aff.pytorch.fusion import AFF, MSCAM, FeatureFusion, iAFF  # noqa: E402
from gluon_aff.pytorch.networks import get_model  # noqa: E402
from gluon_aff.pytorch.parameters import load_params, save_params  # noqa: E402

if TYPE_CHECKING:
    from gluon_aff.pytorch.preprocessing import preprocessing
    from gluon_aff.pytorch.timm_models import register_with_timm

__all__ = [
    "AFF",
    "MSCAM",
    "FeatureFusion",
    "get_model",
    "iAFF",
    "list_models",
    "load_params",
    "preprocessing",
    "register_with_timm",
    "save_params",
]

_MODULES = {
    "preprocessing": "gluon_aff.pytorch.preprocessing",
    "register_with_timm": "gluon_aff.pytorch.timm_models",
}


def __getattr__(name: str) -> Any:
    """Import what needs Pillow on first use, and return it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value
