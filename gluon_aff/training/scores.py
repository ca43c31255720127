"""Score a network on the validation batches of all workers, counting each image once."""

from __future__ import annotations

from typing import Iterable, Iterator, List, Tuple

import numpy as np

from gluon_aff.data.batches import Batch
from gluon_aff.engines import Cluster, Network
from gluon_aff.iteration import one_behind


def top1_accuracy(network: Network, batches: Iterable[Batch], cluster: Cluster) -> float:
    """Return the share in 0..1 of images whose class has the largest logit; of equal logits the first counts."""
    counts = np.zeros(2)
    for labels, logits in _outputs(network, batches):
        counts += (logits.argmax(axis=1) == labels).sum(), len(labels)
    correct, images = cluster.sum(counts.tolist())
    return correct / images


def iou_and_niou(network: Network, batches: Iterable[Batch], cluster: Cluster) -> Tuple[float, float]:
    """Return IoU and nIoU, in 0..1, for masks (N, 1, H, W); a pixel is predicted where its logit is above 0.

    IoU, the paper's figure, takes the pixels of all images together. nIoU is the mean of the IoUs of single images,
    which is 0 for an image without any pixel in mask and prediction, as in the authors' sister project.
    """
    sums: List[np.ndarray] = [np.zeros(4)]
    for masks, logits in _outputs(network, batches):
        intersections, unions = overlaps(logits, masks)
        ratios = intersections / np.maximum(unions, 1)
        sums.append(np.array([intersections.sum(), unions.sum(), ratios.sum(), len(masks)]))
    intersection, union, ratios, images = cluster.sum(np.sum(sums, axis=0).tolist())
    return intersection / max(union, 1), ratios / images


def overlaps(logits: np.ndarray, masks: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Count the pixels of each image in the intersection and in the union of prediction and mask.

    Args:
        logits: (N, 1, H, W); a pixel is predicted where its logit is above 0.
        masks: (N, 1, H, W), above 0 inside.

    Returns:
        Two arrays (N,).
    """
    predicted, there = logits > 0, masks > 0
    return (predicted & there).sum(axis=(1, 2, 3)), (predicted | there).sum(axis=(1, 2, 3))


def _outputs(network: Network, batches: Iterable[Batch]) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Yield labels and outputs of each batch; they are awaited while the next batch is being computed."""
    for labels, awaited in one_behind((labels, network.infer(images)) for images, labels in batches):
        yield labels, awaited()
