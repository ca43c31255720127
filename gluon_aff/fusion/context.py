"""Context branches of MS-CAM: channel attention logits from each position or from the whole map."""

from __future__ import annotations

from typing import Any, Callable

from mxnet.gluon import HybridBlock, nn

from gluon_aff.errors import InputError

Norm = Callable[..., Any]


def sequential(*layers: HybridBlock) -> nn.HybridSequential:
    """Chain `layers`; child positions are the parameter names of the published files."""
    chain = nn.HybridSequential(prefix="")
    chain.add(*layers)
    return chain


class GlobalAveragePool(HybridBlock):
    """Mean over height and width, (N, C, H, W) -> (N, C, 1, 1).

    Same value as Gluon's GlobalAvgPool2D, whose backward pass takes a third of a training step on CPU.
    """

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the mean of each channel."""
        return F.mean(x, axis=(2, 3), keepdims=True)


def context_branch(channels: int, r: int, *, pooled: bool, norm: Norm = nn.BatchNorm) -> nn.HybridSequential:
    """1x1 conv to C/r, BN, ReLU, 1x1 conv to C, BN; behind a global average pool if `pooled` (paper, Eq. 1, 2).

    Args:
        channels: C, width of the (N, C, H, W) input and output.
        r: channel reduction ratio; the bottleneck has C // r channels.
        pooled: global context, (N, C, 1, 1), instead of local context, (N, C, H, W).
        norm: makes a normalisation layer from `in_channels`.

    Raises:
        InputError: if `r` leaves no channel.
    """
    width = int(channels // r)
    if width < 1:
        raise InputError(f"channel reduction ratio r={r} leaves no channel of {channels}: take r <= {channels}")
    layers = [
        nn.Conv2D(width, 1, in_channels=channels),
        norm(in_channels=width),
        nn.Activation("relu"),
        nn.Conv2D(channels, 1, in_channels=width),
        norm(in_channels=channels),
    ]
    return sequential(GlobalAveragePool(), *layers) if pooled else sequential(*layers)
