"""Top-1 and top-5 accuracy, loss and speed of a network on labelled images."""

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
    """Images of one class, and how many of them have it as their first prediction."""

    label: int
    images: int
    correct: int


@dataclass(frozen=True)
class Evaluation:
    """Figures of a network on a data set.

    Attributes:
        images: how many there were.
        top1: share of images whose class has the largest logit, 0..1; of equal ones, the lowest label counts as larger.
        top5: share of images whose class is among the five largest, 0..1; with five classes or fewer, that is 1.
        loss: softmax cross-entropy, mean over the images.
        per_class: a count for every label, in their order.
        images_per_second: reading and network together, without the first batch (which compiles and allocates) where
            there are several.
    """

    images: int
    top1: float
    top5: float
    loss: float
    per_class: List[ClassCount]
    images_per_second: float


@dataclass(frozen=True)
class _Scores:
    """What counts of some images: label, number of classes before the right one (int, N), and loss (float64, N)."""

    labels: np.ndarray
    ranks: np.ndarray
    losses: np.ndarray


def evaluate(
    infer: Infer, batches: Iterable[Batch], classes: Optional[int] = None, total: Optional[int] = None
) -> Evaluation:
    """Infer `batches` once.

    Args:
        infer: gives logits (N, outputs).
        batches: images (N, 3, H, W) and labels (N,), N any number above 0.
        classes: number of label values, which may be fewer than the outputs (20 superclasses under a head of 100); the
            outputs if None. All outputs compete all the same.
        total: images, for the progress bar.

    Raises:
        DataError: there are no images, or a label is no class or has no output.
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
    """Labels and logits, (N,) and (N, outputs), of each batch, awaited while the next batch is computed.

    The first batch is awaited by itself, so that it ends before the second starts.
    """
    steps = ((labels, infer(images)) for images, labels in batches)
    for labels, logits in itertools.chain(itertools.islice(steps, 1), one_behind(steps)):
        yield labels, logits()


def _score(labels: np.ndarray, logits: np.ndarray, classes: int, batch: int) -> _Scores:
    """Score one batch; `batch` is its number, from 0."""
    if not np.isfinite(logits).all():
        raise GluonAFFError(
            f"the network's outputs for batch {batch} (counted from 0) are not finite: look for damaged weights, or "
            "use float32 if the network is of type float16"
        )
    indices = class_indices(labels, min(classes, logits.shape[1]), batch)
    return _Scores(indices, _ranks(logits, indices), _losses(logits, indices))


def class_indices(labels: np.ndarray, classes: int, batch: int) -> np.ndarray:
    """Labels of batch number `batch` as indices, (N,).

    Raises:
        DataError: one is none of 0 to classes - 1.
    """
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise DataError(
            f"label {wrong[0]:g} in batch {batch} (counted from 0) is none of 0 to {classes - 1}: take the data set "
            "that the network's outputs are for"
        )
    return labels.astype(np.intp)


def _ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes come before the right one, (N, K), (N,) -> (N,): larger logits, or equal with a lower label."""
    right = logits[np.arange(len(labels)), labels][:, np.newaxis]
    lower_label = np.arange(logits.shape[1]) < labels[:, np.newaxis]
    return ((logits > right) | ((logits == right) & lower_label)).sum(axis=1)


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Softmax cross-entropy in float64; (N, K), (N,) -> (N,)."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


def _evaluation(parts: List[_Scores], times: List[float], classes: int) -> Evaluation:
    """Figures of all batches; `times` are the start and the end of each batch."""
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
