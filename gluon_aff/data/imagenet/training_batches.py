"""ImageNet's training batches, from class folders or from record files, the same for any number of worker processes.

The original's readers are not used: ImageRecordIter ends the process when one image cannot be decoded, and neither it
nor Gluon's transforms can be seeded image by image. The workers do the same with OpenCV and send uint8 images back;
normalisation, which is quick and makes four times as many bytes of them, is done here.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Callable, Iterator, List, Optional, Sequence

from gluon_aff.data.batches import WHOLE, Batch, Share, ShuffledBatches
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
    opencv,
)
from gluon_aff.data.imagenet.record_files import highest_label, indexed_spans, open_record_file
from gluon_aff.errors import DataError, InputError


class ImageNetBatches(ShuffledBatches):
    """Shuffled, augmented training batches, from `record_batches` or `folder_batches`.

    Args:
        recipe: what is done with an image.
        images: how many there are.
        places: returns what a worker takes for images of these numbers.
        classes: how many there are.
        batch_size: images of this share of a batch; the images left over at the end of an epoch are discarded.
        seed: the run's seed, 0 or more.
        num_workers: worker processes; 0 does the work in this process, when a batch is asked for.
        class_list: which class each label stands for, if that is known.
        notes: what a user should know about the images, a line each.
        share: the part of every batch that is made here.

    Attributes:
        images: as given.
        classes: as given.
        class_list: as given.
        notes: as given.

    Raises:
        InputError: the batch size is not above 0.
        DataError: there are fewer images than one batch takes.
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
        """The batches of an epoch from `first` on.

        Images float32, (B, 3, H, W), normalised, and labels float32, (B,).

        Raises:
            DataError: an image cannot be read; the message names it.
            TrainingError: a worker process died.
        """
        mean, std = (FOLDER_MEAN, FOLDER_STD) if self._recipe.record is None else (RECORD_MEAN, RECORD_STD)
        for images, labels in self._done(self._tasks(number, first)):
            yield normalise(images, mean, std), labels

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
    """Training batches from a record file, augmented as ImageRecordIter did for the original.

    All headers in the file are looked at before, or, if it is large, those of 16,384 records; the others follow when
    their images are read.

    Args:
        rec: path of the record file.
        idx: path of its index.
        batch_size: images of this share of a batch.
        seed: the run's seed, 0 or more.
        input_size: side of the images in pixels.
        num_workers: worker processes; 0 does the work in this process.
        classes: how many there may be; None: any number.
        share: the part of every batch that is made here.

    Raises:
        InputError: a number that makes no sense, or OpenCV's Python module is not usable.
        DataError: missing or damaged files, too few images, or labels that are none of the classes.
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
    """Training batches from class folders, augmented as by the original's transforms.

    Args:
        data_dir: folder that has `train/CLASS/IMAGE`; labels follow the order of the class folders' names.
        batch_size: images of this share of a batch.
        seed: the run's seed, 0 or more.
        input_size: side of the images in pixels.
        auto_augment: run AutoAugment with ImageNet's policies, on the whole image, before anything else.
        num_workers: worker processes; 0 does the work in this process.
        classes: how many there may be; None: any number.
        share: the part of every batch that is made here.

    Raises:
        InputError: a number that makes no sense, or OpenCV's Python module is not usable.
        DataError: no such folders, too few images, or more folders than classes.
    """
    _check_numbers(batch_size, input_size)
    place = os.path.join(os.path.expanduser(data_dir), "train")
    found = class_folders(place, "train/CLASS/IMAGE")
    samples, count = found.samples, len(found.classes.names)
    if classes is not None and count > classes:
        raise DataError(
            f"{place} has {count} class folders, but there are {classes} classes: remove those that are none, "
            "or train with more"
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
    opencv()
