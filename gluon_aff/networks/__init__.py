"""Networks of the paper as Gluon HybridBlocks; `zoo` has them by name."""

from gluon_aff.networks.cifar_resnet import CIFARAFFResNet
from gluon_aff.networks.resnet import AFFResNet
from gluon_aff.networks.resnext import AFFResNeXt, CIFARAFFResNeXt
from gluon_aff.networks.zoo import MODELS, ModelRecord, get_model, list_models, model_record

__all__ = [
    "MODELS",
    "AFFResNeXt",
    "AFFResNet",
    "CIFARAFFResNeXt",
    "CIFARAFFResNet",
    "ModelRecord",
    "get_model",
    "list_models",
    "model_record",
]
