"""MS-CAM, and the fusions of two features: sums, gated sums, selections (AFF, iAFF, SKNet's), concatenation.

Each fusion is called with Y, then X: Y is the feature with the larger receptive field (a block's learned branch, the
5x5 branch, the high level), X is the other one (its shortcut, the 3x3 branch, the low level). w is an attention weight.

While training, the global context of a single image cannot be normalised: BatchNorm has one value for each channel
then, and PyTorch raises ValueError. Train on two images or more, or take another `norm_layer`.
"""

from __future__ import annotations

from typing import Callable, Optional, Sequence

import torch
from torch import Tensor, nn

from gluon_aff.operators import BRANCHES, bottleneck_width, check_context

NormLayer = Callable[[int], nn.Module]


def context_branch(
    channels: int,
    r: int,
    *,
    branch: str,
    norm_layer: NormLayer = nn.BatchNorm2d,
    context: str = "bottleneck",
    outputs: Optional[int] = None,
) -> nn.Sequential:
    """Channel attention logits: 1x1 conv to C/r, BN, ReLU, 1x1 conv, BN (paper, Eqs. 1 and 2).

    Args:
        channels: C, width of the (N, C, H, W) input.
        r: channel reduction ratio; the bottleneck has C // r channels.
        branch: 'local' gives (N, outputs, H, W); 'global' starts with an average pool and gives (N, outputs, 1, 1).
        norm_layer: makes a normalisation layer from a number of channels.
        context: 'conv' is one 1x1 convolution and BN instead, without `r`, as in the first release's ablations.
        outputs: C if None.

    Raises:
        InputError: if `r` leaves no channel, or for an unknown branch or context.
    """
    check_context(branch, context)
    outputs = outputs or channels
    pool = [nn.AdaptiveAvgPool2d(1)] if branch == "global" else []
    if context == "conv":
        return nn.Sequential(*pool, nn.Conv2d(channels, outputs, 1), norm_layer(outputs))
    width = bottleneck_width(channels, r)
    return nn.Sequential(
        *pool,
        nn.Conv2d(channels, width, 1),
        norm_layer(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, outputs, 1),
        norm_layer(outputs),
    )


def selected(y: Tensor, x: Tensor, weight: Tensor, gates: str) -> Tensor:
    """Y and X weighted: the one called `gates` by `weight`, the other by 1 - weight."""
    return (x - y) * weight + y if gates == "X" else (y - x) * weight + x


class ContextAttention(nn.Module):
    """Attention weights for maps of `channels` channels, from one or two context branches; arguments as in AFF."""

    def __init__(
        self,
        channels: int,
        r: int = 4,
        norm_layer: NormLayer = nn.BatchNorm2d,
        *,
        branches: Sequence[str] = BRANCHES,
        context: str = "bottleneck",
    ) -> None:
        super().__init__()
        self.branch_names = [f"{branches[0]}_att"] if len(branches) == 1 else ["local_att", "global_att"]
        for name, branch in zip(self.branch_names, branches):
            self.add_module(name, context_branch(channels, r, branch=branch, norm_layer=norm_layer, context=context))

    def weight(self, features: Tensor, suffix: str = "") -> Tensor:
        """Sigmoid of the sum of contexts (paper, Eq. 3): in (0, 1), (N, C, H, W), or (N, C, 1, 1) if all are global."""
        first, *others = (getattr(self, name + suffix)(features) for name in self.branch_names)
        return torch.sigmoid(sum(others, first))


class MSCAM(ContextAttention):
    """Multi-scale channel attention: x * w, w = sigmoid(local(x) + global(x)) (paper, Eq. 3).

    Shapes: (N, C, H, W) -> (N, C, H, W). Arguments as in AFF.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, attended to."""
        return x * self.weight(x)


class DirectAdd(nn.Module):
    """X + Y, (N, C, H, W) each: what plain ResNets do."""

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the sum."""
        return y + x


class Concatenation(nn.Module):
    """[Y; X], taken back to C channels by a 1x1 convolution with bias (paper, Section 4.1: W_A X + W_B Y).

    Shapes: y, x and output (N, C, H, W); the output is (N, 2 C, H, W) if not `projected`.

    Args:
        channels: C.
        norm_layer: makes a normalisation layer from a number of channels.
        normalised: whether there is a BN in front of the convolution.
        projected: whether there is a convolution.
    """

    def __init__(
        self,
        channels: int,
        norm_layer: NormLayer = nn.BatchNorm2d,
        *,
        normalised: bool = True,
        projected: bool = True,
    ) -> None:
        super().__init__()
        self.fuse = nn.Sequential(
            *([norm_layer(2 * channels)] if normalised else []),
            *([nn.Conv2d(2 * channels, channels, 1)] if projected else []),
        )

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the fused feature."""
        return self.fuse(torch.cat((y, x), dim=1))


class GatedSum(ContextAttention):
    """w * X + Y or X + w * Y: MS-GAU, MS-SENet, MS-SA; GAU and SENet with global context only (paper, Table 1).

    Shapes: y, x and output (N, C, H, W). Arguments as in AFF, and

    Args:
        reads: 'Y' or 'X+Y', what w is computed from.
        gates: 'X' or 'Y', what w multiplies.
    """

    def __init__(
        self,
        channels: int,
        r: int = 4,
        norm_layer: NormLayer = nn.BatchNorm2d,
        *,
        reads: str,
        gates: str,
        branches: Sequence[str] = BRANCHES,
        context: str = "bottleneck",
    ) -> None:
        super().__init__(channels, r, norm_layer, branches=branches, context=context)
        self.reads, self.gates = reads, gates

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the fused feature."""
        weight = self.weight(y + x if self.reads == "X+Y" else y)
        return weight * x + y if self.gates == "X" else x + weight * y


class AFF(ContextAttention):
    """Attentional feature fusion: scale * (w * Y + (1 - w) * X), w from X + Y (paper, Eq. 4).

    Shapes: y, x and output (N, C, H, W).

    Args:
        channels: C.
        r: channel reduction ratio of the context branches.
        norm_layer: makes a normalisation layer from a number of channels.
        scale: the paper's equation has 1; the published weights need the original code's 2.
        gates: 'Y' or 'X', what w multiplies: X in the paper and in the first release's Inception, Y in the code of the
            other networks and so in the published weights. The other one gets 1 - w.
        branches: 'local' and 'global', the context branches that are added; one may stand twice (paper, Table 3).
        context: 'bottleneck' branches, or 'conv' for one convolution each, without `r`, as in the first release.
    """

    def __init__(
        self,
        channels: int,
        r: int = 4,
        norm_layer: NormLayer = nn.BatchNorm2d,
        scale: float = 2.0,
        *,
        gates: str = "Y",
        branches: Sequence[str] = BRANCHES,
        context: str = "bottleneck",
    ) -> None:
        super().__init__(channels, r, norm_layer, branches=branches, context=context)
        self.scale, self.gates = scale, gates

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the fused feature."""
        return self.scale * selected(y, x, self.weight(y + x), self.gates)


class iAFF(AFF):
    """Iterative AFF: the attention of AFF reads a first attentional fusion instead of a sum (paper, Eqs. 4 and 5).

    Both fusions have context branches of their own. Shapes and arguments as in AFF; the published weights have scale 1.
    """

    def __init__(
        self,
        channels: int,
        r: int = 4,
        norm_layer: NormLayer = nn.BatchNorm2d,
        scale: float = 1.0,
        *,
        gates: str = "Y",
        branches: Sequence[str] = BRANCHES,
        context: str = "bottleneck",
    ) -> None:
        super().__init__(channels, r, norm_layer, scale, gates=gates, branches=branches, context=context)
        for name, each in zip(self.branch_names, branches):
            self.add_module(
                f"{name}2", context_branch(channels, r, branch=each, norm_layer=norm_layer, context=context)
            )

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the fused feature."""
        integrated = selected(y, x, self.weight(y + x), self.gates)
        return self.scale * selected(y, x, self.weight(integrated, "2"), self.gates)


class SelectiveKernel(nn.Module):
    """SKNet's fusion: scale * (w * Y + (1 - w) * X), w from the global context of X + Y by a softmax over the pair.

    Shapes: y, x and output (N, C, H, W).

    Args:
        channels: C.
        r: channel reduction ratio.
        norm_layer: makes a normalisation layer from a number of channels.
        scale: as in AFF.
        gates: 'Y' or 'X', what the first C logits weigh, as in AFF.
    """

    def __init__(
        self,
        channels: int,
        r: int = 4,
        norm_layer: NormLayer = nn.BatchNorm2d,
        scale: float = 2.0,
        *,
        gates: str = "Y",
    ) -> None:
        super().__init__()
        self.scale, self.gates = scale, gates
        self.global_att = context_branch(channels, r, branch="global", norm_layer=norm_layer, outputs=2 * channels)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the fused feature."""
        first, second = self.global_att(y + x).chunk(2, dim=1)
        # The softmax over a pair is the sigmoid of the difference
        return self.scale * selected(y, x, torch.sigmoid(first - second), self.gates)
