"""Offer the papers' networks as Gluon HybridBlocks; `get_model` builds them by name."""

from gluon_aff.gluon.networks.cifar_resnet import CIFARAFFResNet
from gluon_aff.gluon.networks.features import FeatureMaps
from gluon_aff.gluon.networks.fpn import AFFFPN
from gluon_aff.gluon.networks.inception import InceptionResNet
from gluon_aff.gluon.networks.resnet import AFFResNet
from gluon_aff.gluon.networks.resnext import AFFResNeXt, CIFARAFFResNeXt
from gluon_aff.gluon.networks.zoo import get_model

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
