"""Pre-activation ResNet for 32 x 32 images with attentional shortcuts (the original's `--model resnet`)."""

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
    """BN, ReLU, 3x3, BN, ReLU, 3x3, fused with the block's input; no ReLU after it.

    (N, in_channels, H, W) -> (N, channels, H/stride, W/stride). Where width or size changes, the shortcut is a 1x1
    convolution without BN, behind an average pool or, without `avg_down`, strided. `conv` makes a 3x3 convolution, or
    what takes its place; the first of them has `inner_channels` outputs.
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
        avg_down: bool = True,
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
        """Run the block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.attention(self.resfwd(x), shortcut)


def _shortcut(channels: int, in_channels: int, stride: int, avg_down: bool) -> list:
    if avg_down:
        return [average_pool(stride), conv1x1(channels, in_channels)]
    return [conv1x1(channels, in_channels, stride)]


class CIFARAFFResNet(NormalisesInput, Classifier):
    """BN, stem, three stages of pre-activation blocks, BN, ReLU, global average pool, dense.

    Shapes: (N, 3, H, W) -> (N, classes) logits. Depth by the original's count: 6 * blocks + 2.

    Args:
        fusing: how shortcuts and blocks are fused; the published networks have r = 4.
        start_layer: first stage, 1-based, that fuses so; stages before it add.
        layers: blocks in each stage.
        channels: widths of the stem and of each stage.
        classes: outputs.
        deep_stem: three 3x3 convolutions instead of one.
        avg_down: average pool before the 1x1 convolution of a shortcut, instead of a stride.
        **kwargs: `prefix` and `params` of a Gluon block.

    Raises:
        InputError: for an unknown fusion.
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
    """Stages of so many blocks (`layers`), from channels[0] to channels[1] and so on; all but the first stride by 2.

    With `legacy_inner`, inner widths are those of the stage before.
    """
    inner = channels if legacy_inner else channels[1:]
    own = [{**block, "inner_channels": width} for width in inner]
    strides = (1, *[2] * (len(layers) - 1))
    stages = stage_blocks(PreActivationBlock, fusings, layers, channels, strides, own)
    return [sequential(*blocks) for blocks in stages]


def pre_activation_end(channels: int, norm: Norm) -> list:
    """BN, ReLU, global average pool, as a vector."""
    return [norm(in_channels=channels), relu(), GlobalAveragePool(), nn.Flatten()]
