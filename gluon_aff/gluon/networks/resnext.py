"""Build ResNeXt with attentional shortcuts, for CIFAR and ImageNet (the original's `--model resnext`)."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

from mxnet.gluon import HybridBlock, nn

from gluon_aff.builders import stage_blocks, stage_fusions
from gluon_aff.gluon.fusion import Fusing
from gluon_aff.gluon.fusion.context import GlobalAveragePool, global_mean, sequential
from gluon_aff.gluon.networks.layers import (
    Classifier,
    cifar_stem,
    conv1x1,
    conv3x3,
    imagenet_stem,
    initial_gamma,
    projection,
    relu,
)


class ResNeXtBlock(HybridBlock):
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
        stride: int = 1,
        avg_down: bool = True,
        zero_init_last: bool,
        use_se: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        channels, norm = width * self.expansion, fusing.norm
        grouped = cardinality * (width * bottleneck_width // 64)
        projects = stride != 1 or in_channels != channels
        with self.name_scope():
            self.body = sequential(
                conv1x1(grouped, in_channels),
                norm(in_channels=grouped),
                relu(),
                conv3x3(grouped, grouped, stride, cardinality=cardinality),
                norm(in_channels=grouped),
                relu(),
                conv1x1(channels, grouped),
                norm(in_channels=channels, gamma_initializer=initial_gamma(zero_init_last)),
            )
            self.se = _squeeze_excitation(width, channels) if use_se else None
            self.downsample = projection(channels, in_channels, stride, norm, avg_down) if projects else None
            self.attention = fusing(channels)
            self.relu = relu()

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the block's output, (N, 4 * width, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.body(x)
        if self.se is not None:
            out = F.broadcast_mul(out, self.se(global_mean(F, out)))
        return self.relu(self.attention(out, shortcut))


class CIFARAFFResNeXt(Classifier):
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
        **kwargs: `prefix` and `params` of a Gluon block.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        fusings = stage_fusions(fusing, len(layers), start_layer)
        own = {
            "cardinality": cardinality,
            "bottleneck_width": bottleneck_width,
            "use_se": use_se,
            "zero_init_last": zero_init_last,
        }
        with self.name_scope():
            self.features = sequential(
                *cifar_stem(width, deep_stem, fusing.norm),
                fusing.norm(in_channels=width),
                relu(),
                *_stages(fusings, layers, width, width, [own] * len(layers)),
                GlobalAveragePool(),
            )
            self.output = nn.Dense(classes, in_units=_out_channels(width, layers))


class AFFResNeXt(Classifier):
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
        **kwargs: `prefix` and `params` of a Gluon block.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        fusings = stage_fusions(fusing, len(layers), start_layer)
        stem_channels = 2 * stem_width if deep_stem else 64
        own = {
            "cardinality": cardinality,
            "bottleneck_width": bottleneck_width,
            "use_se": use_se,
            "zero_init_last": zero_init_last,
        }
        stages = [{**own, "avg_down": avg_down and stage > 0} for stage in range(len(layers))]
        with self.name_scope():
            self.features = sequential(
                *imagenet_stem(stem_width, stem_channels, deep_stem, fusing.norm),
                fusing.norm(in_channels=stem_channels),
                relu(),
                nn.MaxPool2D(3, 2, 1),
                *_stages(fusings, layers, 64, stem_channels, stages),
                GlobalAveragePool(),
            )
            self.output = nn.Dense(classes, in_units=_out_channels(64, layers))


def _squeeze_excitation(width: int, channels: int) -> nn.HybridSequential:
    """Return layers that compute a gate in (0, 1) for each channel.

    As in the original, they reduce to a quarter of the width before expansion.
    """
    return sequential(
        nn.Conv2D(width // 4, 1, in_channels=channels),
        relu(),
        nn.Conv2D(channels, 1, in_channels=width // 4),
        nn.Activation("sigmoid"),
    )


def _out_channels(width: int, layers: Sequence[int]) -> int:
    return width * 2 ** (len(layers) - 1) * ResNeXtBlock.expansion


def _stages(
    fusings: Sequence[Fusing],
    layers: Sequence[int],
    width: int,
    in_channels: int,
    arguments: Sequence[Mapping[str, Any]],
) -> List[nn.HybridSequential]:
    """Return stages of which the first has the given width, and each further one twice the width before."""
    widths = (in_channels, *(width * 2**stage for stage in range(len(layers))))
    strides = (1, *[2] * (len(layers) - 1))
    return [sequential(*blocks) for blocks in stage_blocks(ResNeXtBlock, fusings, layers, widths, strides, arguments)]
