"""The fusion operators' Gluon blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict

from mxnet.gluon import HybridBlock, nn

from gluon_aff.gluon.fusion.attention import AFF, Concatenation, DirectAdd, GatedSum, SelectiveKernel, iAFF
from gluon_aff.gluon.fusion.context import Norm
from gluon_aff.operators import FusionOptions

BLOCKS: Dict[str, Callable[..., HybridBlock]] = {
    block.__name__: block for block in (DirectAdd, Concatenation, GatedSum, AFF, iAFF, SelectiveKernel)
}


@dataclass(frozen=True)
class Fusing(FusionOptions):
    """How a network fuses, in Gluon.

    Attributes:
        norm: makes a normalisation layer from `in_channels`.
    """

    norm: Norm = nn.BatchNorm

    def __call__(self, channels: int) -> HybridBlock:
        """Make the block that fuses Y and X, (N, channels, H, W) each.

        Raises:
            InputError: for an unknown operator or context, or an `r` that leaves no channel.
        """
        block, arguments = self.block()
        return BLOCKS[block](channels, norm=self.norm, **arguments)
