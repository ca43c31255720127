"""ResNeXt with attentional shortcuts, for CIFAR and ImageNet (the original's `--model resnext`)."""

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
    """1x1, BN, ReLU, grouped 3x3, BN, ReLU, 1x1, BN, [SE], fused with the shortcut, ReLU.

    (N, in_channels, H, W) -> (N, 4 * width, H/stride, W/stride).
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
        zero_init_last: bool = True,
        use_se: bool = False,
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
        """Run the block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.body(x)
        if self.se is not None:
            out = F.broadcast_mul(out, self.se(global_mean(F, out)))
        return self.relu(self.attention(out, shortcut))


class CIFARAFFResNeXt(Classifier):
    """Stem, three stages of ResNeXt blocks, global average pool, dense.

    Shapes: (N, 3, H, W) -> (N, classes) logits. Depth by the original's count: 9 * blocks + 2.

    Args:
        fusing: how shortcuts and blocks are fused; the published networks have r = 16.
        start_layer: first stage, 1-based, that fuses so; stages before it add.
        layers: blocks in each stage.
        width: of the stem and the first stage; each stage doubles it.
        classes: outputs.
        cardinality: groups of the 3x3 convolutions.
        bottleneck_width: their width per group at stage width 64.
        deep_stem: three 3x3 convolutions instead of one.
        use_se: squeeze-and-excitation before the fusion.
        zero_init_last: start each block's last gamma at zero, as all published ResNeXts did.
        **kwargs: `prefix` and `params` of a Gluon block.

    Raises:
        InputError: for an unknown fusion.
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
    """Stem, four stages of ResNeXt blocks, global average pool, dense.

    Shapes: (N, 3, H, W) -> (N, classes) logits.

    Args:
        fusing: how shortcuts and blocks are fused; the published networks have r = 16.
        start_layer: first stage, 1-based, that fuses so; stages before it add (published: 3).
        layers: blocks in each of the four stages (50 layers: [3, 4, 6, 3]).
        classes: outputs.
        cardinality: groups of the 3x3 convolutions.
        bottleneck_width: their width per group at stage width 64.
        deep_stem: three 3x3 convolutions instead of one 7x7.
        stem_width: width of the first two of them; the third has twice that.
        avg_down: average pool before the 1x1 convolution of a shortcut, instead of a stride; never in stage 1.
        use_se: squeeze-and-excitation before the fusion.
        zero_init_last: start each block's last gamma at zero, as all published ResNeXts did.
        **kwargs: `prefix` and `params` of a Gluon block.

    Raises:
        InputError: for an unknown fusion.
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
    """Gate in (0, 1) per channel; the original reduces to a quarter of the width before expansion."""
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
    """Stages of doubling width, from the given one on."""
    widths = (in_channels, *(width * 2**stage for stage in range(len(layers))))
    strides = (1, *[2] * (len(layers) - 1))
    return [sequential(*blocks) for blocks in stage_blocks(ResNeXtBlock, fusings, layers, widths, strides, arguments)]
