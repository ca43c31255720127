"""Compute channel attention logits by the context branches of MS-CAM, at each position or from the whole map."""

from __future__ import annotations

from typing import Any, Callable, Optional

from mxnet.gluon import HybridBlock, nn

from gluon_aff.operators import bottleneck_width, check_context

Norm = Callable[..., Any]


def sequential(*layers: HybridBlock) -> nn.HybridSequential:
    """Chain `layers` so that their positions are part of the parameter names, as in the published files."""
    chain = nn.HybridSequential(prefix="")
    chain.add(*layers)
    return chain


class GlobalAveragePool(HybridBlock):
    """Average over height and width like Gluon's GlobalAvgPool2D, (N, C, H, W) -> (N, C, 1, 1)."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the mean of each channel, (N, C, 1, 1)."""
        return global_mean(F, x)


# On CPUs, MXNet's backward passes of global pooling and of broadcasting take a third of a training step. The functions
# below use products with a constant row instead, whose backward passes are products too (docs/performance.md).


def global_mean(F: Any, maps: Any) -> Any:
    """Average over height and width, (N, C, H, W) -> (N, C, 1, 1), as a matrix product."""
    flat = _flat(F, maps)
    shares = F.softmax(F.zeros_like(_one_map(F, flat)))  # 1 / (H * W) each, since shapes are not known here
    return F.expand_dims(F.dot(flat, F.reshape(shares, shape=(-1, 1))), axis=3)


def add_to_maps(F: Any, maps: Any, values: Any) -> Any:
    """Add a value to each map, as a matrix product: (N, C, H, W) and (N, C, 1, 1) -> (N, C, H, W)."""
    spread = F.dot(_flat(F, values), F.ones_like(_one_map(F, _flat(F, maps))))
    return maps + F.reshape_like(spread, maps)


JOINED = (0, -3, -2)  # MXNet's codes to merge the second and the third axis of a shape


def joined(F: Any, first: Any, second: Any, in_turns: bool = False) -> Any:
    """Concatenate two arrays (N, C, H, W) to (N, 2C, H, W).

    The channels of the first array come before those of the second, or alternate with them if `in_turns` (ShuffleNet).
    """
    # F.concat would crash (SIGFPE): on CPUs, oneDNN's gradient fails after convolutions of other widths
    return F.reshape(F.stack(first, second, axis=2 if in_turns else 1), shape=JOINED)


def _flat(F: Any, maps: Any) -> Any:
    """Flatten the maps: (N, C, H, W) -> (N, C, H * W)."""
    return F.reshape(maps, shape=(0, 0, -1))


def _one_map(F: Any, flat: Any) -> Any:
    """Return one map, (N, C, H * W) -> (1, H * W), from which a constant row takes its length, type and device."""
    first = F.slice_axis(F.slice_axis(flat, axis=0, begin=0, end=1), axis=1, begin=0, end=1)
    return F.reshape(first, shape=(1, -1))


class ContextBranch(nn.HybridSequential):
    """Chain layers, after a global average pool if `pooled`."""

    def __init__(self, *layers: HybridBlock, pooled: bool) -> None:
        super().__init__(prefix="")
        self.pooled = pooled
        self.add(*([GlobalAveragePool()] if pooled else []), *layers)


def context_branch(
    channels: int,
    r: int,
    *,
    branch: str,
    norm: Norm = nn.BatchNorm,
    context: str = "bottleneck",
    outputs: Optional[int] = None,
) -> ContextBranch:
    """Return a branch that computes attention logits: 1x1 conv to C/r, BN, ReLU, 1x1 conv, BN (paper, Eqs. 1 and 2).

    Args:
        channels: C, the channels of the input, (N, C, H, W).
        r: channel reduction ratio. The bottleneck has C // r channels.
        branch: 'local', whose output is (N, outputs, H, W), or 'global', which starts with a global average pool and
            whose output is (N, outputs, 1, 1).
        norm: makes a normalisation layer from `in_channels`.
        context: 'bottleneck', or 'conv' for 1x1 conv to `outputs` channels and BN, without `r`, as in the first
            release's ablations.
        outputs: channels of the output. If None, C.

    Raises:
        InputError: `r` leaves no channel, or the branch or context is unknown.
    """
    check_context(branch, context)
    outputs = outputs or channels
    if context == "conv":
        return ContextBranch(
            nn.Conv2D(outputs, 1, in_channels=channels), norm(in_channels=outputs), pooled=branch == "global"
        )
    width = bottleneck_width(channels, r)
    return ContextBranch(
        nn.Conv2D(width, 1, in_channels=channels),
        norm(in_channels=width),
        nn.Activation("relu"),
        nn.Conv2D(outputs, 1, in_channels=width),
        norm(in_channels=outputs),
        pooled=branch == "global",
    )
