"""Build the fusion operators' Gluon blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, Optional

from mxnet.gluon import HybridBlock, nn

from gluon_aff.gluon.fusion.attention import AFF, Concatenation, DirectAdd, GatedSum, SelectiveKernel, iAFF
from gluon_aff.gluon.fusion.context import Norm
from gluon_aff.operators import FusionOptions
from gluon_aff.registry import implementation

BLOCKS: Dict[str, Callable[..., HybridBlock]] = {
    block.__name__: block for block in (DirectAdd, Concatenation, GatedSum, AFF, iAFF, SelectiveKernel)
}


@dataclass(frozen=True)
class Fusing(FusionOptions):
    """Describe how a network fuses features, in Gluon.

    Attributes:
        norm_layer: makes a normalisation layer from `in_channels`, such as BatchNorm or SyncBatchNorm.
        norm_kwargs: further arguments of `norm_layer`.
    """

    norm_layer: Norm = nn.BatchNorm
    norm_kwargs: Optional[Dict[str, Any]] = None

    @property
    def norm(self) -> Norm:
        """Return `norm_layer` with its further arguments bound: it makes a normalisation layer from `in_channels`."""
        return partial(self.norm_layer, **(self.norm_kwargs or {}))

    def __call__(self, channels: int) -> HybridBlock:
        """Return the block that fuses Y and X, (N, channels, H, W) each.

        Raises:
            InputError: the operator or context is unknown, or `r` leaves no channel.
        """
        name, arguments = self.block()
        if name in BLOCKS:
            return BLOCKS[name](channels, norm=self.norm, **arguments)
        block = implementation(name, "mxnet")
        return block(channels, **self.own_arguments(block, norm=self.norm))
