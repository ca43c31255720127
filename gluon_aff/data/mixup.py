"""Draw the weights of mixup (Zhang et al., 2018, arXiv:1710.09412)."""

from __future__ import annotations

import numpy as np

from gluon_aff.data.randomness import Purpose, stream
from gluon_aff.errors import InputError


def draw_mixup_weights(alpha: float, seed: int, epoch: int, batches: int) -> np.ndarray:
    """Draw one weight for each batch of an epoch from Beta(alpha, alpha): float64 (batches,), in 0..1.

    Raises:
        InputError: alpha is not above 0.
    """
    if not alpha > 0:
        raise InputError(f"mixup's alpha is {alpha}, but it has to be above 0: change --mixup-alpha or drop --mixup")
    return stream(seed, epoch, Purpose.MIXUP).beta(alpha, alpha, size=batches)
