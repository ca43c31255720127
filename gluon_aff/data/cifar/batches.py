"""Make batches of CIFAR images for training and validation."""

from __future__ import annotations

from typing import Iterator

import numpy as np

from gluon_aff.data.batches import WHOLE, Batch, PixelBatch, Share, ShuffledBatches
from gluon_aff.data.cifar.augmentation import batch_augmenter, draw_epoch, normalise
from gluon_aff.data.cifar.files import CIFAR_MEAN, CIFAR_STD, LabelledImages
from gluon_aff.engines import Pixels

PIXEL_MEAN, PIXEL_STD = ([255 * value for value in each] for each in (CIFAR_MEAN, CIFAR_STD))


class TrainBatches(ShuffledBatches):
    """Shuffled, augmented batches of a training set in memory.

    Args:
        data: the training set.
        batch_size: number of images in this share of a batch; images left over at the end of an epoch are not used.
        seed: seed of the run, 0 or more.
        auto_augment: whether to apply AutoAugment before crop and flip.
        num_workers: number of worker processes; 0 does the work in this process, when a batch is needed.
        share: part of every batch that this process makes.

    Raises:
        InputError: the batch size is below 1.
        DataError: there are fewer images than one batch needs.
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
        """Yield the batches of an epoch from `first` on: images float32 (B, 3, 32, 32) and labels float32 (B,).

        Raises:
            TrainingError: a worker process ended unexpectedly.
        """
        return ((normalise(pixels.values), labels) for pixels, labels in self.pixels(number, first))

    def pixels(self, number: int, first: int = 0) -> Iterator[PixelBatch]:
        """Yield the same batches before the images are normalised.

        Raises:
            TrainingError: a worker process ended unexpectedly.
        """
        batches = self._rows(number, first)
        draws = draw_epoch(self._seed, number, self.images)
        tasks = ((self._data.images[rows], draws.take(rows), self._auto_augment) for rows in batches)
        for rows, images in zip(batches, self._done(tasks)):
            yield Pixels(images, PIXEL_MEAN, PIXEL_STD), self._data.labels[rows].astype(np.float32)


def validation_batches(data: LabelledImages, batch_size: int, share: Share = WHOLE) -> Iterator[Batch]:
    """Yield the images in order, normalised but not augmented; the last batch may be short.

    Shapes and types are those of training batches. Of several shares, each has every `size`-th batch.
    """
    for start in range(share.rank * batch_size, len(data), share.size * batch_size):
        stop = start + batch_size
        yield normalise(data.images[start:stop]), data.labels[start:stop].astype(np.float32)
