"""Implement MS-CAM and the fusions of two features: sums, gated sums, selections (AFF, iAFF, SKNet) and concatenation.

Each fusion is called with Y, then X, (N, C, H, W) each. Y is the feature with the larger receptive field: a block's
learned branch, the 5x5 branch or the high level. X is the other feature: the block's shortcut, the 3x3 branch or the
low level. w is an attention weight.

In training, the global context of a single image cannot be normalised: BatchNorm then has one value for each channel,
and PyTorch raises ValueError. Train on two or more images at a time, or use another `norm_layer`.
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
    """Return a branch that computes attention logits: 1x1 conv to C/r, BN, ReLU, 1x1 conv, BN (paper, Eqs. 1 and 2).

    Args:
        channels: C, the channels of the input, (N, C, H, W).
        r: channel reduction ratio. The bottleneck has C // r channels.
        branch: 'local', whose output is (N, outputs, H, W), or 'global', which starts with a global average pool and
            whose output is (N, outputs, 1, 1).
        norm_layer: makes a normalisation layer from a number of channels.
        context: 'bottleneck', or 'conv' for 1x1 conv to `outputs` channels and BN, without `r`, as in the first
            release's ablations.
        outputs: channels of the output. If None, C.

    Raises:
        InputError: `r` leaves no channel, or the branch or context is unknown.
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
    """Return the weighted sum of Y and X: the one that `gates` names gets `weight`, the other one 1 - weight."""
    return (x - y) * weight + y if gates == "X" else (y - x) * weight + x


class ContextAttention(nn.Module):
    """Compute attention weights for maps of `channels` channels by context branches; the arguments are those of AFF."""

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
        """Return the sigmoid of the sum of the contexts (paper, Eq. 3), in (0, 1).

        Its shape is (N, C, H, W), or (N, C, 1, 1) if all branches are global. `suffix` ends the names of the branches
        to use.
        """
        first, *others = (getattr(self, name + suffix)(features) for name in self.branch_names)
        return torch.sigmoid(sum(others, first))


class MSCAM(ContextAttention):
    """Weight channels at multiple scales: x * w, where w = sigmoid(local(x) + global(x)) (MS-CAM; paper, Eq. 3).

    Shapes: (N, C, H, W) -> (N, C, H, W). The arguments are those of AFF.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x * w, (N, C, H, W)."""
        return x * self.weight(x)


class DirectAdd(nn.Module):
    """Add X and Y, (N, C, H, W) each, as plain ResNets do."""

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Return Y + X, (N, C, H, W)."""
        return y + x


class Concatenation(nn.Module):
    """Concatenate Y and X, and project them to C channels by a 1x1 convolution: W_A X + W_B Y + b (paper, Table 1).

    Shapes: y, x and output (N, C, H, W). Without `projected` the output is (N, 2 C, H, W).

    Args:
        channels: C.
        norm_layer: makes a normalisation layer from a number of channels.
        normalised: whether BN precedes the convolution.
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
        """Return the fused feature, (N, C, H, W) or (N, 2 C, H, W)."""
        return self.fuse(torch.cat((y, x), dim=1))


class GatedSum(ContextAttention):
    """Add X and Y, one of them multiplied by an attention weight: w * X + Y or X + w * Y (paper, Tables 1 and 4).

    These are MS-GAU, MS-SENet and MS-SA, and with the global context alone GAU and SENet.

    Shapes: y, x and output (N, C, H, W). The further arguments are those of AFF.

    Args:
        reads: 'Y' or 'X+Y', the input from which w is computed.
        gates: 'X' or 'Y', the feature that w multiplies.
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
        """Return the fused feature, (N, C, H, W)."""
        weight = self.weight(y + x if self.reads == "X+Y" else y)
        return weight * x + y if self.gates == "X" else x + weight * y


class AFF(ContextAttention):
    """Fuse by attention: scale * (w * Y + (1 - w) * X), where w is computed from X + Y (AFF; paper, Eq. 4).

    Shapes: y, x and output (N, C, H, W).

    Args:
        channels: C.
        r: channel reduction ratio of the context branches.
        norm_layer: makes a normalisation layer from a number of channels.
        scale: factor on the output. The paper's equation has 1. The published weights need 2, as in the original's
            code.
        gates: 'Y' or 'X', the feature that w multiplies; the other one gets 1 - w. It is X in the paper and in the
            Inception network of the original's first release. It is Y in the code of the other networks, so the
            published weights need Y.
        branches: 'local' and 'global', the context branches that are added. One of them can stand twice (paper, Table
            3).
        context: 'bottleneck' branches, or 'conv' for a single convolution in each, without `r`, as in the first
            release.
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
        """Return the fused feature, (N, C, H, W)."""
        return self.scale * selected(y, x, self.weight(y + x), self.gates)


class iAFF(AFF):
    """Fuse by iterative attention: compute w from a first attentional fusion of X and Y (iAFF; paper, Eqs. 4 and 5).

    Each of the two fusions has its own context branches. Shapes and arguments are those of AFF. The published weights
    need scale 1.
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
        """Return the fused feature, (N, C, H, W)."""
        integrated = selected(y, x, self.weight(y + x), self.gates)
        return self.scale * selected(y, x, self.weight(integrated, "2"), self.gates)


class SelectiveKernel(nn.Module):
    """Fuse as SKNet does: scale * (w * Y + (1 - w) * X), where w is a softmax over two global contexts of X + Y.

    Shapes: y, x and output (N, C, H, W).

    Args:
        channels: C.
        r: channel reduction ratio.
        norm_layer: makes a normalisation layer from a number of channels.
        scale: factor on the output, as in AFF.
        gates: 'Y' or 'X', the feature that the first C logits weight, as in AFF.
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
        """Return the fused feature, (N, C, H, W)."""
        first, second = self.global_att(y + x).chunk(2, dim=1)
        # A softmax over two logits is the sigmoid of their difference
        return self.scale * selected(y, x, torch.sigmoid(first - second), self.gates)
