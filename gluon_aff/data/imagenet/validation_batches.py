"""Read ImageNet's validation images from class folders or record files, each exactly once.

The pixels are those of the original's readers, with which tests compare: ImageRecordIter for records, and for folders
Gluon's transforms or, with large inputs, Pillow's. These readers themselves are not used: MXNet's engine runs the
operators of Gluon's transforms one after another whatever the number of threads; ImageRecordIter fills the last batch
with random bytes or repeated images, and a damaged image or index ends the process without a message. Therefore OpenCV,
which both of them call, is called directly in threads.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from gluon_aff.data.batches import WHOLE, Batch, Share, usable_workers
from gluon_aff.data.imagenet.class_folders import class_folders, training_folders_beside
from gluon_aff.data.imagenet.class_lists import ClassList, check_same_classes, record_classes
from gluon_aff.data.imagenet.images import (
    CROP_RATIO,
    FOLDER_MEAN,
    FOLDER_STD,
    LARGE_INPUT,
    RECORD_MEAN,
    RECORD_STD,
    cut,
    decode,
    efficientnet_centre,
    naming,
    normalise,
    opencv,
    resize_and_crop,
    resize_bicubic,
)
from gluon_aff.data.imagenet.record_files import (
    encoded_image,
    matched_records,
    open_record_file,
    record_label,
    record_name,
)
from gluon_aff.errors import DataError, InputError
from gluon_aff.iteration import in_order


@dataclass(frozen=True)
class ValidationData:
    """A validation set, or this worker's share of one.

    Attributes:
        images: number of images in the share.
        classes: number of classes: of class folders, or the largest label in the record file plus 1.
        class_list: the class of each label, None if it is not known.
        batches: images float32 (N, 3, H, W), normalised, and labels float32 (N,), in order; the last batch may be
            short. Each iteration reads the files again, and raises DataError if an image cannot be read.
        notes: lines about the images that a user should see.
        as_in_training: whether the training set next to it is known to have the same classes.
    """

    images: int
    classes: int
    class_list: Optional[ClassList]
    batches: Iterable[Batch]
    notes: Tuple[str, ...] = ()
    as_in_training: bool = False


@dataclass(frozen=True)
class _Source:
    """Source of encoded images, and how they are processed.

    Attributes:
        samples: key and label of each image.
        read: function that returns the encoded image of a key.
        name: function that returns the name of a key's image, for messages.
        upright: whether to turn JPEG images as their EXIF data says.
        crop: function from an image, uint8 (H, W, 3), to the network's pixels, uint8 (input size, input size, 3).
        mean: means of red, green and blue on a 0..255 scale.
        std: standard deviations of red, green and blue on a 0..255 scale.
    """

    samples: List[Tuple[Any, int]]
    read: Callable[[Any], bytes]
    name: Callable[[Any], str]
    upright: bool
    crop: Callable[[np.ndarray], np.ndarray]
    mean: Sequence[float]
    std: Sequence[float]

    def batch(self, samples: List[Tuple[Any, int]]) -> Batch:
        """Read, decode, crop and normalise the images of these samples, and return them with their labels."""
        keys, labels = zip(*samples)
        images = np.stack([self._image(key) for key in keys])
        return normalise(images, self.mean, self.std), np.array(labels, np.float32)

    def _image(self, key: Any) -> np.ndarray:
        with naming(self.name(key)):
            return self.crop(decode(self.read(key), self.upright))[..., ::-1]


@dataclass(frozen=True)
class _Batches:
    """All batches of a source; each thread prepares one ahead, and with 0 threads each is made when it is needed."""

    source: _Source
    size: int
    threads: int

    def __iter__(self) -> Iterator[Batch]:
        samples, make = self.source.samples, self.source.batch
        parts = (samples[start : start + self.size] for start in range(0, len(samples), self.size))
        if self.threads == 0:
            yield from map(make, parts)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                yield from in_order(lambda part: pool.submit(make, part), parts, self.threads)


def validation_data(
    data_dir: str, input_size: int, batch_size: int, num_workers: int, crop_ratio: float = CROP_RATIO
) -> ValidationData:
    """Find and return ImageNet's validation images, or others in its layouts.

    The first of these is taken: `val.rec` and `val.idx` in `data_dir` or in its folder `rec`; class folders in
    `data_dir/val`; class folders in `data_dir`. To read the folder `val` although there are records, name it itself.

    Args:
        data_dir: folder to look in.
        input_size: side of the square crop in pixels.
        batch_size: number of images per batch.
        num_workers: number of threads that decode; at most one per core is used.
        crop_ratio: side of the crop divided by the shorter side of the image, in 0..1.

    Raises:
        InputError: a number is out of range, or OpenCV's Python module cannot be used.
        DataError: files are missing or damaged, or a label stands for another class than in the training set next to
            the validation set.
    """
    records = _find_records(Path(os.path.expanduser(data_dir)))
    if records is None:
        data = folder_validation(data_dir, input_size, batch_size, num_workers, crop_ratio)
        place = _validation_folder(data_dir)
        training = training_folders_beside(place) if os.path.basename(os.path.abspath(place)) == "val" else None
    else:
        rec, idx = records
        data = record_validation(rec, idx, input_size, batch_size, num_workers, crop_ratio)
        training = record_classes(os.path.join(os.path.dirname(rec), "train.rec"))
    return replace(data, as_in_training=check_same_classes(training, data.class_list))


def record_validation(
    rec: str,
    idx: str,
    input_size: int,
    batch_size: int,
    num_workers: int,
    crop_ratio: float = CROP_RATIO,
    share: Share = WHOLE,
) -> ValidationData:
    """Return the validation images of a record file.

    Args:
        rec: path of the record file.
        idx: path of its index.
        input_size: side of the square crop in pixels.
        batch_size: number of images per batch.
        num_workers: number of threads that decode; at most one per core is used, and 0 decodes in the calling thread.
        crop_ratio: side of the crop divided by the shorter side of the image, in 0..1.
        share: part of the images to read; there must be at least as many images as shares.

    Raises:
        InputError: a number is out of range, or OpenCV's Python module cannot be used.
        DataError: files are missing or damaged, there are too few images, or a label is not a class.
    """
    _check_numbers(input_size, batch_size, crop_ratio)
    rec, idx = os.path.expanduser(rec), os.path.expanduser(idx)
    content = open_record_file(rec)
    found = enumerate(matched_records(content, rec, idx))
    source = _Source(
        [((number, pieces), record_label(content, pieces, number, rec)) for number, pieces in found],
        read=lambda key: encoded_image(content, key[1]),
        name=lambda key: record_name(key[0], rec),
        upright=True,
        crop=lambda image: resize_and_crop(image, input_size, crop_ratio),
        mean=RECORD_MEAN,
        std=RECORD_STD,
    )
    classes = 1 + max(label for _, label in source.samples)
    known = record_classes(rec, classes)
    source = _part(source, share)
    batches = _Batches(source, batch_size, usable_workers(num_workers))
    return ValidationData(len(source.samples), classes, known, batches)


def folder_validation(
    data_dir: str,
    input_size: int,
    batch_size: int,
    num_workers: int,
    crop_ratio: float = CROP_RATIO,
    share: Share = WHOLE,
) -> ValidationData:
    """Return the validation images in class folders; labels follow the sorted names of the folders.

    Args:
        data_dir: folder with the class folders, or with a folder `val` that holds them.
        input_size: side of the square crop in pixels; from 320 on, it is EfficientNet's crop, resized bicubically.
        batch_size: number of images per batch.
        num_workers: number of threads that decode; at most one per core is used, and 0 decodes in the calling thread.
        crop_ratio: side of the crop divided by the shorter side of the image, in 0..1; without effect from input size
            320 on.
        share: part of the images to read; there must be at least as many images as shares.

    Raises:
        InputError: a number is out of range, or OpenCV's Python module cannot be used.
        DataError: there are no such folders, or too few images in them.
    """
    _check_numbers(input_size, batch_size, crop_ratio)
    found = class_folders(_validation_folder(data_dir), "val.rec and val.idx, or with val/CLASS/IMAGE")
    source = _Source(
        found.samples,
        read=lambda path: Path(path).read_bytes(),
        name=str,
        upright=False,
        crop=lambda image: folder_crop(image, input_size, crop_ratio),
        mean=FOLDER_MEAN,
        std=FOLDER_STD,
    )
    source = _part(source, share)
    batches = _Batches(source, batch_size, usable_workers(num_workers))
    return ValidationData(len(source.samples), len(found.classes.names), found.classes, batches, found.notes)


def _validation_folder(data_dir: str) -> str:
    root = os.path.expanduser(data_dir)
    return os.path.join(root, "val") if os.path.isdir(os.path.join(root, "val")) else root


def _check_numbers(input_size: int, batch_size: int, crop_ratio: float) -> None:
    if input_size < 1 or batch_size < 1 or not 0 < crop_ratio <= 1:
        raise InputError(
            f"input size {input_size}, batch size {batch_size} and crop ratio {crop_ratio}: the sizes have to be 1 or "
            "more, and the ratio has to be above 0 and at most 1"
        )
    opencv()


def _find_records(root: Path) -> Optional[Tuple[str, str]]:
    """Return the paths of `val.rec` and `val.idx`, one of which may be missing; None if both are."""
    for folder in (root, root / "rec"):
        record, index = folder / "val.rec", folder / "val.idx"
        if os.path.exists(record) or os.path.exists(index):
            return str(record), str(index)
    return None


def folder_crop(image: np.ndarray, input_size: int, crop_ratio: float = CROP_RATIO) -> np.ndarray:
    """Return the pixels that validation sees of an image in a folder.

    Arguments and result are those of `resize_and_crop`; from input size 320 on, the crop is EfficientNet's centre crop,
    whatever the ratio.
    """
    if input_size < LARGE_INPUT:
        return resize_and_crop(image, input_size, crop_ratio)
    height, width = image.shape[:2]
    return resize_bicubic(cut(image, efficientnet_centre(height, width, input_size)), input_size)


def _part(source: _Source, share: Share) -> _Source:
    if len(source.samples) < share.size:
        raise DataError(f"{len(source.samples)} validation images are too few for {share.size} workers: start fewer")
    return replace(source, samples=source.samples[share.rank :: share.size])
