"""Compute dense labels, label smoothing and mixup (Zhang et al., 2018, arXiv:1710.09412) on NDArrays."""

from __future__ import annotations

import mxnet as mx


def dense_labels(labels: mx.nd.NDArray, classes: int, eta: float = 0.0) -> mx.nd.NDArray:
    """Return a row of probabilities for each label, with label smoothing.

    Args:
        labels: (N,), values in 0..classes - 1.
        classes: K, the number of outputs of the network.
        eta: label smoothing, 0..1. The label gets 1 - eta + eta / K, every other class eta / K. 0 gives one-hot rows.

    Returns:
        float32 (N, K), on the device of the labels.
    """
    off = eta / classes
    return mx.nd.one_hot(labels, depth=classes, on_value=1 - eta + off, off_value=off)


def mixup(batch: mx.nd.NDArray, weight: float) -> mx.nd.NDArray:
    """Mix a batch of images or dense labels with its reverse: weight * batch + (1 - weight) * reversed batch."""
    # Weights from a beta distribution can be as small as 1e-40, and MXNet refuses scalars that float32 cannot hold.
    weight = round(float(weight), 12)
    return weight * batch + (1 - weight) * mx.nd.flip(batch, axis=0)
