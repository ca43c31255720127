"""Random numbers that depend only on the seed, the epoch and their purpose.

A run that is resumed or that uses another number of workers draws the same numbers, because no stream of numbers
outlasts its epoch or serves two purposes.
"""

from __future__ import annotations

import enum
from typing import Sequence, cast

import numpy as np

from gluon_aff.errors import InputError


class Purpose(enum.IntEnum):
    """Purpose of a stream of random numbers; its value is part of the seed, so that it must never change."""

    SHUFFLE = 0
    AUGMENTATION = 1
    MIXUP = 2
    FRAMEWORK = 3


def stream(seed: int, epoch: int, purpose: Purpose) -> np.random.Generator:
    """Return the random number generator for one purpose in one epoch.

    Args:
        seed: seed of the run, 0 or more.
        epoch: number of the epoch, 0 or more.
        purpose: makes shuffling, augmentation and mixup independent of each other.

    Raises:
        InputError: the seed is negative.
    """
    if seed < 0:
        raise InputError(f"the seed is {seed}, but it has to be 0 or more: change --seed")
    return np.random.Generator(np.random.PCG64((seed, epoch, int(purpose))))


def uniform_rows(seed: int, epoch: int, images: Sequence[int], numbers: int) -> np.ndarray:
    """Draw uniform numbers in [0, 1) for augmentation, a row for each image: float64 (B, numbers).

    The numbers of an image depend on its number in the data set, and not on the other images in `images`.

    Args:
        seed: seed of the run, 0 or more.
        epoch: number of the epoch, 0 or more.
        images: numbers of B images in the data set.
        numbers: how many to draw for each image.

    Raises:
        InputError: the seed is negative.
    """
    rows = np.empty((len(images), numbers))
    for row, image in zip(rows, images):
        generator = stream(seed, epoch, Purpose.AUGMENTATION)
        cast(np.random.PCG64, generator.bit_generator).advance(image * numbers)  # one step for each number
        generator.random(out=row)
    return rows


def epoch_order(seed: int, epoch: int, samples: int) -> np.ndarray:
    """Return the order in which an epoch visits the images: a permutation of 0..samples - 1."""
    return stream(seed, epoch, Purpose.SHUFFLE).permutation(samples)
