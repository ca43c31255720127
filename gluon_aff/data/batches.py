"""Batches for training and validation, the same for any number of worker processes.

Workers run a pure function on what they are sent, images and random choices, and send uint8 images back; what is quick,
the choices before and the normalisation after, is done here.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Iterator, Tuple, TypeVar

import numpy as np

from gluon_aff.data.randomness import epoch_order
from gluon_aff.data.workers import MakeWork, WorkerPool
from gluon_aff.errors import DataError, InputError
from gluon_aff.iteration import in_order

Batch = Tuple[np.ndarray, np.ndarray]
Batches = TypeVar("Batches", bound="ShuffledBatches")

BATCHES_AHEAD_PER_WORKER = 2


def usable_workers(requested: int, processes: int = 1) -> int:
    """How many of the requested workers each of the training processes here can have at once on its cores, from 0."""
    # Only Linux tells which cores a process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(requested, max(1, cores // processes)))


@dataclass(frozen=True)
class Share:
    """Which part of every batch a process takes: the one of that `rank`, from 0, of `size` equal ones."""

    rank: int = 0
    size: int = 1


WHOLE = Share()


class ShuffledBatches:
    """Training batches in another order every epoch; subclasses say what is done for each.

    The bytes of a batch depend on the data, the batch size, the share, the seed, the epoch and its place in the epoch,
    and on nothing else. Close it, or use it in a `with` statement, to end its workers; they also end with their parent.

    Args:
        images: how many there are.
        batch_size: images of this share of a batch; the images left over at the end of an epoch are discarded.
        seed: the run's seed, 0 or more.
        num_workers: worker processes; 0 does the work in this process, when a batch is asked for.
        make_work: returns what is done for a batch; it can be pickled.
        share: the part of every batch that is made here.

    Raises:
        InputError: the batch size is not above 0.
        DataError: there are fewer images than one batch takes.
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
        """Batches in an epoch."""
        return self._shape[0]

    def __enter__(self: Batches) -> Batches:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and wait until they are gone."""
        if self._pool is not None:
            self._pool.close()

    def _rows(self, epoch: int, first: int) -> np.ndarray:
        """Numbers of this share's images in each batch of an epoch from `first` on, (batches, batch size)."""
        order = epoch_order(self._seed, epoch, self.images)
        return order[: math.prod(self._shape)].reshape(self._shape)[first:, self._rank]

    def _done(self, tasks: Iterator[Tuple[Any, ...]]) -> Iterator[Any]:
        """What the work makes of each task, in order."""
        if self._pool is None:
            return (self._work(*task) for task in tasks)
        return in_order(self._pool.submit, tasks, self._ahead)
