"""Make batches of ImageNet-like data in worker processes.

A worker first receives what is common to all images; a task then consists of the places of its images and their random
choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Sequence, Tuple

import numpy as np

from gluon_aff.data.imagenet.augmentation import augment_file, augment_record, to_draws
from gluon_aff.data.imagenet.images import decode, naming, opencv
from gluon_aff.data.imagenet.record_files import encoded_image, open_record_file, record_in, record_label, record_name

# The images of a batch, each as (path, label) of a file or (number, first byte, end) of a record, and their rows of
# `draw_numbers`.
ImageTask = Tuple[Sequence[tuple], np.ndarray]
ImageBatch = Tuple[np.ndarray, np.ndarray]  # uint8, B x S x S x 3: red, green, blue; labels, float32, B
MakeBatch = Callable[[Sequence[tuple], np.ndarray], ImageBatch]


@dataclass(frozen=True)
class ImageRecipe:
    """Everything that is common to all images of a training set.

    Attributes:
        input_size: side of the images that the network sees, in pixels.
        record: path of the record file; None for image files.
        index: path of its index, for messages.
        classes: number of classes, below which the label of a record must be; None allows any label.
        auto_augment: whether to apply AutoAugment, for image files only.
    """

    input_size: int
    record: Optional[str] = None
    index: str = ""
    classes: Optional[int] = None
    auto_augment: bool = False


def batch_maker(recipe: ImageRecipe) -> MakeBatch:
    """Return a function that reads, decodes and augments the images of a task; the record file is opened only once.

    That function raises DataError if an image cannot be read.

    Raises:
        DataError: the record file cannot be opened.
    """
    opencv().setNumThreads(1)  # there is a worker for each core already
    one = _file_maker(recipe) if recipe.record is None else _record_maker(recipe, recipe.record)

    def make(places: Sequence[tuple], numbers: np.ndarray) -> ImageBatch:
        images, labels = zip(*(one(place, row) for place, row in zip(places, numbers)))
        return np.stack(images), np.array(labels, np.float32)

    return make


def _file_maker(recipe: ImageRecipe) -> Callable[[tuple, np.ndarray], Tuple[np.ndarray, int]]:
    def make(place: tuple, numbers: np.ndarray) -> Tuple[np.ndarray, int]:
        path, label = place
        with naming(path):
            image = decode(Path(path).read_bytes(), upright=False)
            return augment_file(image, recipe.input_size, to_draws(numbers), recipe.auto_augment), label

    return make


def _record_maker(recipe: ImageRecipe, record: str) -> Callable[[tuple, np.ndarray], Tuple[np.ndarray, int]]:
    content = open_record_file(record)

    def make(place: tuple, numbers: np.ndarray) -> Tuple[np.ndarray, int]:
        number, *span = place
        pieces = record_in(content, (span[0], span[1]), record, recipe.index)
        label = record_label(content, pieces, number, record, recipe.classes)
        with naming(record_name(number, record)):
            image = decode(encoded_image(content, pieces), upright=True)
            return augment_record(image, recipe.input_size, to_draws(numbers)), label

    return make
