"""Segmentation as a task: soft IoU loss, IoU and nIoU, for masks (N, 1, H, W) of 0 and 1."""

from __future__ import annotations

from typing import Iterable, List, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock

from gluon_aff.distributed.cluster import Cluster
from gluon_aff.training.loop import ALONE, Batch, LossFunction, sums

SMOOTH = 1.0


class Masks:
    """The task of finding masks; the metric while training is the IoU over a slice."""

    def pair(self, x: mx.nd.NDArray, y: mx.nd.NDArray, weight: float) -> Batch:
        """Images and masks as they are."""
        return x, y

    def loss_function(self) -> LossFunction:
        """Soft IoU loss."""
        return lambda output, target, x: soft_iou_loss(output, target)

    def metric(self, output: mx.nd.NDArray, target: mx.nd.NDArray, y: mx.nd.NDArray) -> mx.nd.NDArray:
        """IoU over all images of the slice."""
        intersection, union = (part.sum() for part in overlaps(output, target))
        return intersection / mx.nd.maximum(union, 1)

    def error(self, metric: float) -> float:
        """1 - IoU."""
        return 1 - metric


def soft_iou_loss(logits: mx.nd.NDArray, masks: mx.nd.NDArray) -> mx.nd.NDArray:
    """1 - (sum(p t) + 1) / (sum(p + t - p t) + 1), p = sigmoid(logits), over all pixels of all images: (1,).

    As in the authors' sister project: a sign counts by its size in the batch, and the loss is 0 where p is t.
    """
    probabilities = logits.sigmoid()
    intersection = (probabilities * masks).sum()
    union = probabilities.sum() + masks.sum() - intersection
    return 1 - (intersection + SMOOTH) / (union + SMOOTH)


def overlaps(logits: mx.nd.NDArray, masks: mx.nd.NDArray) -> Tuple[mx.nd.NDArray, mx.nd.NDArray]:
    """Pixels in the intersection and in the union of prediction (logit above 0) and mask of each image: (N,) each."""
    predicted = logits > 0
    return (predicted * masks).sum(axis=(1, 2, 3)), mx.nd.maximum(predicted, masks).sum(axis=(1, 2, 3))


def iou_and_niou(
    net: HybridBlock, batches: Iterable[Batch], contexts: List[mx.Context], cluster: Cluster = ALONE
) -> Tuple[float, float]:
    """IoU and nIoU of `net` on the `batches` of all workers, in 0..1, each image counted once.

    IoU is of the pixels of all images together, which is the paper's figure; nIoU the mean of the images' own IoUs, 0
    for one without any pixel in mask and prediction, as in the authors' sister project.
    """
    intersection, union, ratios, images = sums(net, batches, contexts, _count, 4, cluster)
    return intersection / max(union, 1), ratios / images


def _count(output: mx.nd.NDArray, masks: mx.nd.NDArray) -> mx.nd.NDArray:
    """Pixels in all intersections and in all unions, the images' IoUs, and their number."""
    intersection, union = overlaps(output, masks)
    images = mx.nd.array([len(masks)], ctx=masks.context)
    return mx.nd.concat(intersection.sum(), union.sum(), (intersection / mx.nd.maximum(union, 1)).sum(), images, dim=0)
