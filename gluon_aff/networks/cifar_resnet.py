"""Pre-activation ResNet for 32 x 32 images with attentional shortcuts (the original's `--model resnet`)."""

from __future__ import annotations

from typing import Any, List, Optional

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import HybridBlock, nn

from gluon_aff.fusion import fusion_class
from gluon_aff.fusion.context import GlobalAveragePool, Norm, sequential
from gluon_aff.networks.layers import (
    Classifier,
    average_pool,
    cifar_stem,
    conv1x1,
    conv3x3,
    norm_factory,
    relu,
    stage_fusion,
)


class PreActivationBlock(HybridBlock):
    """BN, ReLU, 3x3, BN, ReLU, 3x3, fused with the block's input; no ReLU after it.

    (N, in_channels, H, W) -> (N, channels, H/stride, W/stride). Where width or size changes, the shortcut is an
    average pool and a 1x1 convolution without BN.
    """

    def __init__(
        self, fusion: str, channels: int, in_channels: int, stride: int, r: int, norm: Norm, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.resfwd = sequential(
                norm(in_channels=in_channels),
                relu(),
                conv3x3(channels, in_channels, stride),
                norm(in_channels=channels),
                relu(),
                conv3x3(channels, channels),
            )
            self.downsample = None
            if channels != in_channels or stride != 1:
                self.downsample = sequential(average_pool(stride), conv1x1(channels, in_channels))
            self.attention = fusion_class(fusion)(channels, r=r, norm=norm)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Run the block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.attention(self.resfwd(x), shortcut)


class CIFARAFFResNet(Classifier):
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_factory(norm_layer, norm_kwargs)
        with self.name_scope():
            self.features = sequential(
                norm(scale=False, center=False),
                *cifar_stem(channels[0], deep_stem, norm),
                *(
                    _stage(
                        stage_fusion(askc_type, stage, start_layer),
                        blocks,
                        channels[stage],
                        channels[stage - 1],
                        1 if stage == 1 else 2,
                        r,
                        norm,
                    )
                    for stage, blocks in enumerate(layers, 1)
                ),
                norm(in_channels=channels[len(layers)]),
                relu(),
                GlobalAveragePool(),
                nn.Flatten(),
            )
            self.output = nn.Dense(classes, in_units=channels[len(layers)])

    def forward(self, x: Any, *args: Any) -> Any:
        """Return the logits."""
        return super().forward(_asking_for_gradient(x), *args)


def _asking_for_gradient(x: Any) -> Any:
    """`x`, which gets a gradient where it would have none while training on the CPU.

    MXNet's CPU BatchNorm updates its running statistics in the backward pass, which is left out where no input needs
    a gradient (apache/mxnet#18673): those of the first BatchNorm, without scale and centre, would stay at 0 and 1.
    """
    if not (isinstance(x, mx.nd.NDArray) and autograd.is_recording() and autograd.is_training()):
        return x
    if x.context.device_type != "cpu" or _is_recorded(x):
        return x
    x = x.detach()
    x.attach_grad()
    return x


def _is_recorded(x: mx.nd.NDArray) -> bool:
    try:
        autograd.get_symbol(x)
    except mx.MXNetError:
        return False
    return True


def _stage(
    fusion: str, blocks: int, channels: int, in_channels: int, stride: int, r: int, norm: Norm
) -> nn.HybridSequential:
    return sequential(
        PreActivationBlock(fusion, channels, in_channels, stride, r, norm),
        *(PreActivationBlock(fusion, channels, channels, 1, r, norm) for _ in range(blocks - 1)),
    )
