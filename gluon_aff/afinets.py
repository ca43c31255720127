"""How AFINets are wired, in either engine: which blocks make a group, and how wide they are (the second paper).

The paper leaves the wiring open; its parameter counts decide it (docs/afinets.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

from gluon_aff.operators import Integration

# Expansion, channels, blocks and stride of each stage
MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
MOBILENET_STEM = 32
SHUFFLENET = ((116, 3), (232, 7), (464, 3))  # channels of each stage, and blocks after the one that halves the size


@dataclass(frozen=True)
class Widths:
    """Channels of a block around its integration.

    Attributes:
        first: outputs of its first convolution.
        inner: what the next layer gets: the feature and the integrated one.
        full: outputs of the host's first convolution.
    """

    first: int
    inner: int
    full: int


@dataclass(frozen=True)
class Member:
    """A block's place: its input channels, its outputs, its stride."""

    in_channels: int
    channels: int
    stride: int


@dataclass(frozen=True)
class GroupPlan:
    """Blocks whose features have one width and size.

    Attributes:
        number: of the group among those that can integrate, from 1.
        width: channels of the blocks' first convolutions in the host.
        members: the blocks.
    """

    number: int
    width: int
    members: Sequence[Member]

    def variant(self, settings: Integration) -> str:
        """Variant of the group, '' where it does not integrate: a single block has nothing to."""
        return settings.of_group(self.number) if len(self.members) > 1 else ""

    def shared(self, settings: Integration) -> int:
        """Channels that a block hands on, 0 for none."""
        return {"": 0, "A": self.width // 2, "B": self.width}[self.variant(settings)]

    def widths(self, settings: Integration) -> List[Widths]:
        """Those of each block."""
        width = self.width
        plain = Widths(width, width, width)
        later = {"": plain, "A": Widths(width // 2, width, width), "B": Widths(width, 2 * width, width)}
        return [plain, *[later[self.variant(settings)]] * (len(self.members) - 1)]


def stage_groups(widths: Sequence[int], layers: Sequence[int], expansion: int, in_channels: int) -> List[GroupPlan]:
    """Groups that are stages, with these numbers of blocks and widths; outputs are `expansion` times as wide."""
    groups = []
    for number, (width, blocks) in enumerate(zip(widths, layers), 1):
        channels = expansion * width
        members = [Member(in_channels, channels, 1 if number == 1 else 2)]
        groups.append(GroupPlan(number, width, members + [Member(channels, channels, 1)] * (blocks - 1)))
        in_channels = channels
    return groups


def mobilenet_groups() -> List[GroupPlan]:
    """MobileNetV2's: a group is a run of blocks whose expansions have one shape, over the stages' ends."""
    runs: List[Tuple[int, List[Member]]] = []
    in_channels, size = MOBILENET_STEM, 32
    shape = None
    for expansion, channels, blocks, stride in MOBILENET:
        for index in range(blocks):
            width = expansion * in_channels
            if (width, size) != shape:
                shape = (width, size)
                runs.append((width, []))
            runs[-1][1].append(Member(in_channels, channels, stride if index == 0 else 1))
            size //= runs[-1][1][-1].stride
            in_channels = channels
    groups, number = [], 0
    for width, members in runs:
        number += len(members) > 1
        groups.append(GroupPlan(number, width, members))
    return groups
