"""Batches for training and validation, the same for any number of worker processes.

Workers run a pure function on what they are sent, images and random choices, and send uint8 images back; what is quick,
the choices before and the normalisation after, is done here.
"""

from __future__ import annotations

import os
from typing import Any, Iterator, Tuple, TypeVar

import mxnet as mx
import numpy as np

from gluon_aff.data.augmentation import batch_augmenter, draw_epoch, epoch_order, normalise
from gluon_aff.data.cifar import LabelledImages
from gluon_aff.data.workers import MakeWork, WorkerPool
from gluon_aff.errors import DataError, InputError
from gluon_aff.iteration import in_order

Batch = Tuple[mx.nd.NDArray, mx.nd.NDArray]
Batches = TypeVar("Batches", bound="ShuffledBatches")

BATCHES_AHEAD_PER_WORKER = 2


def usable_workers(requested: int) -> int:
    """How many of the requested workers can run at once on the cores this process may use; at least 0."""
    # Only Linux tells which cores a process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(requested, cores))


class ShuffledBatches:
    """Training batches in another order every epoch; subclasses say what is done for each.

    The bytes of a batch depend on the data, the batch size, the seed, the epoch and its place in the epoch, and on
    nothing else. Close it, or use it in a `with` statement, to end its workers; they also end with their parent.

    Args:
        images: how many there are.
        batch_size: images per batch; the images left over at the end of an epoch are discarded.
        seed: the run's seed, 0 or more.
        num_workers: worker processes; 0 does the work in this process, when a batch is asked for.
        make_work: returns what is done for a batch; it can be pickled.

    Raises:
        InputError: the batch size is not above 0.
        DataError: there are fewer images than one batch takes.
    """

    def __init__(self, images: int, batch_size: int, seed: int, num_workers: int, make_work: MakeWork) -> None:
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}, but it has to be 1 or more: change --batch-size")
        if images < batch_size:
            raise DataError(
                f"the training set has {images:,} images, fewer than one batch of {batch_size:,}: "
                "lower --batch-size (it counts per device)"
            )
        self.images = images
        self._batch_size = batch_size
        self._seed = seed
        self._ahead = BATCHES_AHEAD_PER_WORKER * num_workers
        self._work = make_work()
        self._pool = WorkerPool(num_workers, make_work) if num_workers > 0 else None

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.images // self._batch_size

    def __enter__(self: Batches) -> Batches:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and wait until they are gone."""
        if self._pool is not None:
            self._pool.close()

    def _rows(self, epoch: int) -> np.ndarray:
        """Numbers of the images in each batch of an epoch, (batches, batch size)."""
        order = epoch_order(self._seed, epoch, self.images)
        return order[: len(self) * self._batch_size].reshape(len(self), self._batch_size)

    def _done(self, tasks: Iterator[Tuple[Any, ...]]) -> Iterator[Any]:
        """What the work makes of each task, in order."""
        if self._pool is None:
            return (self._work(*task) for task in tasks)
        return in_order(self._pool.submit, tasks, self._ahead)


class TrainBatches(ShuffledBatches):
    """Shuffled, augmented batches of a training set in memory.

    Args:
        data: the training set.
        batch_size: images per batch; the images left over at the end of an epoch are discarded.
        seed: the run's seed, 0 or more.
        auto_augment: run AutoAugment before crop and flip.
        num_workers: worker processes; 0 does the work in this process, when a batch is asked for.

    Raises:
        InputError: the batch size is not above 0.
        DataError: there are fewer images than one batch takes.
    """

    def __init__(self, data: LabelledImages, batch_size: int, seed: int, auto_augment: bool, num_workers: int) -> None:
        super().__init__(len(data), batch_size, seed, num_workers, batch_augmenter)
        self._data = data
        self._auto_augment = auto_augment

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch: images float32, B x 3 x 32 x 32, and labels float32, B, both on the CPU.

        Raises:
            TrainingError: a worker process died.
        """
        batches = self._rows(number)
        draws = draw_epoch(self._seed, number, self.images)
        tasks = ((self._data.images[rows], draws.take(rows), self._auto_augment) for rows in batches)
        for rows, images in zip(batches, self._done(tasks)):
            yield _to_batch(images, self._data.labels[rows])


def validation_batches(data: LabelledImages, batch_size: int) -> Iterator[Batch]:
    """All images in order, normalised only; the last batch may be short. Shapes and types as in training."""
    for start in range(0, len(data), batch_size):
        stop = start + batch_size
        yield _to_batch(data.images[start:stop], data.labels[start:stop])


def _to_batch(images: np.ndarray, labels: np.ndarray) -> Batch:
    return mx.nd.array(normalise(images), ctx=mx.cpu()), mx.nd.array(labels, ctx=mx.cpu(), dtype="float32")
