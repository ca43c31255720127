"""Check that an exported file computes the same as its network."""

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
    """Result of a comparison between a network and its exported file.

    Attributes:
        shapes: shapes of the batches of random images, (N, 3, H, W) each.
        difference: largest absolute difference between two logits.
        largest: largest absolute logit of the network.
    """

    shapes: Tuple[Tuple[int, int, int, int], ...]
    difference: float
    largest: float


def agree(network: Infer, file: Logits, input_size: int, what: str) -> Agreement:
    """Compare the exported file with its network on random images.

    There are three images of the network's input size, and two of another size that is neither square nor even.

    Args:
        network: inference of the network, (N, 3, H, W) -> (N, K), which counts as right.
        file: inference of the exported file, with the same shapes.
        input_size: side of the network's input in pixels.
        what: what a message calls the file.

    Raises:
        GluonAFFError: logits differ by more than `TOLERANCE` times the network's largest logit, or are not finite.
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
    """Return the largest absolute value, or NaN if there is one, which Python's max could miss."""
    return float(np.max([np.abs(array).max() for array in arrays]))
