"""Build AFINets, whose blocks pass the features of their first convolution on to later blocks (AFINets paper).

The paper does not describe the wiring in full. It follows from the paper's parameter counts (docs/afinets.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Callable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from gluon_aff.afinets import (
    MOBILENET_STEM,
    SHUFFLENET,
    GroupPlan,
    Member,
    Widths,
    mobilenet_groups,
    stage_groups,
)
from gluon_aff.operators import Integration
from gluon_aff.pytorch.fusion.channel_attention import CHANNEL_ATTENTIONS
from gluon_aff.pytorch.fusion.integration import AFI
from gluon_aff.pytorch.networks.layers import Classifier, average_pool, conv1x1, conv3x3, initialise, relu


@dataclass(frozen=True)
class Parts:
    """Describe a residual block in two parts; features of earlier blocks enter between them.

    Attributes:
        first: convolution, BN and ReLU that compute the block's own feature.
        rest: layers from there to the addition.
        shortcut: layers on the shortcut. If None, the shortcut is the block's input.
        adds: whether there is a shortcut.
        activates: whether a ReLU follows the addition.
        shrinks: whether `rest` halves height and width, so that a feature for later blocks has to be halved too.
        splits: whether only half of the channels pass through the block, after which all channels are shuffled.
    """

    first: nn.Sequential
    rest: nn.Module
    shortcut: Optional[nn.Module] = None
    adds: bool = True
    activates: bool = True
    shrinks: bool = False
    splits: bool = False


PartsOf = Callable[[Member, Widths], Parts]


class Block(nn.Module):
    """Compute a block's output and its own feature, given its input and the features of earlier blocks.

    Shapes: the input is (N, in_channels, H, W). The earlier features come with their means, (N, C) each.
    """

    def __init__(self, parts: Parts, integrate: Optional[AFI] = None, attend: Optional[nn.Module] = None) -> None:
        super().__init__()
        self.first = parts.first
        self.integrate = integrate
        self.attend = nn.Identity() if attend is None else attend
        self.rest = parts.rest
        self.shortcut = nn.Identity() if parts.shortcut is None else parts.shortcut
        self.adds, self.activates, self.shrinks, self.splits = parts.adds, parts.activates, parts.shrinks, parts.splits

    def forward(self, x: Tensor, earlier: Sequence[Tensor], means: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        """Return the block's output, and its own feature to pass on."""
        if self.splits:
            passing, x = x.chunk(2, dim=1)
        if self.integrate is None:
            feature = inner = self.first(x)
        else:
            feature, inner = self._joined(x, self.attend(self.integrate(earlier, means)))
        out = self.rest(inner)
        if self.splits:
            out = shuffled(passing, out)
        if self.adds:
            out = out + self.shortcut(x)
        return torch.relu(out) if self.activates else out, feature

    def _joined(self, x: Tensor, integrated: Tensor) -> Tuple[Tensor, Tensor]:
        """Return X and [X; R].

        In training, X is a view of [X; R], so that memory for the backward pass holds it once instead of twice. To this
        end a single ReLU activates both. This changes neither R, which is a mean of ReLU outputs and thus not negative,
        nor any gradient: where R is 0, the features that it averages are 0 too, and their own ReLUs pass no gradient.
        """
        if not self.training:
            feature = self.first(x)
            return feature, torch.cat((feature, integrated), dim=1)
        conv, norm, activate = self.first
        feature = norm(conv(x))
        inner = activate(torch.cat((feature, integrated), dim=1))
        return inner[:, : feature.shape[1]], inner


def shuffled(first: Tensor, second: Tensor) -> Tensor:
    """Interleave the channels of two arrays: (N, C, H, W) each -> (N, 2C, H, W)."""
    return torch.stack((first, second), dim=2).flatten(1, 2)


class Group(nn.Module):
    """Run blocks whose features have the same width and size; each but the first integrates the features before it.

    Shapes: (N, C, H, W) -> the last block's output. The spatial mean of each feature is computed once.

    Args:
        blocks: the blocks in order.
        shared: number of channels that each block passes on; 0 if the blocks integrate nothing.
        halves: whether the first block, which has twice as many channels, passes on both halves.
    """

    def __init__(self, blocks: Sequence[Block], shared: int, halves: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.halve = average_pool(2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.shared, self.halves = shared, halves

    def forward(self, x: Tensor) -> Tensor:
        """Return the last block's output, (N, C, H, W)."""
        earlier: List[Tensor] = []
        means: List[Tensor] = []
        for index, block in enumerate(self.blocks):
            x, feature = block(x, earlier, means)
            if self.shared and index < len(self.blocks) - 1:
                parts = 2 if self.halves and index == 0 else 1
                feature = feature[:, : parts * self.shared]
                if block.shrinks:  # its feature has the size of the previous stage
                    feature = self.halve(feature)
                handed_on = feature.chunk(parts, dim=1)
                earlier += handed_on
                means += [self.pool(each).flatten(1) for each in handed_on]
        return x


def integrated_group(parts_of: PartsOf, settings: Integration, plan: GroupPlan) -> Group:
    """Build a group of blocks in which each block but the first integrates the features of those before it."""
    shared = plan.shared(settings)
    first, *others = (parts_of(*place) for place in zip(plan.members, plan.widths(settings)))
    blocks = [Block(first)]
    for parts in others:
        integrate = AFI(shared, settings.r) if shared else None
        attend = CHANNEL_ATTENTIONS[settings.attention](shared) if shared and settings.attention else None
        blocks.append(Block(parts, integrate, attend))
    return Group(blocks, shared, settings.first == "halves" and plan.variant(settings) == "A")


def depthwise(in_channels: int, channels: int, stride: int) -> nn.Conv2d:
    """Return a 3x3 convolution with a group for each output channel, which has one or two input channels."""
    return conv3x3(in_channels, channels, stride, groups=channels)


def shortcut_of(member: Member) -> Optional[nn.Module]:
    """Return a 1x1 convolution and BN for the shortcut if width or size changes, otherwise None."""
    if member.stride == 1 and member.in_channels == member.channels:
        return None
    return nn.Sequential(conv1x1(member.in_channels, member.channels, member.stride), nn.BatchNorm2d(member.channels))


def conv_bn_relu(conv: nn.Conv2d) -> List[nn.Module]:
    """Return the convolution followed by BN and ReLU."""
    return [conv, nn.BatchNorm2d(conv.out_channels), relu()]


def basic_parts(member: Member, widths: Widths) -> Parts:
    """Return the parts of the CIFAR ResNet's block: 3x3 (stride), BN, ReLU | 3x3, BN."""
    return Parts(
        nn.Sequential(*conv_bn_relu(conv3x3(member.in_channels, widths.first, member.stride))),
        nn.Sequential(conv3x3(widths.inner, member.channels), nn.BatchNorm2d(member.channels)),
        shortcut_of(member),
    )


def bottleneck_parts(member: Member, widths: Widths, groups: int = 1) -> Parts:
    """Return the parts of a bottleneck: 1x1, BN, ReLU | 3x3 (stride), BN, ReLU, 1x1, BN.

    It is the block of ResNet-50, and with a grouped 3x3 convolution that of ResNeXt.
    """
    return Parts(
        nn.Sequential(*conv_bn_relu(conv1x1(member.in_channels, widths.first))),
        nn.Sequential(
            *conv_bn_relu(conv3x3(widths.inner, widths.full, member.stride, groups=groups)),
            conv1x1(widths.full, member.channels),
            nn.BatchNorm2d(member.channels),
        ),
        shortcut_of(member),
        shrinks=member.stride == 2,
    )


def inverted_parts(member: Member, widths: Widths) -> Parts:
    """Return the parts of MobileNetV2's block: 1x1, BN, ReLU | depthwise 3x3 (stride), BN, ReLU, 1x1, BN.

    Only blocks of stride 1 have a shortcut. One of stride 2 ends its group, so its feature goes no further.
    """
    return Parts(
        nn.Sequential(*conv_bn_relu(conv1x1(member.in_channels, widths.first))),
        nn.Sequential(
            *conv_bn_relu(depthwise(widths.inner, widths.full, member.stride)),
            conv1x1(widths.full, member.channels),
            nn.BatchNorm2d(member.channels),
        ),
        shortcut_of(member) if member.stride == 1 else None,
        adds=member.stride == 1,
        activates=False,
    )


def shuffle_parts(member: Member, widths: Widths) -> Parts:
    """Return the right branch of ShuffleNetV2's block in parts: 1x1, BN, ReLU | depthwise 3x3, BN, 1x1, BN, ReLU."""
    return Parts(
        nn.Sequential(*conv_bn_relu(conv1x1(member.in_channels, widths.first))),
        nn.Sequential(
            depthwise(widths.inner, widths.inner, 1),
            nn.BatchNorm2d(widths.inner),
            *conv_bn_relu(conv1x1(widths.inner, member.channels)),
        ),
        adds=False,
        activates=False,
        splits=True,
    )


class ShuffleDown(nn.Module):
    """Halve height and width as ShuffleNetV2 does: (N, in_channels, H, W) -> (N, channels, H/2, W/2)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.left = nn.Sequential(
            depthwise(in_channels, in_channels, 2),
            nn.BatchNorm2d(in_channels),
            *conv_bn_relu(conv1x1(in_channels, half)),
        )
        self.right = nn.Sequential(
            *conv_bn_relu(conv1x1(in_channels, half)),
            depthwise(half, half, 2),
            nn.BatchNorm2d(half),
            *conv_bn_relu(conv1x1(half, half)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the channels of both branches, alternating: (N, channels, H/2, W/2)."""
        return shuffled(self.left(x), self.right(x))


class AFINet(Classifier):
    """Classify images with a stem, groups of blocks, a tail, global average pooling and a dense layer.

    Shapes: (N, 3, H, W) -> (N, classes) logits.
    """

    def __init__(self, stem: Sequence[nn.Module], body: Sequence[nn.Module], channels: int, classes: int) -> None:
        super().__init__()
        self.num_features, self.num_classes = channels, classes
        self.features = nn.Sequential(*stem, *body)
        self.output = nn.Linear(channels, classes)
        initialise(self)

    def stages(self) -> List[List[nn.Module]]:
        """Return the modules that lead to the end of each group, starting after the previous group."""
        stages: List[List[nn.Module]] = [[]]
        for module in self.features:
            stages[-1].append(module)
            if isinstance(module, Group):
                stages.append([])
        return stages[:-1]

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last maps, (N, num_features, h, w)."""
        return self.features[sum(map(len, self.stages())) :](super().forward_features(x))


def _groups(parts_of: PartsOf, settings: Integration, plans: Sequence[GroupPlan]) -> List[nn.Module]:
    return [integrated_group(parts_of, settings, plan) for plan in plans]


def afi_resnet(settings: Integration, blocks: int, classes: int) -> AFINet:
    """Build a CIFAR ResNet of depth 6 * blocks + 2, with widths 16, 32, 64 and 1x1 shortcuts."""
    settings.check(3)
    body = _groups(basic_parts, settings, stage_groups((16, 32, 64), [blocks] * 3, 1, 16))
    return AFINet(conv_bn_relu(conv3x3(3, 16)), body, 64, classes)


def afi_imagenet_resnet(settings: Integration, layers: Sequence[int], classes: int) -> AFINet:
    """Build an ImageNet ResNet of bottlenecks that stride in the 3x3 convolution (torchvision's; GluonCV's v1b)."""
    settings.check(len(layers))
    stem = [*conv_bn_relu(nn.Conv2d(3, 64, 7, 2, 3, bias=False)), nn.MaxPool2d(3, 2, 1)]
    body = _groups(bottleneck_parts, settings, stage_groups((64, 128, 256, 512), layers, 4, 64))
    return AFINet(stem, body, 2048, classes)


def afi_resnext29(settings: Integration, classes: int) -> AFINet:
    """Build ResNeXt-29 (32x4d) for CIFAR: three stages of three blocks.

    The blocks' outputs are twice as wide as their 3x3 convolutions.
    """
    settings.check(3)
    body = _groups(partial(bottleneck_parts, groups=32), settings, stage_groups((128, 256, 512), (3, 3, 3), 2, 64))
    return AFINet(conv_bn_relu(conv1x1(3, 64)), body, 1024, classes)


def afi_mobilenet_v2(settings: Integration, classes: int) -> AFINet:
    """Build MobileNetV2 for CIFAR. Its groups are those of `mobilenet_groups`, which can span two stages."""
    plans = mobilenet_groups()
    settings.check(plans[-1].number)
    body = _groups(inverted_parts, settings, plans)
    in_channels = plans[-1].members[-1].channels
    return AFINet(
        conv_bn_relu(conv3x3(3, MOBILENET_STEM)), [*body, *conv_bn_relu(conv1x1(in_channels, 1280))], 1280, classes
    )


def afi_shufflenet_v2(settings: Integration, classes: int) -> AFINet:
    """Build ShuffleNetV2 1x for CIFAR. Its groups are the blocks of a stage that follow the downsampling block."""
    settings.check(len(SHUFFLENET))
    body: List[nn.Module] = []
    in_channels = 24
    for number, (channels, blocks) in enumerate(SHUFFLENET, 1):
        half = channels // 2
        body.append(ShuffleDown(in_channels, channels))
        plan = GroupPlan(number, half, [Member(half, half, 1)] * blocks)
        body.append(integrated_group(shuffle_parts, settings, plan))
        in_channels = channels
    return AFINet(conv_bn_relu(conv3x3(3, 24)), [*body, *conv_bn_relu(conv1x1(in_channels, 1024))], 1024, classes)
