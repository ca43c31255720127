"""MS-CAM and the fusions of a block's learned branch with its shortcut: addition, AFF, iAFF."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock, nn

from gluon_aff.fusion.context import Norm, add_to_maps, context_branch


def weighted_mean(x: Any, y: Any, weight: Any) -> Any:
    """Return weight * x + (1 - weight) * y, written with one product."""
    return (x - y) * weight + y


def attention_weight(F: Any, features: Any, local_context: Any, global_context: Any) -> Any:
    """Sigmoid of local plus global context, in (0, 1), same shape as `features` (M in the paper's Eq. 3)."""
    context = add_to_maps(F, local_context(features), global_context(features))
    return F.Activation(context, act_type="sigmoid")  # oneDNN has this one, and not F.sigmoid


class _ContextAttention(HybridBlock):
    """Block with a local and a global context branch for maps of `channels` channels."""

    def __init__(self, channels: int, r: int = 4, norm: Norm = nn.BatchNorm, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.local_att = context_branch(channels, r, pooled=False, norm=norm)
            self.global_att = context_branch(channels, r, pooled=True, norm=norm)


class MSCAM(_ContextAttention):
    """Multi-scale channel attention: x * sigmoid(local(x) + global(x)) (paper, Eq. 3).

    Shapes: (N, C, H, W) -> (N, C, H, W).

    Args:
        channels: C.
        r: channel reduction ratio of the context branches.
        norm: makes a normalisation layer from `in_channels`.
    """

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Attend to `x`."""
        return x * attention_weight(F, x, self.local_att, self.global_att)


class DirectAdd(HybridBlock):
    """x + residual, (N, C, H, W) each: what plain ResNets do. Takes the other fusions' arguments and needs none."""

    def __init__(self, channels: int = 0, r: int = 4, norm: Norm = nn.BatchNorm, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def hybrid_forward(self, F: Any, x: Any, residual: Any) -> Any:
        """Add."""
        return x + residual


class AFF(_ContextAttention):
    """Attentional feature fusion: scale * (w * x + (1 - w) * residual), w from x + residual (paper, Eq. 4).

    Shapes: x, residual and output (N, C, H, W); x is the learned branch, residual the shortcut. The paper weighs the
    shortcut with w, the original's code and so the published weights the learned branch.

    Args:
        channels: C.
        r: channel reduction ratio of the context branches.
        norm: makes a normalisation layer from `in_channels`.
        scale: the paper's equation has 1; the published weights need the original code's 2.
    """

    def __init__(self, channels: int, r: int = 4, norm: Norm = nn.BatchNorm, scale: float = 2.0, **kwargs: Any) -> None:
        super().__init__(channels, r, norm, **kwargs)
        self.scale = scale

    def hybrid_forward(self, F: Any, x: Any, residual: Any) -> Any:
        """Fuse."""
        weight = attention_weight(F, x + residual, self.local_att, self.global_att)
        return self.scale * weighted_mean(x, residual, weight)


class iAFF(AFF):
    """Iterative AFF: the attention of AFF reads a first attentional fusion instead of a sum (paper, Eq. 4 with 5).

    Shapes and arguments as in AFF; the published weights have scale 1 here.
    """

    def __init__(self, channels: int, r: int = 4, norm: Norm = nn.BatchNorm, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(channels, r, norm, scale, **kwargs)
        with self.name_scope():
            self.local_att2 = context_branch(channels, r, pooled=False, norm=norm)
            self.global_att2 = context_branch(channels, r, pooled=True, norm=norm)

    def hybrid_forward(self, F: Any, x: Any, residual: Any) -> Any:
        """Fuse twice."""
        first = attention_weight(F, x + residual, self.local_att, self.global_att)
        integrated = weighted_mean(x, residual, first)
        second = attention_weight(F, integrated, self.local_att2, self.global_att2)
        return self.scale * weighted_mean(x, residual, second)
