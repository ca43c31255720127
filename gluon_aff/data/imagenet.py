"""ImageNet's validation images, from class folders or from record files, each counted once.

Pixels are those of the original's two readers (tests compare): Gluon's transforms for folders, ImageRecordIter for
records. Neither is used here. MXNet's engine runs the operators of Gluon's transforms one after another, whatever the
number of threads; ImageRecordIter fills the last batch with rubbish or with images seen before, and an image or index
that is damaged ends the process without a word. So OpenCV, which both call, is called directly, in threads.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from gluon_aff.data.loading import Batch, usable_workers
from gluon_aff.errors import DataError, InputError, last_line

# Red, green, blue on a 0..255 scale: GluonCV's for folders, which has them as 0.485, 0.229 and so on, and for records.
FOLDER_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
FOLDER_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
RECORD_MEAN = (123.68, 116.779, 103.939)
RECORD_STD = (58.393, 57.12, 57.375)

CROP_RATIO = 0.875
EXTENSIONS = (".jpg", ".jpeg", ".png")
LONGEST_SIDE = 1 << 15  # after resizing; a longer image is refused before it fills the memory
LONGEST_WAIT = 3600  # seconds for a batch, of which Gluon allows 120: disks can be slow

RECORD_MAGIC = struct.pack("<I", 0xCED7230A)
RECORD_HEADER = struct.Struct("<IfQQ")  # MXNet's IRHeader: labels if more than one, label, id, id2


@dataclass(frozen=True)
class ValidationData:
    """A validation set.

    Attributes:
        images: how many there are.
        classes: number of label values: class folders, or the largest label in a record file and one.
        folders: the class folders' names in label order; empty for a record file.
        batches: images float32, (N, 3, H, W), normalised, and labels float32, (N,), both on the CPU, in order; the
            last batch may be short. Every pass reads anew. Iterating raises DataError for an image that cannot be read.
    """

    images: int
    classes: int
    folders: Tuple[str, ...]
    batches: Iterable[Batch]


@dataclass(frozen=True)
class _Source:
    """Where encoded images come from.

    Attributes:
        samples: what `read` takes, and the label, of each image.
        read: returns the encoded image.
        name: returns what to call the image in a message.
        upright: turn JPEG images as their EXIF data says, which ImageRecordIter did and Gluon did not.
        mean: red, green, blue on a 0..255 scale.
        std: likewise.
    """

    samples: List[Tuple[Any, int]]
    read: Callable[[Any], bytes]
    name: Callable[[Any], str]
    upright: bool
    mean: Sequence[float]
    std: Sequence[float]


def validation_data(
    data_dir: str, input_size: int, batch_size: int, num_workers: int, crop_ratio: float = CROP_RATIO
) -> ValidationData:
    """ImageNet's validation images, or others in its layouts.

    Looked for in this order: `val.rec` and `val.idx` in `data_dir` or its folder `rec`; class folders in `data_dir/val`
    or `data_dir` itself, labelled by the order of their names. Of both, the records are read; name the folder `val`
    itself to read that.

    Args:
        data_dir: folder.
        input_size: side of the square crop in pixels.
        batch_size: images per batch.
        num_workers: threads that decode; at most one per core is used, and 0 decodes in this one.
        crop_ratio: crop's side over the image's shorter side, in 0..1.

    Raises:
        InputError: a number that makes no sense, or OpenCV's Python module is not usable.
        DataError: nothing there, damaged record files, or labels that are no classes.
    """
    if input_size < 1 or batch_size < 1 or not 0 < crop_ratio <= 1:
        raise InputError(
            f"input size {input_size}, batch size {batch_size} and crop ratio {crop_ratio} do not go together: "
            "the sizes have to be 1 or more, the ratio in 0..1"
        )
    _opencv()
    root = Path(data_dir).expanduser()
    records = _find_records(root)
    source, folders = _folder_source(root) if records is None else (_record_source(*records), [])
    return ValidationData(
        images=len(source.samples),
        classes=len(folders) or 1 + max(label for _, label in source.samples),
        folders=tuple(folders),
        batches=_loader(source, input_size, crop_ratio, batch_size, usable_workers(num_workers)),
    )


def resize_and_crop(image: np.ndarray, input_size: int, crop_ratio: float = CROP_RATIO) -> np.ndarray:
    """Resize the shorter side to ceil(input_size / crop_ratio), bilinear, and cut out the centre.

    Args:
        image: uint8, H x W x 3, the colours in any order.
        input_size: side of the crop in pixels.
        crop_ratio: crop's side over the resized shorter side, in 0..1.

    Returns:
        uint8, input_size x input_size x 3.

    Raises:
        DataError: the image is more than a hundred times as long as wide; the file is for the caller to name.
    """
    shorter = int(np.ceil(input_size / crop_ratio))
    height, width = image.shape[:2]
    scaled = (shorter * height // width, shorter) if height > width else (shorter, shorter * width // height)
    if max(scaled) > max(LONGEST_SIDE, 2 * shorter):
        raise DataError(f"{width} x {height} pixels are too long a strip")
    top, left = (scaled[0] - input_size) // 2, (scaled[1] - input_size) // 2
    resized = _opencv().resize(image, scaled[::-1])
    return resized[top : top + input_size, left : left + input_size]


def normalise(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(images - mean) / std, as float32.

    Args:
        images: uint8, N x H x W x 3.
        mean: red, green, blue on a 0..255 scale.
        std: likewise.

    Returns:
        (N, 3, H, W).
    """
    batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    batch -= np.array(mean, np.float32).reshape(3, 1, 1)
    batch /= np.array(std, np.float32).reshape(3, 1, 1)
    return batch


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:  # the desktop build, which GluonCV asks for, needs libGL
        raise InputError(
            f"OpenCV cannot be used ({last_line(error)}): pip uninstall -y opencv-python opencv-python-headless, "
            "then pip install opencv-python-headless"
        ) from None
    return cv2


def _loader(
    source: _Source, input_size: int, crop_ratio: float, batch_size: int, num_workers: int
) -> gluon.data.DataLoader:
    def to_batch(samples: List[Tuple[np.ndarray, int]]) -> Batch:
        images, labels = zip(*samples)
        pixels = normalise(np.stack(images), source.mean, source.std)
        return mx.nd.array(pixels, ctx=mx.cpu()), mx.nd.array(labels, ctx=mx.cpu(), dtype="float32")

    def load(key: Any, label: int) -> Tuple[np.ndarray, int]:
        return _load(source, key, input_size, crop_ratio), label

    return gluon.data.DataLoader(
        gluon.data.SimpleDataset(source.samples).transform(load),
        batch_size,
        last_batch="keep",
        batchify_fn=to_batch,
        num_workers=num_workers,
        thread_pool=True,
        prefetch=num_workers,
        timeout=LONGEST_WAIT,
    )


def _load(source: _Source, key: Any, input_size: int, crop_ratio: float) -> np.ndarray:
    """The image as the network sees it, but for normalisation; uint8, input_size x input_size x 3."""
    cv2 = _opencv()
    flags = cv2.IMREAD_COLOR if source.upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(source.read(key), np.uint8), flags)
        if pixels is None:
            raise DataError("no image that OpenCV can decode")
        return resize_and_crop(pixels, input_size, crop_ratio)[..., ::-1]
    except (OSError, DataError, cv2.error) as error:
        raise DataError(
            f"{source.name(key)} cannot be read ({last_line(error)}): get it again or leave it out"
        ) from None


def _folder_source(root: Path) -> Tuple[_Source, List[str]]:
    """The images in class folders, and the folders' names."""
    place = root / "val" if os.path.isdir(root / "val") else root
    try:
        folders = [entry for entry in _visible(place) if entry.is_dir()]
        samples = [
            (path, label)
            for label, folder in enumerate(folders)
            for path in _visible(folder)
            if path.suffix.lower() in EXTENSIONS
        ]
    except OSError as error:
        raise DataError(
            f"{error.filename}: {error.strerror}; name a folder with val.rec and val.idx, or with val/CLASS/IMAGE"
        ) from None
    if not folders:
        raise DataError(f"{place} has neither val.rec nor class folders: name a folder with val/CLASS/IMAGE")
    if not samples:
        raise DataError(
            f"{place}: none of its {len(folders)} class folders, such as {folders[0].name}, holds an image "
            f"({', '.join(EXTENSIONS)}): name a folder with val/CLASS/IMAGE"
        )
    return _Source(samples, Path.read_bytes, str, False, FOLDER_MEAN, FOLDER_STD), [folder.name for folder in folders]


def _visible(folder: Path) -> List[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _find_records(root: Path) -> Optional[Tuple[Path, Path]]:
    """The record file and its index, one of which may be missing; None if both are."""
    for folder in (root, root / "rec"):
        record, index = folder / "val.rec", folder / "val.idx"
        if os.path.exists(record) or os.path.exists(index):
            return record, index
    return None


# The pieces of a record in its file, first byte and length of each. A record is in one piece, except that one which
# contains RECORD_MAGIC is written in several, cut at each and without it.
_Pieces = Tuple[Tuple[int, int], ...]


def _record_source(record: Path, index: Path) -> _Source:
    """The images of a record file, after a look at every header in it and at its index."""
    offsets = _index_offsets(index)
    content = _mapped(record)
    found = list(_records(content, record))
    if sorted(offsets) != [pieces[0][0] - 8 for pieces in found]:
        raise DataError(
            f"{index} has {len(offsets):,} records and {record} {len(found):,}, or other ones: "
            "copy both again, or make the index anew with MXNet's tools/rec2idx.py"
        )
    samples = [((number, pieces), _label(content, pieces, number, record)) for number, pieces in enumerate(found)]
    if not samples:
        raise DataError(f"{record} has no images: make it with MXNet's tools/im2rec.py")
    return _Source(
        samples,
        read=lambda key: _joined(content, key[1])[RECORD_HEADER.size :],
        name=lambda key: f"image {key[0]} (counted from 0) of {record}",
        upright=True,
        mean=RECORD_MEAN,
        std=RECORD_STD,
    )


def _index_offsets(index: Path) -> List[int]:
    """Where the index says that records begin, in bytes; its lines are a key and that."""
    try:
        lines = index.read_bytes().splitlines()
        return [int(line.split()[1]) for line in lines if line.strip()]
    except OSError as error:
        raise DataError(
            f"{index}: {error.strerror}; copy it to its .rec file or make it with MXNet's tools/rec2idx.py"
        ) from None
    except (ValueError, IndexError):
        raise DataError(
            f"{index} is not an index of a .rec file: copy it again or make it with MXNet's tools/rec2idx.py"
        ) from None


def _mapped(record: Path) -> Any:
    """The bytes of a file, read when they are looked at."""
    try:
        with open(record, "rb") as file:
            empty = os.fstat(file.fileno()).st_size == 0
            return b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DataError(
            f"{record}: {error.strerror}; copy it to its .idx file or make it with MXNet's tools/im2rec.py"
        ) from None


def _records(content: Any, record: Path) -> Iterator[_Pieces]:
    """The records of a file; before each piece stand RECORD_MAGIC and, in 3 bits and 29, its kind and its length."""
    whole, first, last = 0, 1, 3
    begin = 0
    pieces: List[Tuple[int, int]] = []
    while begin < len(content):
        magic, word = content[begin : begin + 4], content[begin + 4 : begin + 8]
        if magic != RECORD_MAGIC or len(word) < 4:
            raise _damaged(record, begin)
        kind, length = divmod(struct.unpack("<I", word)[0], 1 << 29)
        following = begin + 8 + (length + 3) // 4 * 4
        if following > len(content) or kind > last or (kind in (whole, first)) == bool(pieces):
            raise _damaged(record, begin)
        pieces.append((begin + 8, length))
        if kind in (whole, last):
            yield tuple(pieces)
            pieces = []
        begin = following
    if pieces:
        raise _damaged(record, begin)


def _damaged(record: Path, where: int) -> DataError:
    return DataError(f"{record} is cut short or damaged at byte {where:,}: copy it again")


def _joined(content: Any, pieces: _Pieces, at_most: Optional[int] = None) -> bytes:
    """The bytes of a record, or no more than the first so many."""
    lengths = (length if at_most is None else min(length, at_most) for _, length in pieces)
    return RECORD_MAGIC.join(content[begin : begin + n] for (begin, _), n in zip(pieces, lengths))[:at_most]


def _label(content: Any, pieces: _Pieces, number: int, record: Path) -> int:
    header = _joined(content, pieces, RECORD_HEADER.size)
    several, label = RECORD_HEADER.unpack(header)[:2] if len(header) == RECORD_HEADER.size else (1, -1.0)
    if several or label < 0 or not float(label).is_integer():
        raise DataError(
            f"image {number} (counted from 0) of {record} has no class as its label: make the file with MXNet's "
            "tools/im2rec.py and one whole number, 0 or more, for each image"
        )
    return int(label)
