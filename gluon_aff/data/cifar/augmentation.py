"""Augment and normalise whole batches of CIFAR images with NumPy.

The order and the numbers are the original's: AutoAugment, then a random 32 x 32 crop of the image with a border of 4
black pixels, then a random horizontal flip, then normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gluon_aff.data.autoaugment import CIFAR10_POLICIES, AutoAugmentDraws, apply_cifar_policies
from gluon_aff.data.cifar.files import CIFAR_MEAN, CIFAR_STD
from gluon_aff.data.randomness import Purpose, stream

PADDING = 4


@dataclass(frozen=True)
class AugmentationDraws:
    """Random choices for the augmentation of N images.

    Attributes:
        auto: choices of AutoAugment.
        offset: integer (N, 2), row and column of the crop in the padded image, 0..8.
        flip: bool (N,), whether to mirror the image left to right.
    """

    auto: AutoAugmentDraws
    offset: np.ndarray
    flip: np.ndarray

    def take(self, rows: np.ndarray) -> AugmentationDraws:
        """Return the choices for the images numbered `rows`, in that order."""
        return AugmentationDraws(self.auto.take(rows), self.offset[rows], self.flip[rows])


def draw_epoch(seed: int, epoch: int, samples: int) -> AugmentationDraws:
    """Draw all random choices of an epoch; row i depends only on the seed, the epoch and i.

    This works because each image has one row in a table of uniform numbers, each of which takes exactly one step of the
    generator; integers that are drawn directly take a varying number of steps.

    Args:
        seed: seed of the run, 0 or more.
        epoch: number of the epoch, 0 or more.
        samples: number of images in the data set.
    """
    # Column 5 is unused; without it, the same seed would give other images than in earlier versions.
    table = stream(seed, epoch, Purpose.AUGMENTATION).random((samples, 9))
    auto = AutoAugmentDraws(
        policy=(table[:, 0] * len(CIFAR10_POLICIES)).astype(np.intp),
        uniform=table[:, 1:3],
        sign=np.where(table[:, 3:5] < 0.5, -1, 1),
    )
    offset = (table[:, 6:8] * (2 * PADDING + 1)).astype(np.intp)
    return AugmentationDraws(auto, offset, table[:, 8] < 0.5)


def crop_and_flip(images: np.ndarray, offset: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Pad each image with 4 black pixels, crop it at its offset to its former size, and mirror it if `flip` says so.

    Args:
        images: uint8 (B, H, W, 3).
        offset: integer (B, 2), row and column of the crop in the padded image, 0..8.
        flip: bool (B,).

    Returns:
        uint8 (B, H, W, 3).
    """
    batch, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    windows = sliding_window_view(sliding_window_view(padded, height, axis=1), width, axis=2)
    crops = windows[np.arange(batch), offset[:, 0], offset[:, 1]]
    crops[flip] = crops[flip, :, :, ::-1]
    return crops.transpose(0, 2, 3, 1)


def augment_batch(images: np.ndarray, draws: AugmentationDraws, auto_augment: bool) -> np.ndarray:
    """Apply the random part of the training transform: AutoAugment if `auto_augment`, then crop and flip.

    Images are uint8 (B, 32, 32, 3) before and after.
    """
    if auto_augment:
        images = apply_cifar_policies(images, draws.auto)
    return crop_and_flip(images, draws.offset, draws.flip)


def normalise(images: np.ndarray) -> np.ndarray:
    """Normalise images to about mean 0 and deviation 1: (x / 255 - CIFAR_MEAN) / CIFAR_STD.

    Args:
        images: uint8 (B, H, W, 3).

    Returns:
        float32 (B, 3, H, W), the result of Gluon's ToTensor and Normalize except for rounding.
    """
    deviation = np.array(CIFAR_STD).reshape(3, 1, 1)
    scale = (1 / (255 * deviation)).astype(np.float32)
    shift = (-np.array(CIFAR_MEAN).reshape(3, 1, 1) / deviation).astype(np.float32)
    # Transposing before the conversion moves a quarter of the bytes.
    batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    batch *= scale
    batch += shift
    return batch


def batch_augmenter() -> Callable[[np.ndarray, AugmentationDraws, bool], np.ndarray]:
    """Return the function that worker processes apply to their tasks."""
    return augment_batch
