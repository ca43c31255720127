"""Measure top-1 and top-5 accuracy, loss and speed of a network on labelled images."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Iterable, Iterator, List, Optional, Tuple

import numpy as np
from tqdm import tqdm

from gluon_aff.data.batches import Batch
from gluon_aff.engines import Infer
from gluon_aff.errors import DataError, GluonAFFError
from gluon_aff.iteration import one_behind


@dataclass(frozen=True)
class ClassCount:
    """Counts the images of one class, and those of them whose likeliest prediction is this class."""

    label: int
    images: int
    correct: int


@dataclass(frozen=True)
class Evaluation:
    """Holds the figures of a network on a data set.

    Attributes:
        images: number of images.
        top1: share of images whose class has the largest logit, 0..1; of equal logits, the one with the lowest label
            counts as the largest.
        top5: share of images whose class has one of the five largest logits, 0..1; always 1 with five outputs or fewer.
        loss: softmax cross-entropy, mean over the images.
        per_class: a count for each label, in the order of the labels.
        images_per_second: speed of reading and network together; if there are several batches, the first one, which
            compiles and allocates, does not count.
    """

    images: int
    top1: float
    top5: float
    loss: float
    per_class: List[ClassCount]
    images_per_second: float


@dataclass(frozen=True)
class _Scores:
    """Scores of N images: label, number of classes ranked before the right one (int), and loss (float64), (N,) each."""

    labels: np.ndarray
    ranks: np.ndarray
    losses: np.ndarray


def evaluate(
    infer: Infer, batches: Iterable[Batch], classes: Optional[int] = None, total: Optional[int] = None
) -> Evaluation:
    """Evaluate a network on all `batches`, going through them once.

    Args:
        infer: inference of the network, which returns logits (N, outputs).
        batches: images (N, 3, H, W) and labels (N,) of each batch, with any N above 0.
        classes: number of label values; the number of outputs if None. It may be smaller than the number of outputs
            (20 superclasses under a head of 100); even then all outputs compete.
        total: number of images, for the progress bar.

    Raises:
        DataError: there are no images, or a label is not among the classes or the outputs.
        GluonAFFError: an output is not finite.
    """
    parts: List[_Scores] = []
    times = [time.monotonic()]
    with tqdm(desc="evaluation", total=total, leave=False, disable=None, unit="image") as progress:
        for labels, logits in _logits(infer, batches):
            rows = logits.shape[1] if classes is None else classes
            parts.append(_score(labels, logits, rows, len(parts)))
            times.append(time.monotonic())
            progress.update(len(labels))
    if not parts:
        raise DataError("there are no images to evaluate: name a data set that has some")
    return _evaluation(parts, times, rows)


def _logits(infer: Infer, batches: Iterable[Batch]) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Yield labels (N,) and logits (N, outputs) of each batch, while the next batch is being computed.

    The first batch finishes before the second one starts, so that its time can be told apart.
    """
    steps = ((labels, infer(images)) for images, labels in batches)
    for labels, logits in itertools.chain(itertools.islice(steps, 1), one_behind(steps)):
        yield labels, logits()


def _score(labels: np.ndarray, logits: np.ndarray, classes: int, batch: int) -> _Scores:
    """Score the batch number `batch`, counted from 0."""
    if not np.isfinite(logits).all():
        raise GluonAFFError(
            f"the network's outputs for batch {batch} (counted from 0) are not finite: look for damaged weights, or "
            "use float32 if the network computes in float16"
        )
    indices = class_indices(labels, min(classes, logits.shape[1]), batch)
    return _Scores(indices, _ranks(logits, indices), _losses(logits, indices))


def class_indices(labels: np.ndarray, classes: int, batch: int) -> np.ndarray:
    """Return the labels of batch number `batch` as indices, (N,).

    Raises:
        DataError: a label is not in the range 0 to classes - 1.
    """
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise DataError(
            f"label {wrong[0]:g} in batch {batch} (counted from 0) is not in the range 0 to {classes - 1}: choose the "
            "data set that the network was trained for"
        )
    return labels.astype(np.intp)


def _ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how many classes rank before the right one, (N, K), (N,) -> (N,).

    A class ranks before the right one if its logit is larger, or equal and its label lower.
    """
    right = logits[np.arange(len(labels)), labels][:, np.newaxis]
    lower_label = np.arange(logits.shape[1]) < labels[:, np.newaxis]
    return ((logits > right) | ((logits == right) & lower_label)).sum(axis=1)


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the softmax cross-entropy in float64, (N, K), (N,) -> (N,)."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


def _evaluation(parts: List[_Scores], times: List[float], classes: int) -> Evaluation:
    """Return the figures of all batches; `times` are the start of the first batch and the end of each batch."""
    labels = np.concatenate([part.labels for part in parts])
    ranks = np.concatenate([part.ranks for part in parts])
    skipped = min(1, len(parts) - 1)
    timed = len(labels) - sum(len(part.labels) for part in parts[:skipped])
    return Evaluation(
        images=len(labels),
        top1=float((ranks < 1).mean()),
        top5=float((ranks < 5).mean()),
        loss=float(np.concatenate([part.losses for part in parts]).mean()),
        per_class=_per_class(labels, ranks < 1, classes),
        images_per_second=timed / (times[-1] - times[skipped]),
    )


def _per_class(labels: np.ndarray, correct: np.ndarray, classes: int) -> List[ClassCount]:
    images = np.bincount(labels, minlength=classes).tolist()
    hits = np.bincount(labels[correct], minlength=classes).tolist()
    return [ClassCount(*counts) for counts in zip(range(classes), images, hits)]
