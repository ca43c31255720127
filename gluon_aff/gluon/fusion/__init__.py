"""Offer the feature fusion blocks, under the paper's names and the original's `--askc-type` flags."""

from gluon_aff.gluon.fusion.any_features import FeatureFusion
from gluon_aff.gluon.fusion.attention import AFF, MSCAM, Concatenation, DirectAdd, GatedSum, SelectiveKernel, iAFF
from gluon_aff.gluon.fusion.operators import Fusing

ASKCFuse = AFF
ResGlobLocaforGlobLocaCha = iAFF

__all__ = [
    "AFF",
    "MSCAM",
    "ASKCFuse",
    "Concatenation",
    "DirectAdd",
    "FeatureFusion",
    "Fusing",
    "GatedSum",
    "ResGlobLocaforGlobLocaCha",
    "SelectiveKernel",
    "iAFF",
]
