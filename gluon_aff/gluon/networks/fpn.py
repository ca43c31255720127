"""Build a feature pyramid on a small ResNet for segmentation, which fuses levels over long skips (paper, Fig. 4c)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, List, Optional, Sequence

from mxnet.gluon import HybridBlock, nn

from gluon_aff.builders import stage_blocks
from gluon_aff.errors import InputError, unknown_name
from gluon_aff.gluon.fusion import Fusing
from gluon_aff.gluon.fusion.any_features import projection_to, resized_like
from gluon_aff.gluon.fusion.context import Norm, sequential
from gluon_aff.gluon.networks.layers import NormalisesInput, conv3x3, relu
from gluon_aff.gluon.networks.resnet import BasicBlock
from gluon_aff.models import FUSE_ORDERS, STEMS


class LevelFusion(HybridBlock):
    """Fuse two levels of a pyramid: project both, fuse, 3x3, BN, ReLU.

    Shapes: (N, high_channels, h, w) and (N, low_channels, H, W) -> (N, channels, H, W).

    The high level (Y) is resized and projected by a 1x1 convolution with bias, BN and ReLU. The low level (X) is
    projected likewise if its width is not `channels`.
    """

    def __init__(self, fusing: Fusing, channels: int, high_channels: int, low_channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        norm = fusing.norm
        with self.name_scope():
            self.feature_high = projection_to(channels, high_channels, norm)
            self.feature_low = None if low_channels == channels else projection_to(channels, low_channels, norm)
            self.attention = fusing(channels)
            # Input channels are inferred, since a concatenation has twice as many
            self.post = sequential(nn.Conv2D(channels, 3, 1, 1), norm(in_channels=channels), relu())

    def hybrid_forward(self, F: Any, high: Any, low: Any) -> Any:
        """Return the fused level, (N, channels, H, W)."""
        high = self.feature_high(resized_like(F, high, low))
        low = low if self.feature_low is None else self.feature_low(low)
        return self.post(self.attention(high, low))


class AFFFPN(NormalisesInput):
    """Segment images with a ResNet of basic blocks, whose levels are fused into one map, and an FCN head.

    Shapes: (N, 3, H, W) -> (N, classes, H, W) logits.

    Args:
        fusing: how levels are fused; its `skip` is 'long'.
        layers: number of blocks in each stage, for three or four stages.
        channels: width of the stem's first convolutions, followed by the width of each stage.
        classes: number of outputs for each pixel.
        decoder_width: channels of every fused map. If None, those of the lower level, as the original's authors chose
            for two classes.
        fuse_order: 'top-down' fuses from the smallest map to the largest. 'bottom-up' fuses the other maps into the
            largest one, one after another.
        stem: 'normal' reduces height and width to a quarter, 'tiny' keeps them.
        **kwargs: `prefix` and `params` of a Gluon block.

    Raises:
        InputError: the fusion, stem or order is unknown, or the widths do not match the stages.
    """

    def __init__(
        self,
        fusing: Fusing,
        layers: Sequence[int],
        channels: Sequence[int],
        classes: int = 1,
        *,
        decoder_width: Optional[int] = None,
        fuse_order: str = "top-down",
        stem: str = "normal",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for what, name, known in (("stem", stem, STEMS), ("fuse order", fuse_order, FUSE_ORDERS)):
            if name not in known:
                raise unknown_name(what, name, known)
        if len(channels) != len(layers) + 1 or len(layers) < 2:
            raise InputError(f"widths {list(channels)}: give one for the stem and each of two or more stages")
        self._top_down = fuse_order == "top-down"
        self._pairs = list(zip(range(1, len(layers)), range(2, len(layers) + 1)))
        if self._top_down:
            self._pairs.reverse()
        with self.name_scope():
            self.stem = sequential(fusing.norm(scale=False, center=False), *_stem(channels, stem, fusing.norm))
            for number, stage in enumerate(_encoder(fusing, layers, channels), 1):
                setattr(self, f"layer{number}", stage)
            fused = channels[-1 if self._top_down else 1]
            for low, high in self._pairs:
                width = decoder_width or channels[low if self._top_down else high]
                widths = (fused, channels[low]) if self._top_down else (channels[high], fused)
                setattr(self, f"fuse{low}{high}", LevelFusion(fusing, width, *widths))
                fused = width
            self.head = _head(classes, fused, fusing.norm)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the logits, (N, classes, H, W)."""
        maps = [x]
        for blocks in self.stages():
            for block in blocks:
                x = block(x)
            maps.append(x)
        fused = maps[-1 if self._top_down else 1]
        for low, high in self._pairs:
            fusion = getattr(self, f"fuse{low}{high}")
            fused = fusion(fused, maps[low]) if self._top_down else fusion(maps[high], fused)
        return resized_like(F, self.head(fused), maps[0])

    def stages(self) -> List[List[HybridBlock]]:
        """Return the layers that lead to the end of each stage of the encoder, starting after the previous stage."""
        stages = [[getattr(self, f"layer{number}")] for number in range(1, len(self._pairs) + 2)]
        return [[self.stem, *stages[0]], *stages[1:]]


def _stem(channels: Sequence[int], kind: str, norm: Norm) -> list:
    """Return 3x3 convolutions with BN and ReLU: a single one, or three of strides 2, 1, 1 and a max pool."""
    widths = [(channels[1], 1)] if kind == "tiny" else [(channels[0], 2), (channels[0], 1), (channels[1], 1)]
    layers: list = []
    in_channels = 3
    for width, stride in widths:
        layers += [conv3x3(width, in_channels, stride), norm(in_channels=width), relu()]
        in_channels = width
    return layers if kind == "tiny" else [*layers, nn.MaxPool2D(3, 2, 1)]


def _encoder(fusing: Fusing, layers: Sequence[int], channels: Sequence[int]) -> List[nn.HybridSequential]:
    count = len(layers)
    plain, strides = replace(fusing, operator="Add"), (1, *[2] * (count - 1))
    widths = (channels[1], *channels[1:])
    stages = stage_blocks(BasicBlock, [plain] * count, layers, widths, strides, [{"avg_down": False}] * count)
    return [sequential(*blocks) for blocks in stages]


def _head(classes: int, in_channels: int, norm: Norm) -> nn.HybridSequential:
    """Return GluonCV's FCN head: 3x3 to a quarter of the channels, BN, ReLU, dropout, 1x1 with bias."""
    width = in_channels // 4
    return sequential(
        conv3x3(width, in_channels),
        norm(in_channels=width),
        relu(),
        nn.Dropout(0.1),
        nn.Conv2D(classes, 1, in_channels=width),
    )
