"""Build the Inception-ResNet for 32 x 32 images, which fuses branches of the same layer (paper, Fig. 4a)."""

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
    """Fuse a 3x3 convolution (X) and one dilated by 2 (Y), which covers 5x5 pixels, each followed by BN.

    Shapes: (N, in_channels, H, W) -> (N, channels, H/stride, W/stride). Plain addition has no BN before it, as in the
    original's first release.
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
        """Return the fused branches, (N, channels, H/stride, W/stride)."""
        return self.attention(self.feature_spatial_5(x), self.feature_spatial_3(x))


class InceptionResNet(NormalisesInput, Classifier):
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
        **kwargs: `prefix` and `params` of a Gluon block.

    Raises:
        InputError: the fusion or the inner width is unknown.
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
