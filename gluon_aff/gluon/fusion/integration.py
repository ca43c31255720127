"""Attentive feature integration: features of earlier blocks, weighted per channel (AFINets, Eqs. 1 and 2)."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock, nn

from gluon_aff.errors import InputError
from gluon_aff.gluon.fusion.context import GlobalAveragePool
from gluon_aff.operators import reduced


class AFI(HybridBlock):
    """Mean of n features, weighted per channel by a softmax over them: R = sum of w_i X_i.

    The logits of X_i are W2 relu(W1 mean(X_i)), with the same W1 and W2 for all, without bias. Of one feature R is that
    feature.

    Shapes: any number n of features (N, channels, H, W), given one after another, -> (N, channels, H, W).

    Args:
        channels: of each feature.
        r: channel reduction ratio of the scorer; W1 is (channels // r, channels), one row at least.
        means_given: their means (N, channels, 1, 1) are given behind the features, by callers that need them again.

    Raises:
        InputError: if there are no channels, or `r` is no whole number from 1.
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
        """Integrate."""
        if self.pool is None:
            features, means = features[: len(features) // 2], features[len(features) // 2 :]
        else:
            means = tuple(map(self.pool, features))
        scores = self.score(self.reduce(F.stack(*(F.reshape(each, shape=(0, -1)) for each in means), axis=1)))
        weights = F.reshape(F.softmax(scores, axis=1), shape=(0, 0, 0, 1, 1))
        # One product at a time, so that memory grows with the features and no stack of them stands beside
        parts = [
            F.broadcast_mul(each, F.squeeze(F.slice_axis(weights, axis=1, begin=i, end=i + 1), axis=1))
            for i, each in enumerate(features)
        ]
        return sum(parts[1:], parts[0])
