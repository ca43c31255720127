"""Build the Inception-ResNet for 32 x 32 images, which fuses branches of the same layer (paper, Fig. 4a)."""

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
    """Fuse a 3x3 convolution (X) and one dilated by 2 (Y), which covers 5x5 pixels, each followed by BN.

    Shapes: (N, in_channels, H, W) -> (N, channels, H/stride, W/stride). Plain addition has no BN before it, as in the
    original's first release.
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
        """Return the fused branches, (N, channels, H/stride, W/stride)."""
        return self.attention(self.feature_spatial_5(x), self.feature_spatial_3(x))


class InceptionResNet(PreActivationNet):
    """Classify images with a CIFAR ResNet whose 3x3 convolutions, even in the stem, are `InceptionConv` blocks.

    The shortcuts are plain additions, so a network has 1 + 6 * blocks fusions (paper, Table 2: Inception-ResNet-20-b).

    Shapes: (N, 3, H, W) -> (N, classes) logits.

    Args:
        fusing: how branches are fused; its `skip` is 'same layer'.
        layers: number of blocks in each stage.
        channels: widths of the stem and of each stage.
        classes: number of outputs.
        inner: width of a block's first convolution: 'full' for that of its stage, or 'legacy' for that of the previous
            stage. The original's first release has the latter, and so most likely do the networks behind the paper's
            numbers.

    Raises:
        InputError: the fusion or the inner width is unknown.
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
