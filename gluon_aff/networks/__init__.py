"""Networks of the paper as Gluon HybridBlocks; `zoo` has them by name."""

from gluon_aff.networks.cifar_resnet import CIFARAFFResNet
from gluon_aff.networks.features import FeatureMaps
from gluon_aff.networks.fpn import AFFFPN
from gluon_aff.networks.inception import InceptionResNet
from gluon_aff.networks.resnet import AFFResNet
from gluon_aff.networks.resnext import AFFResNeXt, CIFARAFFResNeXt
from gluon_aff.networks.zoo import MODELS, ModelRecord, get_model, list_models, model_record

__all__ = [
    "AFFFPN",
    "MODELS",
    "AFFResNeXt",
    "AFFResNet",
    "CIFARAFFResNeXt",
    "CIFARAFFResNet",
    "FeatureMaps",
    "InceptionResNet",
    "ModelRecord",
    "get_model",
    "list_models",
    "model_record",
]
