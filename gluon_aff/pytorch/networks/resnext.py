"""Build ResNeXt with attentional shortcuts, for CIFAR and ImageNet (the original's `--model resnext`)."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

from torch import Tensor, nn

from gluon_aff.builders import stage_blocks, stage_fusions
from gluon_aff.pytorch.fusion.operators import Fusing
from gluon_aff.pytorch.networks.layers import (
    Classifier,
    cifar_stem,
    conv1x1,
    conv3x3,
    imagenet_stem,
    initialise,
    projection,
    relu,
    zero_gamma,
)


class SqueezeExcitation(nn.Sequential):
    """Multiply each channel by a gate in (0, 1).

    As in the original, the gate's layers reduce to a quarter of the width before expansion.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, width // 4, 1), relu(), nn.Conv2d(width // 4, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` times the gates, which are computed from its spatial mean: (N, channels, H, W)."""
        return x * super().forward(x.mean(dim=(2, 3), keepdim=True))


class ResNeXtBlock(nn.Module):
    """Compute 1x1, BN, ReLU, grouped 3x3, BN, ReLU, 1x1, BN and optional SE, fuse with the shortcut, and apply ReLU.

    Shapes: (N, in_channels, H, W) -> (N, 4 * width, H/stride, W/stride).
    """

    expansion = 4

    def __init__(
        self,
        fusing: Fusing,
        in_channels: int,
        width: int,
        *,
        cardinality: int,
        bottleneck_width: int,
        zero_init_last: bool,
        use_se: bool,
        stride: int = 1,
        avg_down: bool = True,
    ) -> None:
        super().__init__()
        channels, norm_layer = width * self.expansion, fusing.norm_layer
        grouped = cardinality * (width * bottleneck_width // 64)
        self.body = nn.Sequential(
            conv1x1(in_channels, grouped),
            norm_layer(grouped),
            relu(),
            conv3x3(grouped, grouped, stride, groups=cardinality),
            norm_layer(grouped),
            relu(),
            conv1x1(grouped, channels),
            zero_gamma(norm_layer(channels)) if zero_init_last else norm_layer(channels),
        )
        self.se = SqueezeExcitation(width, channels) if use_se else nn.Identity()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.downsample = projection(in_channels, channels, stride, norm_layer, avg_down)
        self.attention = fusing(channels)
        self.relu = relu()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, (N, 4 * width, H/stride, W/stride)."""
        return self.relu(self.attention(self.se(self.body(x)), self.downsample(x)))


class ResNeXt(Classifier):
    """Classify images with a stem, stages of ResNeXt blocks, global average pooling and a dense layer.

    Shapes: (N, 3, H, W) -> (N, classes) logits.
    """

    def __init__(self, stem: Sequence[nn.Module], stages: Sequence[nn.Module], width: int, classes: int) -> None:
        super().__init__()
        self.num_features, self.num_classes, self.num_stages = width, classes, len(stages)
        self.features = nn.Sequential(*stem, *stages)
        self.output = nn.Linear(width, classes)
        initialise(self)

    def stages(self) -> List[List[nn.Module]]:
        """Return the modules that lead to the end of each stage, starting after the previous stage."""
        modules = list(self.features)
        before = len(modules) - self.num_stages
        return [modules[: before + 1], *([each] for each in modules[before + 1 :])]


class CIFARAFFResNeXt(ResNeXt):
    """Classify images with a stem, three stages of ResNeXt blocks, global average pooling and a dense layer.

    Shapes: (N, 3, H, W) -> (N, classes) logits. The depth, as the original counts layers, is 9 * blocks + 2.

    Args:
        fusing: how blocks are fused with their shortcuts. The published networks have r = 16.
        start_layer: number, from 1, of the first stage with this fusion; earlier stages add.
        layers: number of blocks in each stage.
        width: width of the stem and the first stage; each further stage doubles it.
        classes: number of outputs.
        cardinality: number of groups of the 3x3 convolutions.
        bottleneck_width: channels of each group at stage width 64.
        deep_stem: whether the stem has three 3x3 convolutions instead of one.
        use_se: whether squeeze-and-excitation precedes the fusion.
        zero_init_last: whether the last gamma of each block starts at zero, as in all published ResNeXts.

    Raises:
        InputError: the fusion is unknown.
    """

    def __init__(
        self,
        fusing: Fusing,
        start_layer: int,
        layers: Sequence[int],
        width: int,
        classes: int = 100,
        *,
        cardinality: int = 32,
        bottleneck_width: int = 4,
        deep_stem: bool = False,
        use_se: bool = False,
        zero_init_last: bool = True,
    ) -> None:
        stem = [*cifar_stem(width, deep_stem, fusing.norm_layer), fusing.norm_layer(width), relu()]
        fusings = stage_fusions(fusing, len(layers), start_layer)
        own = {
            "cardinality": cardinality,
            "bottleneck_width": bottleneck_width,
            "zero_init_last": zero_init_last,
            "use_se": use_se,
        }
        stages = _stages(fusings, layers, width, width, [own] * len(layers))
        super().__init__(stem, stages, _out_channels(width, layers), classes)


class AFFResNeXt(ResNeXt):
    """Classify images with a stem, four stages of ResNeXt blocks, global average pooling and a dense layer.

    Shapes: (N, 3, H, W) -> (N, classes) logits.

    Args:
        fusing: how blocks are fused with their shortcuts. The published networks have r = 16.
        start_layer: number, from 1, of the first stage with this fusion; earlier stages add. The published networks
            have 3.
        layers: number of blocks in each of the four stages, such as [3, 4, 6, 3] for 50 layers.
        classes: number of outputs.
        cardinality: number of groups of the 3x3 convolutions.
        bottleneck_width: channels of each group at stage width 64.
        deep_stem: whether the stem has three 3x3 convolutions instead of one 7x7.
        stem_width: width of the first two of the three convolutions; the third one is twice as wide.
        avg_down: whether shortcuts shrink by an average pool before the 1x1 convolution instead of a stride. Stage 1
            has no average pool.
        use_se: whether squeeze-and-excitation precedes the fusion.
        zero_init_last: whether the last gamma of each block starts at zero, as in all published ResNeXts.

    Raises:
        InputError: the fusion is unknown.
    """

    def __init__(
        self,
        fusing: Fusing,
        start_layer: int,
        layers: Sequence[int],
        classes: int = 1000,
        *,
        cardinality: int = 32,
        bottleneck_width: int = 4,
        deep_stem: bool = True,
        stem_width: int = 64,
        avg_down: bool = True,
        use_se: bool = False,
        zero_init_last: bool = True,
    ) -> None:
        stem_channels = 2 * stem_width if deep_stem else 64
        stem = imagenet_stem(stem_width, stem_channels, deep_stem, fusing.norm_layer)
        fusings = stage_fusions(fusing, len(layers), start_layer)
        own = {
            "cardinality": cardinality,
            "bottleneck_width": bottleneck_width,
            "zero_init_last": zero_init_last,
            "use_se": use_se,
        }
        arguments = [{**own, "avg_down": avg_down and stage > 0} for stage in range(len(layers))]
        stages = _stages(fusings, layers, 64, stem_channels, arguments)
        super().__init__(
            [*stem, fusing.norm_layer(stem_channels), relu(), nn.MaxPool2d(3, 2, 1)],
            stages,
            _out_channels(64, layers),
            classes,
        )


def _out_channels(width: int, layers: Sequence[int]) -> int:
    return width * 2 ** (len(layers) - 1) * ResNeXtBlock.expansion


def _stages(
    fusings: Sequence[Fusing],
    layers: Sequence[int],
    width: int,
    in_channels: int,
    arguments: Sequence[Mapping[str, Any]],
) -> List[nn.Module]:
    """Return stages of which the first has the given width, and each further one twice the width before."""
    widths = (in_channels, *(width * 2**stage for stage in range(len(layers))))
    strides = (1, *[2] * (len(layers) - 1))
    blocks = stage_blocks(ResNeXtBlock, fusings, layers, widths, strides, arguments)
    return [nn.Sequential(*each) for each in blocks]
