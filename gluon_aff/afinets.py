"""Plan which blocks of an AFINet form a group and how wide they are, for either engine.

The AFINets paper does not describe the wiring in full. The plans follow from its parameter counts (docs/afinets.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

from gluon_aff.operators import Integration

# Expansion, output channels, number of blocks and stride of each stage
MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
MOBILENET_STEM = 32
SHUFFLENET = ((116, 3), (232, 7), (464, 3))  # channels of each stage, and blocks after the downsampling block


@dataclass(frozen=True)
class Widths:
    """Hold the channels of a block before and after it integrates features.

    Attributes:
        first: output channels of the block's first convolution.
        inner: input channels of the next layer: the block's own feature and the integrated one, concatenated.
        full: output channels of the first convolution in the plain network.
    """

    first: int
    inner: int
    full: int


@dataclass(frozen=True)
class Member:
    """Hold the input channels, output channels and stride of a block."""

    in_channels: int
    channels: int
    stride: int


@dataclass(frozen=True)
class GroupPlan:
    """List successive blocks whose features have the same width and size.

    Attributes:
        number: number of the group, from 1, among those that can integrate features.
        width: channels of the blocks' first convolutions in the plain network.
        members: the blocks.
    """

    number: int
    width: int
    members: Sequence[Member]

    def variant(self, settings: Integration) -> str:
        """Return the variant of the group, or '' if it integrates nothing. A single block has no earlier features."""
        return settings.of_group(self.number) if len(self.members) > 1 else ""

    def shared(self, settings: Integration) -> int:
        """Return the number of channels that each block passes on to later ones; 0 if the group integrates nothing."""
        return {"": 0, "A": self.width // 2, "B": self.width}[self.variant(settings)]

    def widths(self, settings: Integration) -> List[Widths]:
        """Return the channels of each block."""
        width = self.width
        plain = Widths(width, width, width)
        later = {"": plain, "A": Widths(width // 2, width, width), "B": Widths(width, 2 * width, width)}
        return [plain, *[later[self.variant(settings)]] * (len(self.members) - 1)]


def stage_groups(widths: Sequence[int], layers: Sequence[int], expansion: int, in_channels: int) -> List[GroupPlan]:
    """Return one group for each stage, with these widths and numbers of blocks.

    The blocks' outputs are `expansion` times as wide.
    """
    groups = []
    for number, (width, blocks) in enumerate(zip(widths, layers), 1):
        channels = expansion * width
        members = [Member(in_channels, channels, 1 if number == 1 else 2)]
        groups.append(GroupPlan(number, width, members + [Member(channels, channels, 1)] * (blocks - 1)))
        in_channels = channels
    return groups


def mobilenet_groups() -> List[GroupPlan]:
    """Return MobileNetV2's groups: successive blocks, even of two stages, with expanded features of the same shape."""
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
