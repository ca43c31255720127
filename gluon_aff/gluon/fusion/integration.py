"""Integrate features of earlier blocks by attention weights for each channel (AFINets paper, Eqs. 1 and 2)."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock, nn

from gluon_aff.errors import InputError
from gluon_aff.gluon.fusion.context import GlobalAveragePool
from gluon_aff.operators import reduced


class AFI(HybridBlock):
    """Sum n features with weights for each channel: R = sum of w_i X_i, where the w_i are a softmax over the features.

    The logits of X_i are W2 relu(W1 mean(X_i)), without biases; all features share W1 and W2. With one feature, R is
    that feature.

    Shapes: n features (N, channels, H, W), n >= 1, passed one after another, -> (N, channels, H, W).

    Args:
        channels: channels of each feature.
        r: channel reduction ratio of the logits. W1 is (channels // r, channels), but has at least one row.
        means_given: whether the caller, who needs the features' means anyway, passes them after the features, (N,
            channels, 1, 1) each.

    Raises:
        InputError: there are no channels, or `r` is not a whole number from 1.
    """

    def __init__(self, channels: int, r: int, means_given: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if channels < 1:
            raise InputError(f"AFI of {channels} channels: the network is too narrow")
        hidden = max(reduced(channels, r), 1)
        with self.name_scope():
            self.pool = None if means_given else GlobalAveragePool()
            self.reduce = nn.Dense(hidden, in_units=channels, use_bias=False, activation="relu", flatten=False)
            self.score = nn.Dense(channels, in_units=hidden, use_bias=False, flatten=False)

    def hybrid_forward(self, F: Any, *features: Any) -> Any:
        """Return R, (N, channels, H, W)."""
        if self.pool is None:
            features, means = features[: len(features) // 2], features[len(features) // 2 :]
        else:
            means = tuple(map(self.pool, features))
        scores = self.score(self.reduce(F.stack(*(F.reshape(each, shape=(0, -1)) for each in means), axis=1)))
        weights = F.reshape(F.softmax(scores, axis=1), shape=(0, 0, 0, 1, 1))
        # One product at a time: a stack of all features would take as much memory again
        parts = [
            F.broadcast_mul(each, F.squeeze(F.slice_axis(weights, axis=1, begin=i, end=i + 1), axis=1))
            for i, each in enumerate(features)
        ]
        return sum(parts[1:], parts[0])
