"""Batches of CIFAR's images for training and validation."""

from __future__ import annotations

from typing import Iterator

import numpy as np

from gluon_aff.data.batches import WHOLE, Batch, Share, ShuffledBatches
from gluon_aff.data.cifar.augmentation import batch_augmenter, draw_epoch, normalise
from gluon_aff.data.cifar.files import LabelledImages


class TrainBatches(ShuffledBatches):
    """Shuffled, augmented batches of a training set in memory.

    Args:
        data: the training set.
        batch_size: images of this share of a batch; the images left over at the end of an epoch are discarded.
        seed: the run's seed, 0 or more.
        auto_augment: run AutoAugment before crop and flip.
        num_workers: worker processes; 0 does the work in this process, when a batch is asked for.
        share: the part of every batch that is made here.

    Raises:
        InputError: the batch size is not above 0.
        DataError: there are fewer images than one batch takes.
    """

    def __init__(
        self,
        data: LabelledImages,
        batch_size: int,
        seed: int,
        auto_augment: bool,
        num_workers: int,
        share: Share = WHOLE,
    ) -> None:
        super().__init__(len(data), batch_size, seed, num_workers, batch_augmenter, share)
        self._data = data
        self._auto_augment = auto_augment

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `first` on: images float32, B x 3 x 32 x 32, labels float32, B.

        Raises:
            TrainingError: a worker process died.
        """
        batches = self._rows(number, first)
        draws = draw_epoch(self._seed, number, self.images)
        tasks = ((self._data.images[rows], draws.take(rows), self._auto_augment) for rows in batches)
        for rows, images in zip(batches, self._done(tasks)):
            yield _to_batch(images, self._data.labels[rows])


def validation_batches(data: LabelledImages, batch_size: int, share: Share = WHOLE) -> Iterator[Batch]:
    """Images in order, normalised only: every batch or, of a share, every `size`-th one; the last one may be short.

    Shapes and types are as in training.
    """
    for start in range(share.rank * batch_size, len(data), share.size * batch_size):
        stop = start + batch_size
        yield _to_batch(data.images[start:stop], data.labels[start:stop])


def _to_batch(images: np.ndarray, labels: np.ndarray) -> Batch:
    return normalise(images), labels.astype(np.float32)
