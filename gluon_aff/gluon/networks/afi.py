"""AFINets: blocks hand the features of their first convolution on to later ones (the second paper).

The paper leaves the wiring open; its parameter counts decide it (docs/afinets.md).
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
from gluon_aff.gluon.networks.layers import Classifier, conv1x1, conv3x3, relu
from gluon_aff.operators import Integration

# Sizes as of a strided convolution; what lies outside does not count
HALVING = {"kernel": (2, 2), "stride": (2, 2), "pooling_convention": "full", "count_include_pad": False}


@dataclass(frozen=True)
class Parts:
    """A residual block in two parts, between which features of earlier blocks come in.

    Attributes:
        first: makes the block's feature.
        rest: layers from there to the addition.
        shortcut: None for the input itself.
        adds: whether there is a shortcut.
        activates: ReLU at the end.
        shrinks: whether `rest` halves height and width.
        splits: whether only half of the channels goes through the block, and all are shuffled behind it.
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
    """(N, in_channels, H, W) and features of earlier blocks -> the block's output, and its own feature."""

    def __init__(
        self, parts: Parts, integrate: Optional[AFI] = None, attend: Optional[HybridBlock] = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.first, self.integrate, self.attend = parts.first, integrate, attend
        self.rest, self.shortcut = parts.rest, parts.shortcut
        self.adds, self.activates, self.shrinks, self.splits = parts.adds, parts.activates, parts.shrinks, parts.splits

    def hybrid_forward(self, F: Any, x: Any, *earlier: Any) -> Any:
        """Run the block."""
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
    """Blocks whose features have one width and size; each but the first integrates those before.

    (N, C, H, W) -> the last block's output. Each feature is averaged once.

    Args:
        blocks: in their order.
        shared: channels that a block hands on, 0 for none.
        halves: whether the first block, which has twice as many, hands on both halves.
    """

    def __init__(self, blocks: Sequence[Block], shared: int, halves: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blocks = sequential(*blocks)
        self.pool = GlobalAveragePool()
        self._shared, self._halves = shared, halves

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Run the blocks."""
        earlier: List[Any] = []
        means: List[Any] = []
        for index, block in enumerate(self.blocks):
            x, feature = block(x, *(earlier + means if block.integrate is not None else ()))
            if not self._shared or index == len(self.blocks) - 1:
                continue
            if block.shrinks:  # its feature is as large as the stage before
                feature = F.Pooling(feature, pool_type="avg", **HALVING)
            parts = 2 if self._halves and index == 0 else 1
            shared = [
                F.slice_axis(feature, axis=1, begin=part * self._shared, end=(part + 1) * self._shared)
                for part in range(parts)
            ]
            earlier += shared
            means += [self.pool(each) for each in shared]
        return x


def integrated_group(parts_of: PartsOf, settings: Integration, plan: GroupPlan) -> Group:
    """Group of blocks, of which each but the first integrates the features of those before."""
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
    """1x1 and BN where width or size changes."""
    if member.stride == 1 and member.in_channels == member.channels:
        return None
    return sequential(conv1x1(member.channels, member.in_channels, member.stride), _norm(member.channels))


def basic_parts(member: Member, widths: Widths) -> Parts:
    """3x3 (stride), BN, ReLU | 3x3, BN: the CIFAR ResNet's."""
    return Parts(
        sequential(conv3x3(widths.first, member.in_channels, member.stride), _norm(widths.first), relu()),
        sequential(conv3x3(member.channels, widths.inner), _norm(member.channels)),
        _shortcut(member),
    )


def bottleneck_parts(member: Member, widths: Widths, cardinality: int = 1) -> Parts:
    """1x1, BN, ReLU | 3x3 (stride), BN, ReLU, 1x1, BN: the bottleneck of ResNet-50 and, in groups, of ResNeXt."""
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
    """1x1, BN, ReLU | depthwise 3x3 (stride), BN, ReLU, 1x1, BN: MobileNetV2's; a shortcut at stride 1 only."""
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
        shrinks=member.stride == 2,
    )


def shuffle_parts(member: Member, widths: Widths) -> Parts:
    """1x1, BN, ReLU | depthwise 3x3, BN, 1x1, BN, ReLU: the right branch of ShuffleNetV2's block."""
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
    """ShuffleNetV2's block that halves height and width: (N, in_channels, H, W) -> (N, channels, H/2, W/2)."""

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
        """Run both branches."""
        return joined(F, self.left(x), self.right(x), in_turns=True)


class AFINet(Classifier):
    """Stem, groups of blocks, tail, global average pool, dense: (N, 3, H, W) -> (N, classes) logits."""

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


def afi_resnet(settings: Integration, blocks: int, classes: int = 100) -> AFINet:
    """CIFAR ResNet of depth 6 * blocks + 2, widths 16, 32, 64, with 1x1 shortcuts."""
    settings.check(3)
    stem = _stem(16)
    body = _groups(basic_parts, settings, stage_groups((16, 32, 64), [blocks] * 3, 1, 16))
    return AFINet(stem, body, 64, classes)


def afi_imagenet_resnet(settings: Integration, layers: Sequence[int], classes: int = 1000) -> AFINet:
    """ImageNet ResNet of bottlenecks that stride in the 3x3 convolution (GluonCV's v1b)."""
    settings.check(len(layers))
    stem = [nn.Conv2D(64, 7, 2, 3, in_channels=3, use_bias=False), _norm(64), relu(), nn.MaxPool2D(3, 2, 1)]
    body = _groups(bottleneck_parts, settings, stage_groups((64, 128, 256, 512), layers, 4, 64))
    return AFINet(stem, body, 2048, classes)


def afi_resnext29(settings: Integration, classes: int = 100) -> AFINet:
    """ResNeXt-29 (32x4d) for CIFAR, three stages of three blocks, outputs twice as wide as the groups."""
    settings.check(3)
    stem = _stem(64, kernel=1)
    body = _groups(partial(bottleneck_parts, cardinality=32), settings, stage_groups((128, 256, 512), (3, 3, 3), 2, 64))
    return AFINet(stem, body, 1024, classes)


def afi_mobilenet_v2(settings: Integration, classes: int = 100) -> AFINet:
    """MobileNetV2 for CIFAR; a group is a run of blocks whose expansions have one shape, over the stages' ends."""
    plans = mobilenet_groups()
    settings.check(plans[-1].number)
    stem, body = _stem(MOBILENET_STEM), _groups(inverted_parts, settings, plans)
    in_channels = plans[-1].members[-1].channels
    body += [conv1x1(1280, in_channels), _norm(1280), relu()]
    return AFINet(stem, body, 1280, classes)


def afi_shufflenet_v2(settings: Integration, classes: int = 100) -> AFINet:
    """ShuffleNetV2 of width 1 for CIFAR; a stage's blocks behind the one that halves the size are a group."""
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
