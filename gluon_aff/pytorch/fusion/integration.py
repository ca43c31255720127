"""Integrate features of earlier blocks by attention weights for each channel (AFINets paper, Eqs. 1 and 2)."""

from __future__ import annotations

from typing import Optional, Sequence

import torch
from torch import Tensor, nn

from gluon_aff.errors import InputError
from gluon_aff.operators import reduced


class AFI(nn.Module):
    """Sum n features with weights for each channel: R = sum of w_i X_i, where the w_i are a softmax over the features.

    The logits of X_i are W2 relu(W1 mean(X_i)), without biases; all features share W1 and W2. With one feature, R is
    that feature.

    Shapes: a sequence of n features (N, channels, H, W), n >= 1, -> (N, channels, H, W).

    Args:
        channels: channels of each feature.
        r: channel reduction ratio of the logits. W1 is (channels // r, channels), but has at least one row.

    Raises:
        InputError: there are no channels, or `r` is not a whole number from 1.
    """

    def __init__(self, channels: int, r: int) -> None:
        super().__init__()
        if channels < 1:
            raise InputError(f"AFI of {channels} channels: the network is too narrow")
        hidden = max(reduced(channels, r), 1)
        self.reduce = nn.Linear(channels, hidden, bias=False)
        self.score = nn.Linear(hidden, channels, bias=False)

    def forward(self, features: Sequence[Tensor], means: Optional[Sequence[Tensor]] = None) -> Tensor:
        """Return R, (N, channels, H, W).

        Args:
            features: X_1 to X_n.
            means: their means over height and width, (N, channels) each. If None, they are computed here.
        """
        if means is None:
            means = [each.mean(dim=(2, 3)) for each in features]
        scores = self.score(torch.relu(self.reduce(torch.stack(tuple(means), dim=1))))
        # Cast to the features' type: autocast computes the softmax in float32, in which R would take twice the memory
        weights = scores.softmax(dim=1).to(means[0].dtype)[..., None, None].unbind(dim=1)
        # One product at a time: a stack of all features would take as much memory again
        first, *others = (weight * each for weight, each in zip(weights, features))
        return sum(others, first)
