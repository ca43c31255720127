"""Build the fusion operators' PyTorch modules."""

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
from gluon_aff.registry import implementation

BLOCKS: Dict[str, Callable[..., nn.Module]] = {
    block.__name__: block for block in (DirectAdd, Concatenation, GatedSum, AFF, iAFF, SelectiveKernel)
}


@dataclass(frozen=True)
class Fusing(FusionOptions):
    """Describe how a network fuses features, in PyTorch.

    Attributes:
        norm_layer: makes a normalisation layer from a number of channels.
    """

    norm_layer: NormLayer = nn.BatchNorm2d

    def __call__(self, channels: int) -> nn.Module:
        """Return the module that fuses Y and X, (N, channels, H, W) each.

        Raises:
            InputError: the operator or context is unknown, or `r` leaves no channel.
        """
        name, arguments = self.block()
        if name == "DirectAdd":
            return DirectAdd()
        if name in BLOCKS:
            return BLOCKS[name](channels, norm_layer=self.norm_layer, **arguments)
        block = implementation(name, "torch")
        return block(channels, **self.own_arguments(block, norm_layer=self.norm_layer))
