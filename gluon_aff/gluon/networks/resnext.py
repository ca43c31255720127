"""ResNeXt with attentional shortcuts, for CIFAR and ImageNet (the original's `--model resnext`)."""

from __future__ import annotations

from typing import Any, List, Optional

from mxnet.gluon import HybridBlock, nn

from gluon_aff.gluon.fusion import Fusing
from gluon_aff.gluon.fusion.context import GlobalAveragePool, global_mean, sequential
from gluon_aff.gluon.networks.layers import (
    Classifier,
    cifar_stem,
    conv1x1,
    conv3x3,
    imagenet_stem,
    initial_gamma,
    norm_factory,
    projection,
    relu,
    stage_fusions,
)

EXPANSION = 4
FUSION_REDUCTION = 16  # the original's r, on CIFAR too


class ResNeXtBlock(HybridBlock):
    """1x1, BN, ReLU, grouped 3x3, BN, ReLU, 1x1, BN, [SE], fused with the shortcut, ReLU.

    (N, in_channels, H, W) -> (N, 4 * width, H/stride, W/stride).
    """

    def __init__(
        self,
        fusing: Fusing,
        width: int,
        in_channels: int,
        *,
        cardinality: int,
        bottleneck_width: int,
        stride: int = 1,
        project: bool = False,
        avg_down: bool = True,
        zero_last_gamma: bool = True,
        use_se: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        channels = width * EXPANSION
        grouped = cardinality * (width * bottleneck_width // 64)
        norm = fusing.norm
        with self.name_scope():
            self.body = sequential(
                conv1x1(grouped, in_channels),
                norm(in_channels=grouped),
                relu(),
                conv3x3(grouped, grouped, stride, cardinality=cardinality),
                norm(in_channels=grouped),
                relu(),
                conv1x1(channels, grouped),
                norm(in_channels=channels, gamma_initializer=initial_gamma(zero_last_gamma)),
            )
            self.se = _squeeze_excitation(width, channels) if use_se else None
            self.downsample = projection(channels, in_channels, stride, norm, avg_down) if project else None
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
        askc_type: fusion, by the original's flag or the paper's name.
        start_layer: first stage, 1-based, with that fusion; stages before it add.
        layers: blocks in each stage.
        channels: its first entry is the width of stem and first stage; each stage doubles it.
        cardinality: groups of the 3x3 convolutions.
        bottleneck_width: their width per group at stage width 64.
        classes: outputs.
        deep_stem: three 3x3 convolutions instead of one.
        use_se: squeeze-and-excitation before the fusion.
        norm_layer: normalisation layer, such as BatchNorm or SyncBatchNorm.
        norm_kwargs: its further arguments.
        r: channel reduction ratio of the fusions (keyword only; the original has 16 fixed).
        scale: factor on the output of AFF, iAFF and SKNet; the original's if None (keyword only).
        context: 'bottleneck' or 'conv' branches, see `fusion.Fusing` (keyword only).
        zero_last_gamma: start each block's last gamma at zero, as all published ResNeXts did (keyword only).
        **kwargs: `prefix` and `params` of a Gluon block.

    Raises:
        InputError: for an unknown fusion.
    """

    def __init__(
        self,
        askc_type: str,
        start_layer: int,
        layers: List[int],
        channels: List[int],
        cardinality: int,
        bottleneck_width: int,
        classes: int = 10,
        deep_stem: bool = False,
        use_se: bool = False,
        norm_layer: Any = nn.BatchNorm,
        norm_kwargs: Optional[dict] = None,
        *,
        r: int = FUSION_REDUCTION,
        scale: Optional[float] = None,
        context: Optional[str] = None,
        zero_last_gamma: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_factory(norm_layer, norm_kwargs)
        fusings = stage_fusions(Fusing(askc_type, r, scale, context, norm=norm), len(layers), start_layer)
        width = channels[0]
        block = {
            "cardinality": cardinality,
            "bottleneck_width": bottleneck_width,
            "zero_last_gamma": zero_last_gamma,
            "use_se": use_se,
        }
        with self.name_scope():
            self.features = sequential(
                *cifar_stem(width, deep_stem, norm),
                norm(in_channels=width),
                relu(),
                *_stages(fusings, layers, width, width, block),
                GlobalAveragePool(),
            )
            self.output = nn.Dense(classes, in_units=_out_channels(width, layers))


class AFFResNeXt(Classifier):
    """Stem, four stages of ResNeXt blocks, global average pool, dense.

    Shapes: (N, 3, H, W) -> (N, classes) logits.

    Args:
        askc_type: fusion, by the original's flag or the paper's name.
        start_layer: first stage, 1-based, with that fusion; stages before it add (published: 3).
        layers: blocks in each of the four stages (50 layers: [3, 4, 6, 3]).
        cardinality: groups of the 3x3 convolutions.
        bottleneck_width: their width per group at stage width 64.
        classes: outputs.
        last_gamma: inverted, as in the original: False starts each block's last gamma at zero, True at one.
        use_se: squeeze-and-excitation before the fusion.
        deep_stem: three 3x3 convolutions instead of one 7x7.
        avg_down: average pool before the 1x1 convolution of a shortcut, instead of a stride; never in stage 1.
        stem_width: width of the first two convolutions of a deep stem; the third has twice that.
        norm_layer: normalisation layer, such as BatchNorm or SyncBatchNorm.
        norm_kwargs: its further arguments.
        r: channel reduction ratio of the fusions (keyword only; the original has 16 fixed).
        scale: factor on the output of AFF, iAFF and SKNet; the original's if None (keyword only).
        context: 'bottleneck' or 'conv' branches, see `fusion.Fusing` (keyword only).
        zero_last_gamma: overrules `last_gamma`, in the plain sense (keyword only).
        **kwargs: `prefix` and `params` of a Gluon block.

    Raises:
        InputError: for an unknown fusion.
    """

    def __init__(
        self,
        askc_type: str,
        start_layer: int,
        layers: List[int],
        cardinality: int,
        bottleneck_width: int,
        classes: int = 1000,
        last_gamma: bool = False,
        use_se: bool = False,
        deep_stem: bool = True,
        avg_down: bool = True,
        stem_width: int = 64,
        norm_layer: Any = nn.BatchNorm,
        norm_kwargs: Optional[dict] = None,
        *,
        r: int = FUSION_REDUCTION,
        scale: Optional[float] = None,
        context: Optional[str] = None,
        zero_last_gamma: Optional[bool] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_factory(norm_layer, norm_kwargs)
        fusings = stage_fusions(Fusing(askc_type, r, scale, context, norm=norm), len(layers), start_layer)
        stem_channels = 2 * stem_width if deep_stem else 64
        block = {
            "cardinality": cardinality,
            "bottleneck_width": bottleneck_width,
            "zero_last_gamma": not last_gamma if zero_last_gamma is None else zero_last_gamma,
            "use_se": use_se,
        }
        with self.name_scope():
            self.features = sequential(
                *imagenet_stem(stem_width, stem_channels, deep_stem, norm),
                norm(in_channels=stem_channels),
                relu(),
                nn.MaxPool2D(3, 2, 1),
                *_stages(fusings, layers, 64, stem_channels, block, (False, avg_down)),
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


def _out_channels(width: int, layers: List[int]) -> int:
    return width * 2 ** (len(layers) - 1) * EXPANSION


def _stages(
    fusings: List[Fusing],
    layers: List[int],
    width: int,
    in_channels: int,
    block: dict,
    avg_down: tuple = (True, True),
) -> List[nn.HybridSequential]:
    """Stages of doubling width; `avg_down` says for the first stage and for the others how shortcuts shrink."""
    stages = []
    for stage, (fusing, blocks) in enumerate(zip(fusings, layers), 1):
        stride = 1 if stage == 1 else 2
        shrink = avg_down[0] if stage == 1 else avg_down[1]
        first = ResNeXtBlock(fusing, width, in_channels, stride=stride, project=True, avg_down=shrink, **block)
        in_channels = width * EXPANSION
        rest = (ResNeXtBlock(fusing, width, in_channels, **block) for _ in range(blocks - 1))
        stages.append(sequential(first, *rest))
        width *= 2
    return stages
