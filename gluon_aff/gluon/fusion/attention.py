"""MS-CAM, and the fusions of two features: sums, gated sums, selections (AFF, iAFF, SKNet's), concatenation.

Each fusion is called with Y, then X: Y is the feature with the larger receptive field (a block's learned branch, the
5x5 branch, the high level), X the other (its shortcut, the 3x3 branch, the low level). w is an attention weight.
"""

from __future__ import annotations

from typing import Any, Sequence, Tuple

from mxnet.gluon import HybridBlock, nn

from gluon_aff.gluon.fusion.context import Norm, add_to_maps, context_branch, joined, sequential
from gluon_aff.operators import BRANCHES


def weighted_mean(first: Any, second: Any, weight: Any) -> Any:
    """Return weight * first + (1 - weight) * second, written with one product."""
    return (first - second) * weight + second


def selected(y: Any, x: Any, weight: Any, gates: str) -> Any:
    """Y and X weighted: the one called `gates` by `weight`, the other by 1 - weight."""
    return weighted_mean(x, y, weight) if gates == "X" else weighted_mean(y, x, weight)


def attention_weight(F: Any, features: Any, *contexts: Any) -> Any:
    """Sigmoid of the sum of contexts, in (0, 1), same shape as `features` (M in the paper's Eq. 3)."""
    maps = [context(features) for context in contexts if not context.pooled]
    values = [context(features) for context in contexts if context.pooled]
    context = sum(maps[1:], maps[0]) if maps else F.zeros_like(features)
    if values:
        context = add_to_maps(F, context, sum(values[1:], values[0]))
    return F.Activation(context, act_type="sigmoid")  # oneDNN has this one, and not F.sigmoid


class _ContextAttention(HybridBlock):
    """Block with context branches for maps of `channels` channels; arguments as in AFF."""

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
        # Parameter names of the published files, which a pair of equal ones keeps
        names = [f"{branches[0]}_att"] if len(branches) == 1 else ["local_att", "global_att"]
        with self.name_scope():
            self._add_contexts(names, channels, r, norm, branches, context)

    def _add_contexts(
        self, names: Sequence[str], channels: int, r: int, norm: Norm, branches: Sequence[str], context: str
    ) -> None:
        for name, branch in zip(names, branches):
            setattr(self, name, context_branch(channels, r, branch=branch, norm=norm, context=context))

    def _weight(self, F: Any, features: Any, suffix: str = "") -> Any:
        """Attention weight of `features` by the branches whose names end in `att` and `suffix`."""
        names = [f"{branch}_att{suffix}" for branch in BRANCHES]
        return attention_weight(F, features, *(getattr(self, name) for name in names if hasattr(self, name)))


class MSCAM(_ContextAttention):
    """Multi-scale channel attention: x * w, w = sigmoid(local(x) + global(x)) (paper, Eq. 3).

    Shapes: (N, C, H, W) -> (N, C, H, W). Arguments as in AFF.
    """

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Attend to `x`."""
        return x * self._weight(F, x)


class DirectAdd(HybridBlock):
    """X + Y, (N, C, H, W) each: what plain ResNets do. Takes the other fusions' arguments and needs none."""

    def __init__(self, channels: int = 0, r: int = 4, norm: Norm = nn.BatchNorm, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def hybrid_forward(self, F: Any, y: Any, x: Any) -> Any:
        """Add."""
        return y + x


class Concatenation(HybridBlock):
    """[Y; X], by a 1x1 convolution with bias back to C channels (paper, Section 4.1: W_A X + W_B Y).

    Shapes: y, x and output (N, C, H, W); (N, 2 C, H, W) if not `projected`.

    Args:
        channels: C.
        norm: makes a normalisation layer from `in_channels`.
        normalised: BN in front of the convolution.
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
        """Fuse."""
        return self.fuse(joined(F, y, x))


class GatedSum(_ContextAttention):
    """w * X + Y or X + w * Y: MS-GAU, MS-SENet, MS-SA, and with global context only GAU and SENet (paper, Table 1).

    Shapes: y, x and output (N, C, H, W). Arguments as in AFF, and

    Args:
        reads: 'Y' or 'X+Y', what w is computed from.
        gates: 'X' or 'Y', what w multiplies.
    """

    def __init__(
        self, channels: int, r: int = 4, norm: Norm = nn.BatchNorm, *, reads: str, gates: str, **kwargs: Any
    ) -> None:
        super().__init__(channels, r, norm, **kwargs)
        self._reads_both = reads == "X+Y"
        self._gates = gates

    def hybrid_forward(self, F: Any, y: Any, x: Any) -> Any:
        """Fuse."""
        weight = self._weight(F, y + x if self._reads_both else y)
        return weight * x + y if self._gates == "X" else x + weight * y


class AFF(_ContextAttention):
    """Attentional feature fusion: scale * (w * Y + (1 - w) * X), w from X + Y (paper, Eq. 4).

    Shapes: y, x and output (N, C, H, W).

    Args:
        channels: C.
        r: channel reduction ratio of the context branches.
        norm: makes a normalisation layer from `in_channels`.
        scale: the paper's equation has 1; the published weights need the original code's 2.
        gates: 'Y' or 'X', what w multiplies: X in the paper and in the first release's Inception, Y in the code of the
            other networks and so in the published weights. The other gets 1 - w.
        branches: 'local' and 'global', the context branches that are added; one may stand twice (paper, Table 3).
        context: 'bottleneck' branches, or 'conv' for one convolution each, without `r`, as in the first release.
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
        """Fuse."""
        return self.scale * selected(y, x, self._weight(F, y + x), self._gates)


class iAFF(AFF):
    """Iterative AFF: the attention of AFF reads a first attentional fusion instead of a sum (paper, Eq. 4 with 5).

    Shapes and arguments as in AFF; the published weights have scale 1 here.
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
        """Fuse twice."""
        integrated = selected(y, x, self._weight(F, y + x), self._gates)
        return self.scale * selected(y, x, self._weight(F, integrated, "2"), self._gates)


class SelectiveKernel(HybridBlock):
    """SKNet's fusion: scale * (w * Y + (1 - w) * X), w from the global context of X + Y by a softmax over the pair.

    Shapes: y, x and output (N, C, H, W).

    Args:
        channels: C.
        r: channel reduction ratio.
        norm: makes a normalisation layer from `in_channels`.
        scale: as in AFF.
        gates: 'Y' or 'X', what the first C logits weigh, as in AFF.
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
        """Fuse."""
        first, second = F.split(self.global_att(y + x), num_outputs=2, axis=1)
        # The softmax over a pair is the sigmoid of the difference
        weight = F.Activation(add_to_maps(F, F.zeros_like(x), first - second), act_type="sigmoid")
        return self.scale * selected(y, x, weight, self._gates)
