"""Make batches of images and masks that do not depend on the number of worker processes."""

from __future__ import annotations

from functools import partial
from typing import Any, Iterable, Iterator, Tuple

import numpy as np

from gluon_aff.data.batches import WHOLE, Batch, Share, ShuffledBatches
from gluon_aff.data.imagenet.images import FOLDER_MEAN, FOLDER_STD, normalise
from gluon_aff.data.randomness import uniform_rows
from gluon_aff.data.stop_signs.annotations import StopSigns
from gluon_aff.data.stop_signs.masked_images import NUMBERS, Pair, batch_maker
from gluon_aff.errors import InputError


class MaskBatches(ShuffledBatches):
    """Batches of images and their masks: shuffled and augmented for training, in order for validation.

    Args:
        training: images to train on.
        validation: images to validate on.
        batch_size: number of images in this share of a batch; images left over at the end of a training epoch are not
            used.
        base_size: size in pixels to which images are scaled: the longer side of a training image to 0.5 to 2 times
            this, a validation image to a square of this side.
        crop_size: side of the square training crops in pixels.
        seed: seed of the run, 0 or more.
        num_workers: number of worker processes; 0 does the work in this process, when a batch is needed.
        share: part of every batch that this process makes.

    Raises:
        InputError: a size is below 1.
        DataError: there are fewer training images than one batch needs.
    """

    def __init__(
        self,
        training: StopSigns,
        validation: StopSigns,
        batch_size: int,
        base_size: int,
        crop_size: int,
        seed: int,
        num_workers: int,
        share: Share = WHOLE,
    ) -> None:
        if min(base_size, crop_size) < 1:
            raise InputError(f"base size {base_size} and crop size {crop_size} have to be 1 or more")
        super().__init__(
            len(training), batch_size, seed, num_workers, partial(batch_maker, base_size, crop_size), share
        )
        self._training, self._validation = training.images, validation.images
        self._batch_size, self._share = batch_size, share

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Return the training batches of an epoch from `first` on.

        They are images float32 (B, 3, S, S), normalised, and masks float32 (B, 1, S, S), 0 or 1; S is the crop size.

        Raises:
            InputError: an image cannot be read; the message names it.
            TrainingError: a worker process ended unexpectedly.
        """
        rows = self._rows(number, first).tolist()
        return self._batches(
            ([self._training[i] for i in images], uniform_rows(self._seed, number, images, NUMBERS)) for images in rows
        )

    def validation(self) -> Iterator[Batch]:
        """Return the validation batches of this share, in order; the last one may be short.

        Shapes, types and errors are those of training batches, except that S is the base size.
        """
        size = self._batch_size
        starts = range(self._share.rank * size, len(self._validation), self._share.size * size)
        return self._batches((self._validation[start : start + size], None) for start in starts)

    def _batches(self, tasks: Iterable[Tuple[Any, ...]]) -> Iterator[Batch]:
        return map(_to_batch, self._done(iter(tasks)))


def network_input(pixels: np.ndarray) -> np.ndarray:
    """Normalise images, uint8 (N, H, W, 3), and return the network's input, float32 (N, 3, H, W)."""
    return normalise(pixels, FOLDER_MEAN, FOLDER_STD)


def _to_batch(pair: Pair) -> Batch:
    images, masks = pair
    return network_input(images), masks[:, np.newaxis].astype(np.float32)
