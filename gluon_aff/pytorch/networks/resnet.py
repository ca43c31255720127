"""Build the ImageNet ResNet with attentional shortcuts (the original's `--model resnet`)."""

from __future__ import annotations

from typing import Dict, List, Sequence, Type, Union

from torch import Tensor, nn

from gluon_aff.builders import stage_blocks, stage_fusions
from gluon_aff.errors import unknown_name
from gluon_aff.pytorch.fusion.operators import Fusing
from gluon_aff.pytorch.networks.layers import (
    Classifier,
    conv1x1,
    conv3x3,
    imagenet_stem,
    initialise,
    projection,
    relu,
    zero_gamma,
)

WIDTHS = (64, 128, 256, 512)


class Bottleneck(nn.Module):
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
        dilation: int,
        avg_down: bool,
        zero_init_last: bool,
        stride: int = 1,
    ) -> None:
        super().__init__()
        channels, norm_layer = planes * self.expansion, fusing.norm_layer
        projects = stride != 1 or in_channels != channels
        self.conv1 = conv1x1(in_channels, planes)
        self.bn1 = norm_layer(planes)
        self.relu1 = relu()
        self.conv2 = conv3x3(planes, planes, stride, max(dilation // 2, 1) if projects else dilation)
        self.bn2 = norm_layer(planes)
        self.relu2 = relu()
        self.conv3 = conv1x1(planes, channels)
        self.bn3 = zero_gamma(norm_layer(channels)) if zero_init_last else norm_layer(channels)
        self.downsample: nn.Module = nn.Identity()
        if projects:
            self.downsample = projection(in_channels, channels, stride, norm_layer, avg_down)
        self.attention = fusing(channels)
        self.relu3 = relu()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, (N, 4 * planes, H/stride, W/stride)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu3(self.attention(out, self.downsample(x)))


class BasicBlock(nn.Module):
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
        avg_down: bool,
        stride: int = 1,
        dilation: int = 1,
        zero_init_last: bool = False,
    ) -> None:
        super().__init__()
        norm_layer, projects = fusing.norm_layer, stride != 1 or in_channels != planes
        dilation = max(dilation // 2, 1) if projects else dilation
        self.conv1 = conv3x3(in_channels, planes, stride, dilation)
        self.bn1 = norm_layer(planes)
        self.relu1 = relu()
        self.conv2 = conv3x3(planes, planes, 1, dilation)
        self.bn2 = zero_gamma(norm_layer(planes)) if zero_init_last else norm_layer(planes)
        self.downsample: nn.Module = nn.Identity()
        if projects:
            self.downsample = projection(in_channels, planes, stride, norm_layer, avg_down)
        self.attention = fusing(planes)
        self.relu2 = relu()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, (N, planes, H/stride, W/stride)."""
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(self.attention(out, self.downsample(x)))


BlockClass = Type[Union[Bottleneck, BasicBlock]]
BLOCKS: Dict[str, BlockClass] = {"bottleneck": Bottleneck, "basic": BasicBlock}


class AFFResNet(Classifier):
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
    ) -> None:
        super().__init__()
        if block not in BLOCKS:
            raise unknown_name("block", block, BLOCKS)
        stem_channels = 2 * stem_width if deep_stem else 64
        stem = imagenet_stem(stem_width, stem_channels, deep_stem, fusing.norm_layer)
        strides, dilations = ((1, 2, 1, 1), (1, 1, 2, 4)) if dilated else ((1, 2, 2, 2), (1, 1, 1, 1))
        self.conv1 = nn.Sequential(*stem) if deep_stem else stem[0]
        self.bn1 = fusing.norm_layer(stem_channels)
        self.relu = relu()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        own = [{"avg_down": avg_down, "zero_init_last": zero_init_last, "dilation": each} for each in dilations]
        fusings = stage_fusions(fusing, 4, start_layer)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(*blocks)
            for blocks in stage_blocks(BLOCKS[block], fusings, layers, (stem_channels, *WIDTHS), strides, own)
        )
        self.drop = nn.Dropout(drop_rate)
        self.num_features, self.num_classes = WIDTHS[-1] * BLOCKS[block].expansion, classes
        self.fc = nn.Linear(self.num_features, classes)
        initialise(self)

    def stages(self) -> List[List[nn.Module]]:
        """Return the modules that lead to the end of each stage, starting after the previous stage."""
        stem = [self.conv1, self.bn1, self.relu, self.maxpool]
        return [[*stem, self.layer1], [self.layer2], [self.layer3], [self.layer4]]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (N, classes) for the last maps, or the head's input (N, num_features) if `pre_logits`."""
        x = self.drop(super().forward_head(x, pre_logits=True))
        return x if pre_logits else self.fc(x)
