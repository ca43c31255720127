"""The networks in PyTorch: modules as PyTorch users write them, with the parameters of the `.params` files.

>>> from gluon_aff.pytorch import get_model
>>> net = get_model("aff_resnet50", pretrained=True)
"""

from gluon_aff._platform import check_torch

check_torch()

from gluon_aff.models import list_models  # noqa: E402
from gluon_aff.pytorch.fusion import AFF, MSCAM, FeatureFusion, iAFF  # noqa: E402
from gluon_aff.pytorch.networks import get_model  # noqa: E402
from gluon_aff.pytorch.parameters import load_params, save_params  # noqa: E402
from gluon_aff.pytorch.preprocessing import preprocessing  # noqa: E402
from gluon_aff.pytorch.timm_models import register_with_timm  # noqa: E402

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
