"""Attentive feature integration: features of earlier blocks, weighted per channel (AFINets, Eqs. 1 and 2)."""

from __future__ import annotations

from typing import Optional, Sequence

import torch
from torch import Tensor, nn

from gluon_aff.errors import InputError
from gluon_aff.operators import reduced


class AFI(nn.Module):
    """Mean of n features, weighted per channel by a softmax over them: R = sum of w_i X_i.

    The logits of X_i are W2 relu(W1 mean(X_i)), with the same W1 and W2 for all, without bias. Of one feature R is that
    feature.

    Shapes: a sequence of any number n of features (N, channels, H, W) -> (N, channels, H, W).

    Args:
        channels: of each feature.
        r: channel reduction ratio of the scorer; W1 is (channels // r, channels), one row at least.

    Raises:
        InputError: if there are no channels, or `r` is no whole number from 1.
    """

    def __init__(self, channels: int, r: int) -> None:
        super().__init__()
        if channels < 1:
            raise InputError(f"AFI of {channels} channels: the network is too narrow")
        hidden = max(reduced(channels, r), 1)
        self.reduce = nn.Linear(channels, hidden, bias=False)
        self.score = nn.Linear(hidden, channels, bias=False)

    def forward(self, features: Sequence[Tensor], means: Optional[Sequence[Tensor]] = None) -> Tensor:
        """Return R.

        Args:
            features: X_1 to X_n.
            means: their means over height and width, (N, channels) each, where the caller has them already.
        """
        if means is None:
            means = [each.mean(dim=(2, 3)) for each in features]
        scores = self.score(torch.relu(self.reduce(torch.stack(tuple(means), dim=1))))
        # Of the features' type: autocast computes the softmax in float32, and so R would be twice as large
        weights = scores.softmax(dim=1).to(means[0].dtype)[..., None, None].unbind(dim=1)
        # One product at a time: a stack of the features would need as much memory again
        first, *others = (weight * each for weight, each in zip(weights, features))
        return sum(others, first)
