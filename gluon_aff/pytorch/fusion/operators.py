"""The fusion operators' modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict

from torch import nn

from gluon_aff.operators import FusionOptions
from gluon_aff.pytorch.fusion.attention import (
    AFF,
    Concatenation,
    DirectAdd,
    GatedSum,
    NormLayer,
    SelectiveKernel,
    iAFF,
)

BLOCKS: Dict[str, Callable[..., nn.Module]] = {
    block.__name__: block for block in (DirectAdd, Concatenation, GatedSum, AFF, iAFF, SelectiveKernel)
}


@dataclass(frozen=True)
class Fusing(FusionOptions):
    """How a network fuses, in PyTorch.

    Attributes:
        norm_layer: makes a normalisation layer from a number of channels.
    """

    norm_layer: NormLayer = nn.BatchNorm2d

    def __call__(self, channels: int) -> nn.Module:
        """Make the module that fuses Y and X, (N, channels, H, W) each.

        Raises:
            InputError: for an unknown operator or context, or an `r` that leaves no channel.
        """
        block, arguments = self.block()
        if block == "DirectAdd":
            return DirectAdd()
        return BLOCKS[block](channels, norm_layer=self.norm_layer, **arguments)
