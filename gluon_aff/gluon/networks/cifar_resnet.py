"""Build the pre-activation ResNet for 32 x 32 images with attentional shortcuts (the original's `--model resnet`)."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence

from mxnet.gluon import HybridBlock, nn

from gluon_aff.builders import stage_blocks, stage_fusions
from gluon_aff.gluon.fusion import Fusing
from gluon_aff.gluon.fusion.context import GlobalAveragePool, Norm, sequential
from gluon_aff.gluon.networks.layers import (
    Classifier,
    NormalisesInput,
    average_pool,
    cifar_stem,
    conv1x1,
    conv3x3,
    relu,
)

Convolution = Callable[..., HybridBlock]


class PreActivationBlock(HybridBlock):
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
        conv: Convolution = conv3x3,
        avg_down: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.resfwd = sequential(
                fusing.norm(in_channels=in_channels),
                relu(),
                conv(inner_channels, in_channels, stride),
                fusing.norm(in_channels=inner_channels),
                relu(),
                conv(channels, inner_channels),
            )
            self.downsample = None
            if channels != in_channels or stride != 1:
                self.downsample = sequential(*_shortcut(channels, in_channels, stride, avg_down))
            self.attention = fusing(channels)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the block's output, (N, channels, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.attention(self.resfwd(x), shortcut)


def _shortcut(channels: int, in_channels: int, stride: int, avg_down: bool) -> list:
    if avg_down:
        return [average_pool(stride), conv1x1(channels, in_channels)]
    return [conv1x1(channels, in_channels, stride)]


class CIFARAFFResNet(NormalisesInput, Classifier):
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
        **kwargs: `prefix` and `params` of a Gluon block.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        fusings = stage_fusions(fusing, len(layers), start_layer)
        with self.name_scope():
            self.features = sequential(
                fusing.norm(scale=False, center=False),
                *cifar_stem(channels[0], deep_stem, fusing.norm),
                *pre_activation_stages(fusings, layers, channels, avg_down=avg_down),
                *pre_activation_end(channels[len(layers)], fusing.norm),
            )
            self.output = nn.Dense(classes, in_units=channels[len(layers)])


def pre_activation_stages(
    fusings: Sequence[Fusing],
    layers: Sequence[int],
    channels: Sequence[int],
    *,
    legacy_inner: bool = False,
    **block: Any,
) -> List[nn.HybridSequential]:
    """Return the stages, with `layers` blocks each: from channels[0] to channels[1] and so on.

    All stages but the first halve height and width. With `legacy_inner`, the inner width of each block is that of the
    previous stage.
    """
    inner = channels if legacy_inner else channels[1:]
    own = [{**block, "inner_channels": width} for width in inner]
    strides = (1, *[2] * (len(layers) - 1))
    stages = stage_blocks(PreActivationBlock, fusings, layers, channels, strides, own)
    return [sequential(*blocks) for blocks in stages]


def pre_activation_end(channels: int, norm: Norm) -> list:
    """Return BN, ReLU, global average pooling and flattening to (N, channels)."""
    return [norm(in_channels=channels), relu(), GlobalAveragePool(), nn.Flatten()]
