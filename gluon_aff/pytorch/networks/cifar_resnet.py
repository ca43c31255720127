"""Build the pre-activation ResNet for 32 x 32 images with attentional shortcuts (the original's `--model resnet`)."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence

from torch import Tensor, nn

from gluon_aff.builders import stage_blocks, stage_fusions
from gluon_aff.pytorch.fusion.attention import NormLayer
from gluon_aff.pytorch.fusion.operators import Fusing
from gluon_aff.pytorch.networks.layers import (
    Classifier,
    ImageNorm,
    average_pool,
    cifar_stem,
    conv1x1,
    conv3x3,
    initialise,
    relu,
)

Convolution = Callable[..., nn.Module]  # takes input channels, output channels and, unless it is 1, the stride


class PreActivationBlock(nn.Module):
    """Compute BN, ReLU, 3x3, BN, ReLU, 3x3, and fuse the result with the block's input. No ReLU follows.

    Shapes: (N, in_channels, H, W) -> (N, channels, H/stride, W/stride).

    If width or size changes, the shortcut is a 1x1 convolution without BN, which follows an average pool or, without
    `avg_down`, strides. `conv` makes the 3x3 convolutions or their replacements; the first of them has `inner_channels`
    outputs.
    """

    expansion = 1

    def __init__(
        self,
        fusing: Fusing,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        inner_channels: int,
        avg_down: bool,
        conv: Convolution = conv3x3,
    ) -> None:
        super().__init__()
        self.resfwd = nn.Sequential(
            fusing.norm_layer(in_channels),
            relu(),
            conv(in_channels, inner_channels, stride),
            fusing.norm_layer(inner_channels),
            relu(),
            conv(inner_channels, channels),
        )
        if channels == in_channels and stride == 1:
            self.downsample: nn.Module = nn.Identity()
        elif avg_down:
            self.downsample = nn.Sequential(average_pool(stride), conv1x1(in_channels, channels))
        else:
            self.downsample = nn.Sequential(conv1x1(in_channels, channels, stride))
        self.attention = fusing(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, (N, channels, H/stride, W/stride)."""
        return self.attention(self.resfwd(x), self.downsample(x))


class PreActivationNet(Classifier):
    """Classify images with stages of pre-activation blocks.

    The layers are BN, a stem, the stages, BN, ReLU, global average pooling and a dense layer.

    Shapes: (N, 3, H, W) -> (N, classes) logits.
    """

    def __init__(
        self, stem: Sequence[nn.Module], stages: Sequence[nn.Module], width: int, norm_layer: NormLayer, classes: int
    ) -> None:
        super().__init__()
        self.num_features, self.num_classes, self.num_stages = width, classes, len(stages)
        self.features = nn.Sequential(ImageNorm(), *stem, *stages, norm_layer(width), relu())
        self.output = nn.Linear(width, classes)
        initialise(self)

    def stages(self) -> List[List[nn.Module]]:
        """Return the modules that lead to the end of each stage, starting after the previous stage."""
        modules = list(self.features)
        before = len(modules) - 2 - self.num_stages
        return [modules[: before + 1], *([each] for each in modules[before + 1 : -2])]

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last maps after BN and ReLU, (N, num_features, h, w)."""
        return self.features[-2:](super().forward_features(x))


class CIFARAFFResNet(PreActivationNet):
    """Classify images with three stages of pre-activation blocks: the CIFAR ResNet.

    The layers are BN, a stem, the stages, BN, ReLU, global average pooling and a dense layer.

    Shapes: (N, 3, H, W) -> (N, classes) logits. The depth, as the original counts layers, is 6 * blocks + 2.

    Args:
        fusing: how blocks are fused with their shortcuts. The published networks have r = 4.
        start_layer: number, from 1, of the first stage with this fusion; earlier stages add.
        layers: number of blocks in each stage.
        channels: widths of the stem and of each stage.
        classes: number of outputs.
        deep_stem: whether the stem has three 3x3 convolutions instead of one.
        avg_down: whether shortcuts shrink by an average pool before the 1x1 convolution instead of a stride.

    Raises:
        InputError: the fusion is unknown.
    """

    def __init__(
        self,
        fusing: Fusing,
        start_layer: int,
        layers: Sequence[int],
        channels: Sequence[int],
        classes: int = 100,
        *,
        deep_stem: bool = False,
        avg_down: bool = True,
    ) -> None:
        norm_layer = fusing.norm_layer
        fusings = stage_fusions(fusing, len(layers), start_layer)
        super().__init__(
            cifar_stem(channels[0], deep_stem, norm_layer),
            pre_activation_stages(fusings, layers, channels, avg_down=avg_down),
            channels[len(layers)],
            norm_layer,
            classes,
        )


def pre_activation_stages(
    fusings: Sequence[Fusing],
    layers: Sequence[int],
    channels: Sequence[int],
    *,
    legacy_inner: bool = False,
    **block: Any,
) -> List[nn.Module]:
    """Return the stages, with `layers` blocks each: from channels[0] to channels[1] and so on.

    All stages but the first halve height and width. With `legacy_inner`, the inner width of each block is that of the
    previous stage.
    """
    inner = channels if legacy_inner else channels[1:]
    own = [{**block, "inner_channels": width} for width in inner]
    strides = (1, *[2] * (len(layers) - 1))
    blocks = stage_blocks(PreActivationBlock, fusings, layers, channels, strides, own)
    return [nn.Sequential(*each) for each in blocks]
