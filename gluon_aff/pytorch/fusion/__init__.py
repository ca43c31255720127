"""Offer the feature fusion modules for PyTorch, under the paper's names."""

from gluon_aff.pytorch.fusion.any_features import FeatureFusion
from gluon_aff.pytorch.fusion.attention import AFF, MSCAM, Concatenation, DirectAdd, GatedSum, SelectiveKernel, iAFF
from gluon_aff.pytorch.fusion.integration import AFI
from gluon_aff.pytorch.fusion.operators import Fusing

__all__ = [
    "AFF",
    "AFI",
    "MSCAM",
    "Concatenation",
    "DirectAdd",
    "FeatureFusion",
    "Fusing",
    "GatedSum",
    "SelectiveKernel",
    "iAFF",
]
