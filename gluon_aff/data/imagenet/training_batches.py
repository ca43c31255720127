"""Make ImageNet's training batches from class folders or record files, the same for any number of worker processes.

The original's readers are not used: ImageRecordIter ends the process when an image cannot be decoded, and neither it
nor Gluon's transforms can be seeded for each image. The workers do the same work with OpenCV and send uint8 images
back; the main process normalises them, which is quick and makes four times as many bytes.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Callable, Iterator, List, Optional, Sequence

from gluon_aff.data.batches import WHOLE, Batch, PixelBatch, Share, ShuffledBatches
from gluon_aff.data.imagenet.augmentation import draw_numbers
from gluon_aff.data.imagenet.batch_maker import ImageRecipe, ImageTask, batch_maker
from gluon_aff.data.imagenet.class_folders import class_folders
from gluon_aff.data.imagenet.class_lists import ClassList, record_classes
from gluon_aff.data.imagenet.images import (
    FOLDER_MEAN,
    FOLDER_STD,
    RECORD_MEAN,
    RECORD_STD,
    normalise,
)
from gluon_aff.data.imagenet.record_files import highest_label, indexed_spans, open_record_file
from gluon_aff.engines import Pixels
from gluon_aff.errors import DataError, InputError


class ImageNetBatches(ShuffledBatches):
    """Shuffled, augmented training batches, made by `record_batches` or `folder_batches`.

    Args:
        recipe: what is common to all images.
        images: number of images.
        places: function that returns the places of the images with these numbers, for a worker's task.
        classes: number of classes.
        batch_size: number of images in this share of a batch; images left over at the end of an epoch are not used.
        seed: seed of the run, 0 or more.
        num_workers: number of worker processes; 0 does the work in this process, when a batch is needed.
        class_list: the class of each label, None if it is not known.
        notes: lines about the images that a user should see.
        share: part of every batch that this process makes.

    Attributes:
        images: number of images.
        classes: number of classes.
        class_list: the class of each label, None if it is not known.
        notes: lines about the images that a user should see.

    Raises:
        InputError: the batch size is below 1.
        DataError: there are fewer images than one batch needs.
    """

    def __init__(
        self,
        recipe: ImageRecipe,
        images: int,
        places: Callable[[List[int]], Sequence[tuple]],
        classes: int,
        batch_size: int,
        seed: int,
        num_workers: int,
        class_list: Optional[ClassList] = None,
        notes: Sequence[str] = (),
        share: Share = WHOLE,
    ) -> None:
        super().__init__(images, batch_size, seed, num_workers, partial(batch_maker, recipe), share)
        self.classes = classes
        self.class_list = class_list
        self.notes = tuple(notes)
        self._recipe = recipe
        self._places = places

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `first` on.

        They are images float32 (B, 3, H, W), normalised, and labels float32 (B,).

        Raises:
            DataError: an image cannot be read; the message names it.
            TrainingError: a worker process ended unexpectedly.
        """
        batches = self.pixels(number, first)
        return ((normalise(pixels.values, pixels.mean, pixels.std), labels) for pixels, labels in batches)

    def pixels(self, number: int, first: int = 0) -> Iterator[PixelBatch]:
        """Yield the same batches before the images are normalised.

        Raises:
            DataError: an image cannot be read; the message names it.
            TrainingError: a worker process ended unexpectedly.
        """
        mean, std = (FOLDER_MEAN, FOLDER_STD) if self._recipe.record is None else (RECORD_MEAN, RECORD_STD)
        for images, labels in self._done(self._tasks(number, first)):
            yield Pixels(images, mean, std), labels

    def _tasks(self, epoch: int, first: int) -> Iterator[ImageTask]:
        for numbers in self._rows(epoch, first).tolist():
            yield self._places(numbers), draw_numbers(self._seed, epoch, numbers)


def record_batches(
    rec: str,
    idx: str,
    batch_size: int,
    seed: int,
    input_size: int,
    num_workers: int,
    classes: Optional[int] = None,
    share: Share = WHOLE,
) -> ImageNetBatches:
    """Return training batches from a record file, augmented as by the original's ImageRecordIter.

    The headers of all records, or in a large file those of 16,384 records, are checked at once; the others are checked
    when their images are read.

    Args:
        rec: path of the record file.
        idx: path of its index.
        batch_size: number of images in this share of a batch.
        seed: seed of the run, 0 or more.
        input_size: side in pixels of the images that the network sees.
        num_workers: number of worker processes; 0 does the work in this process.
        classes: largest number of classes; None allows any number.
        share: part of every batch that this process makes.

    Raises:
        InputError: a number is out of range, or OpenCV's Python module cannot be used.
        DataError: files are missing or damaged, there are too few images, or a label is not below `classes`.
    """
    _check_numbers(batch_size, input_size)
    rec, idx = os.path.expanduser(rec), os.path.expanduser(idx)
    content = open_record_file(rec)
    spans = indexed_spans(content, rec, idx)
    highest = highest_label(content, spans, rec, idx, classes)
    recipe = ImageRecipe(input_size, rec, idx, classes)

    def places(numbers: List[int]) -> Sequence[tuple]:
        return [(number, *spans[number].tolist()) for number in numbers]

    known = record_classes(rec, highest + 1)
    return ImageNetBatches(recipe, len(spans), places, highest + 1, batch_size, seed, num_workers, known, share=share)


def folder_batches(
    data_dir: str,
    batch_size: int,
    seed: int,
    input_size: int,
    auto_augment: bool,
    num_workers: int,
    classes: Optional[int] = None,
    share: Share = WHOLE,
) -> ImageNetBatches:
    """Return training batches from class folders, augmented as by the original's transforms.

    Args:
        data_dir: folder that holds `train/CLASS/IMAGE`; labels follow the sorted names of the class folders.
        batch_size: number of images in this share of a batch.
        seed: seed of the run, 0 or more.
        input_size: side in pixels of the images that the network sees.
        auto_augment: whether to apply AutoAugment with ImageNet's policies to the whole image first.
        num_workers: number of worker processes; 0 does the work in this process.
        classes: largest number of classes; None allows any number.
        share: part of every batch that this process makes.

    Raises:
        InputError: a number is out of range, or OpenCV's Python module cannot be used.
        DataError: there are no such folders, too few images, or more folders than `classes`.
    """
    _check_numbers(batch_size, input_size)
    place = os.path.join(os.path.expanduser(data_dir), "train")
    found = class_folders(place, "train/CLASS/IMAGE")
    samples, count = found.samples, len(found.classes.names)
    if classes is not None and count > classes:
        raise DataError(
            f"{place} has {count} class folders, but there are {classes} classes: remove folders that are not classes, "
            "or raise --classes"
        )
    recipe = ImageRecipe(input_size, auto_augment=auto_augment)

    def places(numbers: List[int]) -> Sequence[tuple]:
        return [samples[number] for number in numbers]

    return ImageNetBatches(
        recipe, len(samples), places, count, batch_size, seed, num_workers, found.classes, found.notes, share
    )


def _check_numbers(batch_size: int, input_size: int) -> None:
    if batch_size < 1:
        raise InputError(f"the batch size is {batch_size}, but it has to be 1 or more: change --batch-size")
    if input_size < 1:
        raise InputError(f"the input size is {input_size}, but it has to be 1 or more: change --input-size")
