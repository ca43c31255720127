"""Feature pyramid on a small ResNet for segmentation: levels are fused over long skips (paper, Fig. 4c)."""

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
    """Two levels of a pyramid in one: project, fuse, 3x3, BN, ReLU.

    (N, high_channels, h, w) and (N, low_channels, H, W) -> (N, channels, H, W). The high level (Y) is resized and
    projected (1x1 with bias, BN, ReLU); the low level (X) too, if its width is not `channels`.
    """

    def __init__(self, fusing: Fusing, channels: int, high_channels: int, low_channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        norm = fusing.norm
        with self.name_scope():
            self.feature_high = projection_to(channels, high_channels, norm)
            self.feature_low = None if low_channels == channels else projection_to(channels, low_channels, norm)
            self.attention = fusing(channels)
            # Without `in_channels`: a concatenation has twice as many
            self.post = sequential(nn.Conv2D(channels, 3, 1, 1), norm(in_channels=channels), relu())

    def hybrid_forward(self, F: Any, high: Any, low: Any) -> Any:
        """Fuse."""
        high = self.feature_high(resized_like(F, high, low))
        low = low if self.feature_low is None else self.feature_low(low)
        return self.post(self.attention(high, low))


class AFFFPN(NormalisesInput):
    """ResNet of basic blocks, its levels fused to one map, FCN head.

    Shapes: (N, 3, H, W) -> (N, classes, H, W) logits.

    Args:
        fusing: how levels are fused, its `skip` 'long'.
        layers: blocks in each stage, three or four stages.
        channels: widths of the stem's first convolutions and of each stage.
        classes: outputs for each pixel.
        decoder_width: channels of every fused map; those of the lower level if None, as the original's authors chose
            for two classes.
        fuse_order: 'top-down', from the smallest map to the largest; or 'bottom-up', the others into the largest
            map, one after another.
        stem: 'normal' reduces the image to a quarter, 'tiny' not at all.
        **kwargs: `prefix` and `params` of a Gluon block.

    Raises:
        InputError: for an unknown fusion, stem or order, or widths that do not match the stages.
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
            raise InputError(f"widths {list(channels)} are not one more than the stages {list(layers)}, two or more")
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
        """Return the logits."""
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
        """Layers up to the end of each of the encoder's stages, from the stage before on."""
        stages = [[getattr(self, f"layer{number}")] for number in range(1, len(self._pairs) + 2)]
        return [[self.stem, *stages[0]], *stages[1:]]


def _stem(channels: Sequence[int], kind: str, norm: Norm) -> list:
    """3x3 convolutions with BN and ReLU: three, strides 2, 1, 1, and a max pool; or one."""
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
    """GluonCV's FCN head: 3x3 to a quarter, BN, ReLU, dropout, 1x1 with bias."""
    width = in_channels // 4
    return sequential(
        conv3x3(width, in_channels),
        norm(in_channels=width),
        relu(),
        nn.Dropout(0.1),
        nn.Conv2D(classes, 1, in_channels=width),
    )
