"""What happens to CIFAR images before the network: AutoAugment, crop, flip, normalise, on whole batches in NumPy.

The order and the figures are the original's: AutoAugment, then a random 32 x 32 crop out of the image with 4 black
pixels around it, then a random horizontal flip, then normalisation.
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
    """All random choices for N images.

    Attributes:
        auto: those of AutoAugment.
        offset: integer, N x 2, row and column of the crop in the padded image, 0..8.
        flip: bool, N, mirror left to right.
    """

    auto: AutoAugmentDraws
    offset: np.ndarray
    flip: np.ndarray

    def take(self, rows: np.ndarray) -> AugmentationDraws:
        """The choices for some of the images, in the order of `rows`."""
        return AugmentationDraws(self.auto.take(rows), self.offset[rows], self.flip[rows])


def draw_epoch(seed: int, epoch: int, samples: int) -> AugmentationDraws:
    """Every random choice of an epoch: row i depends on the seed, the epoch and i, and on nothing else.

    That holds because an image owns one row of a table of uniform numbers, each of which takes one step of the
    generator; bounded integers, drawn directly, would take a varying number of steps.

    Args:
        seed: the run's seed, 0 or more.
        epoch: the epoch's number, 0 or more.
        samples: number of images in the data set.
    """
    # Column 5 was of use once: without it, a seed would draw other images than before.
    table = stream(seed, epoch, Purpose.AUGMENTATION).random((samples, 9))
    auto = AutoAugmentDraws(
        policy=(table[:, 0] * len(CIFAR10_POLICIES)).astype(np.intp),
        uniform=table[:, 1:3],
        sign=np.where(table[:, 3:5] < 0.5, -1, 1),
    )
    offset = (table[:, 6:8] * (2 * PADDING + 1)).astype(np.intp)
    return AugmentationDraws(auto, offset, table[:, 8] < 0.5)


def crop_and_flip(images: np.ndarray, offset: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Cut each image out of its zero-padded self at its own offset, then mirror the flagged ones.

    Args:
        images: uint8, B x H x W x 3.
        offset: integer, B x 2, row and column, 0..8.
        flip: bool, B.

    Returns:
        uint8, B x H x W x 3.
    """
    batch, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    windows = sliding_window_view(sliding_window_view(padded, height, axis=1), width, axis=2)
    crops = windows[np.arange(batch), offset[:, 0], offset[:, 1]]
    crops[flip] = crops[flip, :, :, ::-1]
    return crops.transpose(0, 2, 3, 1)


def augment_batch(images: np.ndarray, draws: AugmentationDraws, auto_augment: bool) -> np.ndarray:
    """The random part of the training transform: [AutoAugment], crop, flip; uint8, B x 32 x 32 x 3, in and out."""
    if auto_augment:
        images = apply_cifar_policies(images, draws.auto)
    return crop_and_flip(images, draws.offset, draws.flip)


def normalise(images: np.ndarray) -> np.ndarray:
    """To a tensor with mean 0 and deviation 1, roughly: (x / 255 - CIFAR_MEAN) / CIFAR_STD.

    Args:
        images: uint8, B x H x W x 3.

    Returns:
        float32, B x 3 x H x W, as Gluon's ToTensor and Normalize make it, but for rounding.
    """
    deviation = np.array(CIFAR_STD).reshape(3, 1, 1)
    scale = (1 / (255 * deviation)).astype(np.float32)
    shift = (-np.array(CIFAR_MEAN).reshape(3, 1, 1) / deviation).astype(np.float32)
    # The bytes are brought into order before they become four times as many.
    batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    batch *= scale
    batch += shift
    return batch


def batch_augmenter() -> Callable[[np.ndarray, AugmentationDraws, bool], np.ndarray]:
    """What a worker process does with its tasks."""
    return augment_batch
