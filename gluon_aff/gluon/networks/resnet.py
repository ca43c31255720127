"""Build the ImageNet ResNet with attentional shortcuts (the original's `--model resnet`)."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Type, Union

from mxnet.gluon import HybridBlock, nn

from gluon_aff.builders import stage_blocks, stage_fusions
from gluon_aff.errors import unknown_name
from gluon_aff.gluon.fusion import Fusing
from gluon_aff.gluon.fusion.context import GlobalAveragePool, sequential
from gluon_aff.gluon.networks.layers import (
    WithHead,
    conv1x1,
    conv3x3,
    imagenet_stem,
    initial_gamma,
    projection,
    relu,
)

WIDTHS = (64, 128, 256, 512)


class Bottleneck(HybridBlock):
    """Compute 1x1, BN, ReLU, 3x3, BN, ReLU, 1x1, BN, and fuse the result with the shortcut; a ReLU follows.

    Shapes: (N, in_channels, H, W) -> (N, 4 * planes, H/stride, W/stride).

    The 3x3 convolution has the stride and the dilation. The dilation is halved if the shortcut is projected.
    """

    expansion = 4

    def __init__(
        self,
        fusing: Fusing,
        in_channels: int,
        planes: int,
        *,
        stride: int = 1,
        dilation: int,
        avg_down: bool,
        zero_init_last: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        channels, norm = planes * self.expansion, fusing.norm
        projects = stride != 1 or in_channels != channels
        with self.name_scope():
            self.conv1 = conv1x1(planes, in_channels)
            self.bn1 = norm(in_channels=planes)
            self.relu1 = relu()
            self.conv2 = conv3x3(planes, planes, stride, max(dilation // 2, 1) if projects else dilation)
            self.bn2 = norm(in_channels=planes)
            self.relu2 = relu()
            self.conv3 = conv1x1(channels, planes)
            self.bn3 = norm(in_channels=channels, gamma_initializer=initial_gamma(zero_init_last))
            self.downsample = projection(channels, in_channels, stride, norm, avg_down) if projects else None
            self.attention = fusing(channels)
            self.relu3 = relu()

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the block's output, (N, 4 * planes, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu3(self.attention(out, shortcut))


class BasicBlock(HybridBlock):
    """Compute 3x3, BN, ReLU, 3x3, BN, and fuse the result with the shortcut; a ReLU follows (ResNet-18 and -34).

    Shapes: (N, in_channels, H, W) -> (N, planes, H/stride, W/stride).

    The first convolution has the stride, and both have the dilation. The dilation is halved if the shortcut is
    projected.
    """

    expansion = 1

    def __init__(
        self,
        fusing: Fusing,
        in_channels: int,
        planes: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        avg_down: bool,
        zero_init_last: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm, projects = fusing.norm, stride != 1 or in_channels != planes
        dilation = max(dilation // 2, 1) if projects else dilation
        with self.name_scope():
            self.conv1 = conv3x3(planes, in_channels, stride, dilation)
            self.bn1 = norm(in_channels=planes)
            self.relu1 = relu()
            self.conv2 = conv3x3(planes, planes, 1, dilation)
            self.bn2 = norm(in_channels=planes, gamma_initializer=initial_gamma(zero_init_last))
            self.downsample = projection(planes, in_channels, stride, norm, avg_down) if projects else None
            self.attention = fusing(planes)
            self.relu2 = relu()

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the block's output, (N, planes, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(self.attention(out, shortcut))


BlockClass = Type[Union[Bottleneck, BasicBlock]]
BLOCKS: Dict[str, BlockClass] = {"bottleneck": Bottleneck, "basic": BasicBlock}


class AFFResNet(WithHead):
    """Classify images with a stem, four stages of blocks, global average pooling and a dense layer.

    Shapes: (N, 3, H, W) -> (N, classes) logits.

    Args:
        fusing: how blocks are fused with their shortcuts. The published networks have r = 16.
        start_layer: number, from 1, of the first stage with this fusion; earlier stages add. The published networks
            have 3.
        layers: number of blocks in each of the four stages, such as [3, 4, 6, 3] for 50 layers.
        classes: number of outputs.
        block: 'bottleneck', or 'basic' as in ResNet-18 and -34.
        dilated: whether stages 3 and 4 keep their size and dilate by 2 and 4 instead of striding.
        zero_init_last: whether the last gamma of each block starts at zero (the original's `--last-gamma`).
        deep_stem: whether the stem has three 3x3 convolutions instead of one 7x7.
        stem_width: width of the first two of the three convolutions; the third one is twice as wide.
        avg_down: whether shortcuts shrink by an average pool before the 1x1 convolution instead of a stride.
        drop_rate: dropout probability before the dense layer (the original's `--final-drop`).
        **kwargs: `prefix` and `params` of a Gluon block.

    Raises:
        InputError: the fusion or the block is unknown.
    """

    head_name = "fc"

    def __init__(
        self,
        fusing: Fusing,
        start_layer: int,
        layers: Sequence[int],
        classes: int = 1000,
        *,
        block: str = "bottleneck",
        dilated: bool = False,
        zero_init_last: bool = False,
        deep_stem: bool = True,
        stem_width: int = 32,
        avg_down: bool = True,
        drop_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if block not in BLOCKS:
            raise unknown_name("block", block, BLOCKS)
        stem_channels = 2 * stem_width if deep_stem else 64
        fusings = stage_fusions(fusing, 4, start_layer)
        strides, dilations = ((1, 2, 1, 1), (1, 1, 2, 4)) if dilated else ((1, 2, 2, 2), (1, 1, 1, 1))
        own = [{"avg_down": avg_down, "zero_init_last": zero_init_last, "dilation": each} for each in dilations]
        with self.name_scope():
            stem = imagenet_stem(stem_width, stem_channels, deep_stem, fusing.norm)
            self.conv1 = sequential(*stem) if deep_stem else stem[0]
            self.bn1 = fusing.norm(in_channels=stem_channels)
            self.relu = relu()
            self.maxpool = nn.MaxPool2D(3, 2, 1)
            self.layer1, self.layer2, self.layer3, self.layer4 = (
                sequential(*blocks)
                for blocks in stage_blocks(BLOCKS[block], fusings, layers, (stem_channels, *WIDTHS), strides, own)
            )
            self.avgpool = GlobalAveragePool()
            self.flat = nn.Flatten()
            self.drop = nn.Dropout(drop_rate) if drop_rate else None
            self.fc = nn.Dense(classes, in_units=WIDTHS[-1] * BLOCKS[block].expansion)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the logits, (N, classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.flat(self.avgpool(x))
        return self.fc(x if self.drop is None else self.drop(x))

    def stages(self) -> List[List[HybridBlock]]:
        """Return the layers that lead to the end of each stage, starting after the previous stage."""
        stem = [self.conv1, self.bn1, self.relu, self.maxpool]
        return [[*stem, self.layer1], [self.layer2], [self.layer3], [self.layer4]]
