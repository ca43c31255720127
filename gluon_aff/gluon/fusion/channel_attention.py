"""Apply attention to one feature, (N, C, H, W) -> (N, C, H, W): SE, GE, CBAM and ECA (AFINets paper, Table 2)."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict

from mxnet.gluon import HybridBlock, nn

from gluon_aff.gluon.fusion.context import GlobalAveragePool, joined, sequential
from gluon_aff.operators import reduced


class SE(HybridBlock):
    """Squeeze and excite: multiply x by the sigmoid of two layers applied to its spatial mean (Hu et al. 2018).

    Args:
        channels: C.
        r: channel reduction ratio.
    """

    def __init__(self, channels: int, r: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        hidden = max(reduced(channels, r), 1)
        with self.name_scope():
            self.pool = GlobalAveragePool()
            self.excitation = sequential(
                nn.Conv2D(hidden, 1, in_channels=channels, use_bias=False),
                nn.Activation("relu"),
                nn.Conv2D(channels, 1, in_channels=hidden, use_bias=False),
            )

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the weighted feature, (N, C, H, W)."""
        return F.broadcast_mul(x, F.sigmoid(self.excitation(self.pool(x))))


class GE(HybridBlock):
    """Gather and excite, globally and without parameters: x * sigmoid(mean(x)) (GE-theta-minus; Hu et al. 2018)."""

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.pool = GlobalAveragePool()

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the weighted feature, (N, C, H, W)."""
        return F.broadcast_mul(x, F.sigmoid(self.pool(x)))


class CBAM(SE):
    """Apply channel attention from mean and maximum, then spatial attention by a 7x7 convolution (Woo et al. 2018).

    The arguments are those of SE.
    """

    def __init__(self, channels: int, r: int = 16, **kwargs: Any) -> None:
        super().__init__(channels, r, **kwargs)
        with self.name_scope():
            self.spatial = nn.Conv2D(1, 7, padding=3, in_channels=2, use_bias=False)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the weighted feature, (N, C, H, W)."""
        strongest = F.max(x, axis=(2, 3), keepdims=True)
        x = F.broadcast_mul(x, F.sigmoid(self.excitation(self.pool(x)) + self.excitation(strongest)))
        both = joined(F, F.mean(x, axis=1, keepdims=True), F.max(x, axis=1, keepdims=True))
        return F.broadcast_mul(x, F.sigmoid(self.spatial(both)))


class ECA(HybridBlock):
    """Multiply x by the sigmoid of a convolution over the means of neighbouring channels (Wang et al. 2020).

    Args:
        channels: C. It decides the kernel's width: (log2(C) + 1) / 2, rounded down, and the next odd number if that is
            even.
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        width = int(abs((math.log2(channels) + 1) / 2))
        width += 1 - width % 2
        with self.name_scope():
            self.pool = GlobalAveragePool()
            self.neighbours = nn.Conv2D(1, (1, width), padding=(0, width // 2), in_channels=1, use_bias=False)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the weighted feature, (N, C, H, W)."""
        means = F.reshape(self.pool(x), shape=(0, 1, 1, -1))
        weights = F.reshape(F.sigmoid(self.neighbours(means)), shape=(0, -1, 1, 1))
        return F.broadcast_mul(x, weights)


CHANNEL_ATTENTIONS: Dict[str, Callable[[int], HybridBlock]] = {"SE": SE, "GE": GE, "CBAM": CBAM, "ECA": ECA}
