"""Inception-ResNet for 32 x 32 images: each 3x3 convolution is two branches, fused (paper, Fig. 4a, "same layer")."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Sequence

from mxnet.gluon import HybridBlock, nn

from gluon_aff.errors import unknown_name
from gluon_aff.gluon.fusion import Fusing
from gluon_aff.gluon.fusion.context import sequential
from gluon_aff.gluon.networks.cifar_resnet import pre_activation_end, pre_activation_stages
from gluon_aff.gluon.networks.layers import Classifier, NormalisesInput
from gluon_aff.models import INNER_WIDTHS
from gluon_aff.operators import fusion_operator


class InceptionConv(HybridBlock):
    """A 3x3 convolution and one dilated by 2, which sees 5x5 pixels, each with BN, fused as X and Y.

    (N, in_channels, H, W) -> (N, channels, H/stride, W/stride). Plain addition has no BN before it, as in the first
    release.
    """

    def __init__(self, fusing: Fusing, channels: int, in_channels: int, stride: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.feature_spatial_3, self.feature_spatial_5 = (
                sequential(
                    nn.Conv2D(channels, 3, stride, dilation, dilation, in_channels=in_channels),
                    *([] if fusion_operator(fusing.operator).name == "Add" else [fusing.norm(in_channels=channels)]),
                )
                for dilation in (1, 2)
            )
            self.attention = fusing(channels)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Convolve twice and fuse."""
        return self.attention(self.feature_spatial_5(x), self.feature_spatial_3(x))


class InceptionResNet(NormalisesInput, Classifier):
    """The CIFAR ResNet with an `InceptionConv` for each 3x3 convolution, the stem's too; plain additive shortcuts.

    Shapes: (N, 3, H, W) -> (N, classes) logits. 1 + 6 * blocks fusions (paper, Table 2: Inception-ResNet-20-b).

    Args:
        fusing: how branches are fused, its `skip` 'same layer'.
        layers: blocks in each stage.
        channels: widths of the stem and of each stage.
        classes: outputs.
        inner: 'full', or 'legacy': a block's first convolution keeps the width of the stage before, as in the first
            release and so, most likely, in the networks of the paper's numbers.
        **kwargs: `prefix` and `params` of a Gluon block.

    Raises:
        InputError: for an unknown fusion or inner width.
    """

    def __init__(
        self,
        fusing: Fusing,
        layers: Sequence[int],
        channels: Sequence[int],
        classes: int = 100,
        inner: str = "full",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if inner not in INNER_WIDTHS:
            raise unknown_name("inner width", inner, INNER_WIDTHS)
        plain = replace(fusing, operator="Add")

        def conv(width: int, in_channels: int, stride: int = 1) -> InceptionConv:
            return InceptionConv(fusing, width, in_channels, stride)

        with self.name_scope():
            self.features = sequential(
                fusing.norm(scale=False, center=False),
                conv(channels[0], 3),
                *pre_activation_stages(
                    [plain] * len(layers), layers, channels, conv=conv, avg_down=False, legacy_inner=inner == "legacy"
                ),
                *pre_activation_end(channels[len(layers)], fusing.norm),
            )
            self.output = nn.Dense(classes, in_units=channels[len(layers)])
