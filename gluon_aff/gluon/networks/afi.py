"""Build AFINets, whose blocks pass the features of their first convolution on to later blocks (AFINets paper).

The paper does not describe the wiring in full. It follows from the paper's parameter counts (docs/afinets.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, List, Optional, Sequence

from mxnet.gluon import HybridBlock, nn

from gluon_aff.afinets import (
    MOBILENET_STEM,
    SHUFFLENET,
    GroupPlan,
    Member,
    Widths,
    mobilenet_groups,
    stage_groups,
)
from gluon_aff.gluon.fusion.channel_attention import CHANNEL_ATTENTIONS
from gluon_aff.gluon.fusion.context import GlobalAveragePool, joined, sequential
from gluon_aff.gluon.fusion.integration import AFI
from gluon_aff.gluon.networks.layers import Classifier, average_pool, conv1x1, conv3x3, relu
from gluon_aff.operators import Integration


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

    first: HybridBlock
    rest: HybridBlock
    shortcut: Optional[HybridBlock] = None
    adds: bool = True
    activates: bool = True
    shrinks: bool = False
    splits: bool = False


PartsOf = Callable[[Member, Widths], Parts]


class Block(HybridBlock):
    """Compute a block's output and its own feature, given its input and the features of earlier blocks.

    Shapes: the input is (N, in_channels, H, W). The earlier features are followed by their means, (N, C, 1, 1) each.
    """

    def __init__(
        self, parts: Parts, integrate: Optional[AFI] = None, attend: Optional[HybridBlock] = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.first, self.integrate, self.attend = parts.first, integrate, attend
        self.rest, self.shortcut = parts.rest, parts.shortcut
        self.adds, self.activates, self.shrinks, self.splits = parts.adds, parts.activates, parts.shrinks, parts.splits

    def hybrid_forward(self, F: Any, x: Any, *earlier: Any) -> Any:
        """Return the block's output, and its own feature to pass on."""
        passing = None
        if self.splits:
            passing, x = F.split(x, num_outputs=2, axis=1)
        feature = inner = self.first(x)
        if self.integrate is not None:
            integrated = self.integrate(*earlier)
            integrated = integrated if self.attend is None else self.attend(integrated)
            inner = joined(F, feature, integrated)
        out = self.rest(inner)
        if self.splits:
            out = joined(F, passing, out, in_turns=True)
        if self.adds:
            out = out + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(out) if self.activates else out, feature


class Group(HybridBlock):
    """Run blocks whose features have the same width and size; each but the first integrates the features before it.

    Shapes: (N, C, H, W) -> the last block's output. The spatial mean of each feature is computed once.

    Args:
        blocks: the blocks in order.
        shared: number of channels that each block passes on; 0 if the blocks integrate nothing.
        halves: whether the first block, which has twice as many channels, passes on both halves.
    """

    def __init__(self, blocks: Sequence[Block], shared: int, halves: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blocks = sequential(*blocks)
        self.halve = average_pool(2)
        self.pool = GlobalAveragePool()
        self._shared, self._halves = shared, halves

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the last block's output, (N, C, H, W)."""
        earlier: List[Any] = []
        means: List[Any] = []
        for index, block in enumerate(self.blocks):
            x, feature = block(x, *(earlier + means if block.integrate is not None else ()))
            if not self._shared or index == len(self.blocks) - 1:
                continue
            if block.shrinks:  # its feature has the size of the previous stage
                feature = self.halve(feature)
            parts = 2 if self._halves and index == 0 else 1
            shared = [
                F.slice_axis(feature, axis=1, begin=part * self._shared, end=(part + 1) * self._shared)
                for part in range(parts)
            ]
            earlier += shared
            means += [self.pool(each) for each in shared]
        return x


def integrated_group(parts_of: PartsOf, settings: Integration, plan: GroupPlan) -> Group:
    """Build a group of blocks in which each block but the first integrates the features of those before it."""
    shared = plan.shared(settings)
    first, *others = (parts_of(*place) for place in zip(plan.members, plan.widths(settings)))
    blocks = [Block(first)]
    for parts in others:
        integrate = AFI(shared, settings.r, means_given=True) if shared else None
        attend = CHANNEL_ATTENTIONS[settings.attention](shared) if shared and settings.attention else None
        blocks.append(Block(parts, integrate, attend))
    return Group(blocks, shared, settings.first == "halves" and plan.variant(settings) == "A")


def _norm(channels: int) -> nn.BatchNorm:
    return nn.BatchNorm(in_channels=channels)


def _depthwise(channels: int, in_channels: int, stride: int) -> nn.Conv2D:
    return nn.Conv2D(channels, 3, stride, 1, groups=channels, in_channels=in_channels, use_bias=False)


def _shortcut(member: Member) -> Optional[HybridBlock]:
    """Return a 1x1 convolution and BN for the shortcut if width or size changes, otherwise None."""
    if member.stride == 1 and member.in_channels == member.channels:
        return None
    return sequential(conv1x1(member.channels, member.in_channels, member.stride), _norm(member.channels))


def basic_parts(member: Member, widths: Widths) -> Parts:
    """Return the parts of the CIFAR ResNet's block: 3x3 (stride), BN, ReLU | 3x3, BN."""
    return Parts(
        sequential(conv3x3(widths.first, member.in_channels, member.stride), _norm(widths.first), relu()),
        sequential(conv3x3(member.channels, widths.inner), _norm(member.channels)),
        _shortcut(member),
    )


def bottleneck_parts(member: Member, widths: Widths, cardinality: int = 1) -> Parts:
    """Return the parts of a bottleneck: 1x1, BN, ReLU | 3x3 (stride), BN, ReLU, 1x1, BN.

    It is the block of ResNet-50, and with a grouped 3x3 convolution that of ResNeXt.
    """
    return Parts(
        sequential(conv1x1(widths.first, member.in_channels), _norm(widths.first), relu()),
        sequential(
            conv3x3(widths.full, widths.inner, member.stride, cardinality=cardinality),
            _norm(widths.full),
            relu(),
            conv1x1(member.channels, widths.full),
            _norm(member.channels),
        ),
        _shortcut(member),
        shrinks=member.stride == 2,
    )


def inverted_parts(member: Member, widths: Widths) -> Parts:
    """Return the parts of MobileNetV2's block: 1x1, BN, ReLU | depthwise 3x3 (stride), BN, ReLU, 1x1, BN.

    Only blocks of stride 1 have a shortcut. One of stride 2 ends its group, so its feature goes no further.
    """
    return Parts(
        sequential(conv1x1(widths.first, member.in_channels), _norm(widths.first), relu()),
        sequential(
            _depthwise(widths.full, widths.inner, member.stride),
            _norm(widths.full),
            relu(),
            conv1x1(member.channels, widths.full),
            _norm(member.channels),
        ),
        _shortcut(member) if member.stride == 1 else None,
        adds=member.stride == 1,
        activates=False,
    )


def shuffle_parts(member: Member, widths: Widths) -> Parts:
    """Return the right branch of ShuffleNetV2's block in parts: 1x1, BN, ReLU | depthwise 3x3, BN, 1x1, BN, ReLU."""
    return Parts(
        sequential(conv1x1(widths.first, member.in_channels), _norm(widths.first), relu()),
        sequential(
            _depthwise(widths.inner, widths.inner, 1),
            _norm(widths.inner),
            conv1x1(member.channels, widths.inner),
            _norm(member.channels),
            relu(),
        ),
        adds=False,
        activates=False,
        splits=True,
    )


class ShuffleDown(HybridBlock):
    """Halve height and width as ShuffleNetV2 does: (N, in_channels, H, W) -> (N, channels, H/2, W/2)."""

    def __init__(self, channels: int, in_channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        half = channels // 2
        with self.name_scope():
            self.left = sequential(
                _depthwise(in_channels, in_channels, 2),
                _norm(in_channels),
                conv1x1(half, in_channels),
                _norm(half),
                relu(),
            )
            self.right = sequential(
                conv1x1(half, in_channels),
                _norm(half),
                relu(),
                _depthwise(half, half, 2),
                _norm(half),
                conv1x1(half, half),
                _norm(half),
                relu(),
            )

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the channels of both branches, alternating: (N, channels, H/2, W/2)."""
        return joined(F, self.left(x), self.right(x), in_turns=True)


class AFINet(Classifier):
    """Classify images with a stem, groups of blocks, a tail, global average pooling and a dense layer.

    Shapes: (N, 3, H, W) -> (N, classes) logits.
    """

    stage_class = Group

    def __init__(
        self, stem: Sequence[HybridBlock], body: Sequence[HybridBlock], channels: int, classes: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = sequential(*stem, *body, GlobalAveragePool(), nn.Flatten())
            self.output = nn.Dense(classes, in_units=channels)


def _stem(channels: int, kernel: int = 3) -> List[HybridBlock]:
    conv = conv3x3(channels, 3) if kernel == 3 else conv1x1(channels, 3)
    return [conv, _norm(channels), relu()]


def _groups(parts_of: PartsOf, settings: Integration, plans: Sequence[GroupPlan]) -> List[HybridBlock]:
    return [integrated_group(parts_of, settings, plan) for plan in plans]


def afi_resnet(settings: Integration, blocks: int, classes: int) -> AFINet:
    """Build a CIFAR ResNet of depth 6 * blocks + 2, with widths 16, 32, 64 and 1x1 shortcuts."""
    settings.check(3)
    stem = _stem(16)
    body = _groups(basic_parts, settings, stage_groups((16, 32, 64), [blocks] * 3, 1, 16))
    return AFINet(stem, body, 64, classes)


def afi_imagenet_resnet(settings: Integration, layers: Sequence[int], classes: int) -> AFINet:
    """Build an ImageNet ResNet of bottlenecks that stride in the 3x3 convolution (torchvision's; GluonCV's v1b)."""
    settings.check(len(layers))
    stem = [nn.Conv2D(64, 7, 2, 3, in_channels=3, use_bias=False), _norm(64), relu(), nn.MaxPool2D(3, 2, 1)]
    body = _groups(bottleneck_parts, settings, stage_groups((64, 128, 256, 512), layers, 4, 64))
    return AFINet(stem, body, 2048, classes)


def afi_resnext29(settings: Integration, classes: int) -> AFINet:
    """Build ResNeXt-29 (32x4d) for CIFAR: three stages of three blocks.

    The blocks' outputs are twice as wide as their 3x3 convolutions.
    """
    settings.check(3)
    stem = _stem(64, kernel=1)
    body = _groups(partial(bottleneck_parts, cardinality=32), settings, stage_groups((128, 256, 512), (3, 3, 3), 2, 64))
    return AFINet(stem, body, 1024, classes)


def afi_mobilenet_v2(settings: Integration, classes: int) -> AFINet:
    """Build MobileNetV2 for CIFAR. Its groups are those of `mobilenet_groups`, which can span two stages."""
    plans = mobilenet_groups()
    settings.check(plans[-1].number)
    stem, body = _stem(MOBILENET_STEM), _groups(inverted_parts, settings, plans)
    in_channels = plans[-1].members[-1].channels
    body += [conv1x1(1280, in_channels), _norm(1280), relu()]
    return AFINet(stem, body, 1280, classes)


def afi_shufflenet_v2(settings: Integration, classes: int) -> AFINet:
    """Build ShuffleNetV2 1x for CIFAR. Its groups are the blocks of a stage that follow the downsampling block."""
    settings.check(len(SHUFFLENET))
    stem, body = _stem(24), []
    in_channels = 24
    for number, (channels, blocks) in enumerate(SHUFFLENET, 1):
        half = channels // 2
        body.append(ShuffleDown(channels, in_channels))
        plan = GroupPlan(number, half, [Member(half, half, 1)] * blocks)
        body.append(integrated_group(shuffle_parts, settings, plan))
        in_channels = channels
    body += [conv1x1(1024, in_channels), _norm(1024), relu()]
    return AFINet(stem, body, 1024, classes)
