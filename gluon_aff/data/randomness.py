"""Random streams that depend on the seed, the epoch and the purpose only.

A run that is resumed, or that uses another number of workers, draws the same numbers, because no stream outlives its
epoch and none is shared between purposes.
"""

from __future__ import annotations

import enum
from typing import Sequence, cast

import numpy as np

from gluon_aff.errors import InputError


class Purpose(enum.IntEnum):
    """What a stream is for; the values are part of every published seed, so they never change."""

    SHUFFLE = 0
    AUGMENTATION = 1
    MIXUP = 2
    FRAMEWORK = 3


def stream(seed: int, epoch: int, purpose: Purpose) -> np.random.Generator:
    """The generator for one purpose in one epoch.

    Args:
        seed: the run's seed, 0 or more.
        epoch: the epoch's number, 0 or more.
        purpose: keeps the shuffle, the augmentation and mixup independent of each other.

    Raises:
        InputError: the seed is negative.
    """
    if seed < 0:
        raise InputError(f"the seed is {seed}, but it has to be 0 or more: change --seed")
    return np.random.Generator(np.random.PCG64((seed, epoch, int(purpose))))


def uniform_rows(seed: int, epoch: int, images: Sequence[int], numbers: int) -> np.ndarray:
    """Uniform numbers in [0, 1) to augment with, one row for each image: float64, B x `numbers`.

    Row i belongs to image number i of the data set: its numbers are the same whichever others are asked for.
    """
    rows = np.empty((len(images), numbers))
    for row, image in zip(rows, images):
        generator = stream(seed, epoch, Purpose.AUGMENTATION)
        cast(np.random.PCG64, generator.bit_generator).advance(image * numbers)  # a number takes one step
        generator.random(out=row)
    return rows


def epoch_order(seed: int, epoch: int, samples: int) -> np.ndarray:
    """The order in which an epoch visits the images: a permutation of 0..samples - 1."""
    return stream(seed, epoch, Purpose.SHUFFLE).permutation(samples)
