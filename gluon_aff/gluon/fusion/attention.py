"""Implement MS-CAM and the fusions of two features: sums, gated sums, selections (AFF, iAFF, SKNet) and concatenation.

Each fusion is called with Y, then X, (N, C, H, W) each. Y is the feature with the larger receptive field: a block's
learned branch, the 5x5 branch or the high level. X is the other feature: the block's shortcut, the 3x3 branch or the
low level. w is an attention weight.
"""

from __future__ import annotations

from typing import Any, Sequence, Tuple

from mxnet.gluon import HybridBlock, nn

from gluon_aff.gluon.fusion.context import Norm, add_to_maps, context_branch, joined, sequential
from gluon_aff.operators import BRANCHES


def weighted_mean(first: Any, second: Any, weight: Any) -> Any:
    """Return weight * first + (1 - weight) * second, computed with a single product."""
    return (first - second) * weight + second


def selected(y: Any, x: Any, weight: Any, gates: str) -> Any:
    """Return the weighted sum of Y and X: the one that `gates` names gets `weight`, the other one 1 - weight."""
    return weighted_mean(x, y, weight) if gates == "X" else weighted_mean(y, x, weight)


def attention_weight(F: Any, features: Any, *contexts: Any) -> Any:
    """Return the sigmoid of the sum of the contexts (paper, Eq. 3), in (0, 1), in the shape of `features`."""
    maps = [context(features) for context in contexts if not context.pooled]
    values = [context(features) for context in contexts if context.pooled]
    context = sum(maps[1:], maps[0]) if maps else F.zeros_like(features)
    if values:
        context = add_to_maps(F, context, sum(values[1:], values[0]))
    return F.Activation(context, act_type="sigmoid")  # oneDNN implements this operator, but not F.sigmoid


class _ContextAttention(HybridBlock):
    """Compute attention weights for maps of `channels` channels by context branches; the arguments are those of AFF."""

    def __init__(
        self,
        channels: int,
        r: int = 4,
        norm: Norm = nn.BatchNorm,
        *,
        branches: Sequence[str] = BRANCHES,
        context: str = "bottleneck",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # The published parameter files have these names, which two equal branches get too
        names = [f"{branches[0]}_att"] if len(branches) == 1 else ["local_att", "global_att"]
        with self.name_scope():
            self._add_contexts(names, channels, r, norm, branches, context)

    def _add_contexts(
        self, names: Sequence[str], channels: int, r: int, norm: Norm, branches: Sequence[str], context: str
    ) -> None:
        for name, branch in zip(names, branches):
            setattr(self, name, context_branch(channels, r, branch=branch, norm=norm, context=context))

    def _weight(self, F: Any, features: Any, suffix: str = "") -> Any:
        """Return the attention weight of `features` from the branches whose names end in `att` and `suffix`."""
        names = [f"{branch}_att{suffix}" for branch in BRANCHES]
        return attention_weight(F, features, *(getattr(self, name) for name in names if hasattr(self, name)))


class MSCAM(_ContextAttention):
    """Weight channels at multiple scales: x * w, where w = sigmoid(local(x) + global(x)) (MS-CAM; paper, Eq. 3).

    Shapes: (N, C, H, W) -> (N, C, H, W). The arguments are those of AFF.
    """

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return x * w, (N, C, H, W)."""
        return x * self._weight(F, x)


class DirectAdd(HybridBlock):
    """Add X and Y, (N, C, H, W) each, as plain ResNets do. The arguments of the other fusions have no effect."""

    def __init__(self, channels: Any = None, r: Any = None, norm: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def hybrid_forward(self, F: Any, y: Any, x: Any) -> Any:
        """Return Y + X, (N, C, H, W)."""
        return y + x


class Concatenation(HybridBlock):
    """Concatenate Y and X, and project them to C channels by a 1x1 convolution: W_A X + W_B Y + b (paper, Table 1).

    Shapes: y, x and output (N, C, H, W). Without `projected` the output is (N, 2 C, H, W).

    Args:
        channels: C.
        norm: makes a normalisation layer from `in_channels`.
        normalised: whether BN precedes the convolution.
        projected: whether there is a convolution.
    """

    def __init__(
        self,
        channels: int,
        norm: Norm = nn.BatchNorm,
        *,
        normalised: bool = True,
        projected: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.fuse = sequential(
                *([norm(in_channels=2 * channels)] if normalised else []),
                *([nn.Conv2D(channels, 1, in_channels=2 * channels)] if projected else []),
            )

    def hybrid_forward(self, F: Any, y: Any, x: Any) -> Any:
        """Return the fused feature, (N, C, H, W) or (N, 2 C, H, W)."""
        return self.fuse(joined(F, y, x))


class GatedSum(_ContextAttention):
    """Add X and Y, one of them multiplied by an attention weight: w * X + Y or X + w * Y (paper, Tables 1 and 4).

    These are MS-GAU, MS-SENet and MS-SA, and with the global context alone GAU and SENet.

    Shapes: y, x and output (N, C, H, W). The further arguments are those of AFF.

    Args:
        reads: 'Y' or 'X+Y', the input from which w is computed.
        gates: 'X' or 'Y', the feature that w multiplies.
    """

    def __init__(
        self, channels: int, r: int = 4, norm: Norm = nn.BatchNorm, *, reads: str, gates: str, **kwargs: Any
    ) -> None:
        super().__init__(channels, r, norm, **kwargs)
        self._reads_both = reads == "X+Y"
        self._gates = gates

    def hybrid_forward(self, F: Any, y: Any, x: Any) -> Any:
        """Return the fused feature, (N, C, H, W)."""
        weight = self._weight(F, y + x if self._reads_both else y)
        return weight * x + y if self._gates == "X" else x + weight * y


class AFF(_ContextAttention):
    """Fuse by attention: scale * (w * Y + (1 - w) * X), where w is computed from X + Y (AFF; paper, Eq. 4).

    Shapes: y, x and output (N, C, H, W).

    Args:
        channels: C.
        r: channel reduction ratio of the context branches.
        norm: makes a normalisation layer from `in_channels`.
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
        norm: Norm = nn.BatchNorm,
        scale: float = 2.0,
        *,
        gates: str = "Y",
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, r, norm, **kwargs)
        self.scale = scale
        self._gates = gates

    def hybrid_forward(self, F: Any, y: Any, x: Any) -> Any:
        """Return the fused feature, (N, C, H, W)."""
        return self.scale * selected(y, x, self._weight(F, y + x), self._gates)


class iAFF(AFF):
    """Fuse by iterative attention: compute w from a first attentional fusion of X and Y (iAFF; paper, Eqs. 4 and 5).

    Each of the two fusions has its own context branches. Shapes and arguments are those of AFF. The published weights
    need scale 1.
    """

    def __init__(
        self,
        channels: int,
        r: int = 4,
        norm: Norm = nn.BatchNorm,
        scale: float = 1.0,
        *,
        branches: Tuple[str, str] = BRANCHES,
        context: str = "bottleneck",
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, r, norm, scale, branches=branches, context=context, **kwargs)
        with self.name_scope():
            self._add_contexts(["local_att2", "global_att2"], channels, r, norm, branches, context)

    def hybrid_forward(self, F: Any, y: Any, x: Any) -> Any:
        """Return the fused feature, (N, C, H, W)."""
        integrated = selected(y, x, self._weight(F, y + x), self._gates)
        return self.scale * selected(y, x, self._weight(F, integrated, "2"), self._gates)


class SelectiveKernel(HybridBlock):
    """Fuse as SKNet does: scale * (w * Y + (1 - w) * X), where w is a softmax over two global contexts of X + Y.

    Shapes: y, x and output (N, C, H, W).

    Args:
        channels: C.
        r: channel reduction ratio.
        norm: makes a normalisation layer from `in_channels`.
        scale: factor on the output, as in AFF.
        gates: 'Y' or 'X', the feature that the first C logits weight, as in AFF.
    """

    def __init__(
        self,
        channels: int,
        r: int = 4,
        norm: Norm = nn.BatchNorm,
        scale: float = 2.0,
        *,
        gates: str = "Y",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self._gates = gates
        with self.name_scope():
            self.global_att = context_branch(channels, r, branch="global", norm=norm, outputs=2 * channels)

    def hybrid_forward(self, F: Any, y: Any, x: Any) -> Any:
        """Return the fused feature, (N, C, H, W)."""
        first, second = F.split(self.global_att(y + x), num_outputs=2, axis=1)
        # A softmax over two logits is the sigmoid of their difference
        weight = F.Activation(add_to_maps(F, F.zeros_like(x), first - second), act_type="sigmoid")
        return self.scale * selected(y, x, weight, self._gates)
