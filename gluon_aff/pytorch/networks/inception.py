"""Inception-ResNet for 32 x 32 images: each 3x3 convolution is two branches, fused (paper, Fig. 4a, "same layer")."""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

from torch import Tensor, nn

from gluon_aff.errors import unknown_name
from gluon_aff.models import INNER_WIDTHS
from gluon_aff.operators import fusion_operator
from gluon_aff.pytorch.fusion.operators import Fusing
from gluon_aff.pytorch.networks.cifar_resnet import PreActivationNet, pre_activation_stages


class InceptionConv(nn.Module):
    """A 3x3 convolution and one dilated by 2, which sees 5x5 pixels, each with BN, fused as X and Y.

    (N, in_channels, H, W) -> (N, channels, H/stride, W/stride). Plain addition has no BN before it, as in the first
    release.
    """

    def __init__(self, fusing: Fusing, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        plain = fusion_operator(fusing.operator).name == "Add"
        self.feature_spatial_3, self.feature_spatial_5 = (
            nn.Sequential(
                nn.Conv2d(in_channels, channels, 3, stride, dilation, dilation),
                *([] if plain else [fusing.norm_layer(channels)]),
            )
            for dilation in (1, 2)
        )
        self.attention = fusing(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the fused branches."""
        return self.attention(self.feature_spatial_5(x), self.feature_spatial_3(x))


class InceptionResNet(PreActivationNet):
    """The CIFAR ResNet with an `InceptionConv` for each 3x3 convolution, the stem's too; plain additive shortcuts.

    Shapes: (N, 3, H, W) -> (N, classes) logits. 1 + 6 * blocks fusions (paper, Table 2: Inception-ResNet-20-b).

    Args:
        fusing: how branches are fused, its `skip` 'same layer'.
        layers: blocks in each stage.
        channels: widths of the stem and of each stage.
        classes: outputs.
        inner: 'full', or 'legacy': a block's first convolution keeps the width of the stage before, as in the first
            release and so, most likely, in the networks of the paper's numbers.

    Raises:
        InputError: for an unknown fusion or inner width.
    """

    def __init__(
        self, fusing: Fusing, layers: Sequence[int], channels: Sequence[int], classes: int = 100, inner: str = "full"
    ) -> None:
        if inner not in INNER_WIDTHS:
            raise unknown_name("inner width", inner, INNER_WIDTHS)
        plain = replace(fusing, operator="Add")

        def conv(in_channels: int, width: int, stride: int = 1) -> InceptionConv:
            return InceptionConv(fusing, in_channels, width, stride)

        super().__init__(
            [conv(3, channels[0])],
            pre_activation_stages(
                [plain] * len(layers), layers, channels, conv=conv, avg_down=False, legacy_inner=inner == "legacy"
            ),
            channels[len(layers)],
            fusing.norm_layer,
            classes,
        )
