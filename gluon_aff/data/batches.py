"""Make training batches that do not depend on the number of worker processes.

Workers apply a pure function to the images and random choices that they receive, and send uint8 images back. The quick
work, drawing the choices and normalising the images, is done in the main process.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Iterator, Tuple, TypeVar, Union

import numpy as np

from gluon_aff.data.randomness import epoch_order
from gluon_aff.data.workers import MakeWork, WorkerPool
from gluon_aff.engines import Pixels
from gluon_aff.errors import DataError, InputError
from gluon_aff.iteration import in_order

Batch = Tuple[np.ndarray, np.ndarray]
PixelBatch = Tuple[Pixels, np.ndarray]
TrainingBatch = Tuple[Union[np.ndarray, Pixels], np.ndarray]
Batches = TypeVar("Batches", bound="ShuffledBatches")

BATCHES_AHEAD_PER_WORKER = 2


def usable_workers(requested: int, processes: int = 1) -> int:
    """Return the number of workers to use, at least 0: `requested`, but at most one per core.

    Args:
        requested: number of workers that the user wants.
        processes: number of training processes on this machine, which share its cores.
    """
    # Only Linux tells which cores a process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(requested, max(1, cores // processes)))


@dataclass(frozen=True)
class Share:
    """Part of every batch that a process takes: of `size` equal parts, the one numbered `rank`, from 0."""

    rank: int = 0
    size: int = 1


WHOLE = Share()


class ShuffledBatches:
    """Training batches that come in another order every epoch; subclasses define how a batch is made.

    The bytes of a batch depend only on the data, the batch size, the share, the seed, the epoch and the place of the
    batch in the epoch. Close the object, or use it in a `with` statement, to end its workers; they also end with their
    parent process.

    Args:
        images: number of images in the training set.
        batch_size: number of images in this share of a batch; images left over at the end of an epoch are not used.
        seed: seed of the run, 0 or more.
        num_workers: number of worker processes; 0 does the work in this process, when a batch is needed.
        make_work: function that returns the function which makes a batch; it must be picklable.
        share: part of every batch that this process makes.

    Raises:
        InputError: the batch size is below 1.
        DataError: there are fewer images than one batch needs.
    """

    def __init__(
        self, images: int, batch_size: int, seed: int, num_workers: int, make_work: MakeWork, share: Share = WHOLE
    ) -> None:
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}, but it has to be 1 or more: change --batch-size")
        if images < batch_size * share.size:
            raise DataError(
                f"the training set has {images:,} images, fewer than one batch of {batch_size * share.size:,}: "
                "lower --batch-size (it counts per device)"
            )
        self.images = images
        self._shape = images // (batch_size * share.size), share.size, batch_size
        self._rank = share.rank
        self._seed = seed
        self._ahead = BATCHES_AHEAD_PER_WORKER * num_workers
        self._work = make_work()
        self._pool = WorkerPool(num_workers, make_work) if num_workers > 0 else None

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self._shape[0]

    def __enter__(self: Batches) -> Batches:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and wait until they have ended."""
        if self._pool is not None:
            self._pool.close()

    def _rows(self, epoch: int, first: int) -> np.ndarray:
        """Return the numbers of this share's images in an epoch's batches from `first` on: (batches, batch size)."""
        order = epoch_order(self._seed, epoch, self.images)
        return order[: math.prod(self._shape)].reshape(self._shape)[first:, self._rank]

    def _done(self, tasks: Iterator[Tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the result of each task, in the order of the tasks."""
        if self._pool is None:
            return (self._work(*task) for task in tasks)
        return in_order(self._pool.submit, tasks, self._ahead)
