"""Offer the papers' networks as PyTorch modules; `get_model` builds them by name."""

from gluon_aff.pytorch.networks.cifar_resnet import CIFARAFFResNet
from gluon_aff.pytorch.networks.features import FeatureMaps
from gluon_aff.pytorch.networks.fpn import AFFFPN
from gluon_aff.pytorch.networks.inception import InceptionResNet
from gluon_aff.pytorch.networks.resnet import AFFResNet
from gluon_aff.pytorch.networks.resnext import AFFResNeXt, CIFARAFFResNeXt
from gluon_aff.pytorch.networks.zoo import get_model

__all__ = [
    "AFFFPN",
    "AFFResNeXt",
    "AFFResNet",
    "CIFARAFFResNeXt",
    "CIFARAFFResNet",
    "FeatureMaps",
    "InceptionResNet",
    "get_model",
]
