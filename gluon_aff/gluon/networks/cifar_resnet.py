"""Pre-activation ResNet for 32 x 32 images with attentional shortcuts (the original's `--model resnet`)."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence

from mxnet.gluon import HybridBlock, nn

from gluon_aff.gluon.fusion import Fusing
from gluon_aff.gluon.fusion.context import GlobalAveragePool, Norm, sequential
from gluon_aff.gluon.networks.layers import (
    Classifier,
    NormalisesInput,
    average_pool,
    cifar_stem,
    conv1x1,
    conv3x3,
    norm_factory,
    relu,
    stage_fusions,
)

Convolution = Callable[..., HybridBlock]


class PreActivationBlock(HybridBlock):
    """BN, ReLU, 3x3, BN, ReLU, 3x3, fused with the block's input; no ReLU after it.

    (N, in_channels, H, W) -> (N, channels, H/stride, W/stride). Where width or size changes, the shortcut is a 1x1
    convolution without BN, behind an average pool or, without `avg_down`, strided. `conv` makes a 3x3 convolution, or
    what takes its place; the first of them has `inner_channels` outputs, `channels` if None.
    """

    def __init__(
        self,
        fusing: Fusing,
        channels: int,
        in_channels: int,
        stride: int,
        *,
        conv: Convolution = conv3x3,
        inner_channels: Optional[int] = None,
        avg_down: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        inner_channels = inner_channels or channels
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
        askc_type: fusion, by the original's flag (`ASKCFuse`) or the paper's name (`AFF`).
        start_layer: first stage, 1-based, with that fusion; stages before it add.
        layers: blocks in each stage.
        channels: widths of the stem and of each stage.
        classes: outputs.
        deep_stem: three 3x3 convolutions instead of one.
        norm_layer: normalisation layer, such as BatchNorm or SyncBatchNorm.
        norm_kwargs: its further arguments.
        r: channel reduction ratio of the fusions (keyword only; the original has 4 fixed).
        scale: factor on the output of AFF, iAFF and SKNet; the original's if None (keyword only).
        context: 'bottleneck' or 'conv' branches, see `fusion.Fusing` (keyword only).
        avg_down: average pool before the 1x1 convolution of a shortcut, instead of a stride (keyword only).
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
        classes: int,
        deep_stem: bool,
        norm_layer: Any = nn.BatchNorm,
        norm_kwargs: Optional[dict] = None,
        *,
        r: int = 4,
        scale: Optional[float] = None,
        context: Optional[str] = None,
        avg_down: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_factory(norm_layer, norm_kwargs)
        fusings = stage_fusions(Fusing(askc_type, r, scale, context, norm=norm), len(layers), start_layer)
        with self.name_scope():
            self.features = sequential(
                norm(scale=False, center=False),
                *cifar_stem(channels[0], deep_stem, norm),
                *pre_activation_stages(fusings, layers, channels, avg_down=avg_down),
                *pre_activation_end(channels[len(layers)], norm),
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
    stages = []
    for stage, (fusing, blocks) in enumerate(zip(fusings, layers), 1):
        before, width = channels[stage - 1 : stage + 1]
        block["inner_channels"] = before if legacy_inner else width
        first = PreActivationBlock(fusing, width, before, 1 if stage == 1 else 2, **block)
        rest = (PreActivationBlock(fusing, width, width, 1, **block) for _ in range(blocks - 1))
        stages.append(sequential(first, *rest))
    return stages


def pre_activation_end(channels: int, norm: Norm) -> list:
    """BN, ReLU, global average pool, as a vector."""
    return [norm(in_channels=channels), relu(), GlobalAveragePool(), nn.Flatten()]
