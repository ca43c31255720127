"""Whether a file computes what its network does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence, Tuple

import numpy as np

from gluon_aff.engines import Infer, Logits
from gluon_aff.errors import GluonAFFError

TOLERANCE = 1e-5
SEED = 0


@dataclass(frozen=True)
class Agreement:
    """What was compared.

    Attributes:
        shapes: of the images, (N, 3, H, W) each.
        difference: largest absolute difference of two logits.
        largest: largest absolute logit.
    """

    shapes: Tuple[Tuple[int, int, int, int], ...]
    difference: float
    largest: float


def agree(network: Infer, file: Logits, input_size: int, what: str) -> Agreement:
    """Compare on random images: three of the network's size, then two of another that is neither square nor even.

    Args:
        network: (N, 3, H, W) -> (N, K), the truth.
        file: likewise, waited for.
        input_size: the network's.
        what: what to call the file in a message.

    Raises:
        GluonAFFError: logits differ by more than `TOLERANCE` times the largest of the network's, or are not finite.
    """
    rng = np.random.default_rng(SEED)
    shapes = ((3, 3, input_size, input_size), (2, 3, input_size + 17, input_size + 32))
    images = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    expected = [network(batch)() for batch in images]
    largest = _largest(expected)
    if not np.isfinite(largest):
        raise GluonAFFError("the network's outputs for random images are not finite: look for damaged weights")
    found = [file(batch) for batch in images]
    difference = _largest([f - e for f, e in zip(found, expected)])
    if not difference <= TOLERANCE * largest:
        raise GluonAFFError(
            f"{what} differs from the network by {difference:.2g} in logits of up to {largest:.2g}, so it was not "
            "kept: please report this with the versions of onnx and onnxruntime"
        )
    return Agreement(shapes, difference, largest)


def _largest(arrays: Sequence[np.ndarray]) -> float:
    """Largest absolute value; NaN if there is one, which Python's max would pass over."""
    return float(np.max([np.abs(array).max() for array in arrays]))
