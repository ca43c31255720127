"""Attentive feature integration: features of earlier blocks, weighted per channel (AFINets, Eqs. 1 and 2)."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock, nn

from gluon_aff.errors import InputError
from gluon_aff.fusion.context import global_mean


class AFI(HybridBlock):
    """Mean of n features, weighted per channel by a softmax over them: R = sum of w_i X_i.

    The logits of X_i are W2 relu(W1 mean(X_i)), with the same W1 and W2 for all, without bias. Of one feature R is that
    feature.

    Shapes: any number of features (N, channels, H, W), given one after another, -> (N, channels, H, W).

    Args:
        channels: of each feature.
        r: channel reduction ratio of the scorer; W1 is (channels // r, channels), one row at least.

    Raises:
        InputError: if there are no channels.
    """

    def __init__(self, channels: int, r: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if channels < 1:
            raise InputError(f"AFI of {channels} channels: the network is too narrow")
        hidden = max(channels // r, 1)
        with self.name_scope():
            self.reduce = nn.Dense(hidden, in_units=channels, use_bias=False, activation="relu", flatten=False)
            self.score = nn.Dense(channels, in_units=hidden, use_bias=False, flatten=False)

    def hybrid_forward(self, F: Any, *features: Any) -> Any:
        """Integrate."""
        means = F.stack(*(F.reshape(global_mean(F, each), shape=(0, -1)) for each in features), axis=1)
        weights = F.softmax(self.score(self.reduce(means)), axis=1)  # (N, n, C)
        weights = F.reshape(weights, shape=(0, 0, 0, 1, 1))
        # One product at a time, so that memory grows with the features and not with a stack of their products too
        parts = [
            F.broadcast_mul(each, F.squeeze(F.slice_axis(weights, axis=1, begin=i, end=i + 1), axis=1))
            for i, each in enumerate(features)
        ]
        return sum(parts[1:], parts[0])
