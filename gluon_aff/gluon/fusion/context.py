"""Context branches of MS-CAM: channel attention logits from each position or from the whole map."""

from __future__ import annotations

from typing import Any, Callable, Optional

from mxnet.gluon import HybridBlock, nn

from gluon_aff.operators import bottleneck_width, check_context

Norm = Callable[..., Any]


def sequential(*layers: HybridBlock) -> nn.HybridSequential:
    """Chain `layers`; child positions are the parameter names of the published files."""
    chain = nn.HybridSequential(prefix="")
    chain.add(*layers)
    return chain


class GlobalAveragePool(HybridBlock):
    """Mean over height and width, (N, C, H, W) -> (N, C, 1, 1): the value of Gluon's GlobalAvgPool2D."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the mean of each channel."""
        return global_mean(F, x)


# On CPUs, MXNet's backward passes of global pooling and of broadcasting take a third of a training step; those of
# products with a constant row are products again (docs/performance.md).


def global_mean(F: Any, maps: Any) -> Any:
    """Mean over height and width, (N, C, H, W) -> (N, C, 1, 1), as a matrix product."""
    flat = _flat(F, maps)
    shares = F.softmax(F.zeros_like(_one_map(F, flat)))  # 1 / (H * W) each: shapes are not known here
    return F.expand_dims(F.dot(flat, F.reshape(shares, shape=(-1, 1))), axis=3)


def add_to_maps(F: Any, maps: Any, values: Any) -> Any:
    """Add a value to each map: (N, C, H, W) and (N, C, 1, 1) -> (N, C, H, W)."""
    spread = F.dot(_flat(F, values), F.ones_like(_one_map(F, _flat(F, maps))))
    return maps + F.reshape_like(spread, maps)


JOINED = (0, -3, -2)  # MXNet's codes for a shape whose second and third axes are one


def joined(F: Any, first: Any, second: Any, in_turns: bool = False) -> Any:
    """Two arrays (N, C, H, W) -> (N, 2C, H, W): the first's channels before the second's, or in turns (ShuffleNet)."""
    # Not concat: on CPUs the gradient of oneDNN's, after convolutions of other widths, crashes (SIGFPE)
    return F.reshape(F.stack(first, second, axis=2 if in_turns else 1), shape=JOINED)


def _flat(F: Any, maps: Any) -> Any:
    """(N, C, H, W) -> (N, C, H * W)."""
    return F.reshape(maps, shape=(0, 0, -1))


def _one_map(F: Any, flat: Any) -> Any:
    """(N, C, H * W) -> (1, H * W): what a constant row takes its length, type and device from."""
    first = F.slice_axis(F.slice_axis(flat, axis=0, begin=0, end=1), axis=1, begin=0, end=1)
    return F.reshape(first, shape=(1, -1))


class ContextBranch(nn.HybridSequential):
    """Chain of layers that knows whether it starts with a global average pool (`pooled`)."""

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
    """Channel attention logits: 1x1 conv to C/r, BN, ReLU, 1x1 conv, BN (paper, Eq. 1, 2).

    Args:
        channels: C, width of the (N, C, H, W) input.
        r: channel reduction ratio; the bottleneck has C // r channels.
        branch: 'local', (N, outputs, H, W), or 'global': (N, outputs, 1, 1), behind a global average pool.
        norm: makes a normalisation layer from `in_channels`.
        context: 'conv' is 1x1 conv to C, BN instead, without `r`, as in the first release's ablations.
        outputs: C if None.

    Raises:
        InputError: if `r` leaves no channel, or for an unknown branch or context.
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
