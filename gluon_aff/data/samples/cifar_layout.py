"""Make two small data sets in CIFAR's binary layouts, so that a whole run needs no download.

`write_digits` packs scikit-learn's handwritten digits, which are real pictures, as CIFAR-10; `write_shapes` draws
coloured shapes as CIFAR-100. `load_cifar` reads both like the official sets; their `SHA1SUMS` file shows that they are
not official.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Tuple

import numpy as np
from PIL import Image, ImageDraw

from gluon_aff.data.cifar.files import SUMS_FILE
from gluon_aff.errors import DataError, InputError

DIGIT_SIZE = 24
TEST_SHARE = 6  # every sixth image of a class
# Red, green and blue in 0..255.
COLOURS = {
    "red": (228, 40, 40),
    "yellow": (240, 220, 40),
    "green": (40, 180, 70),
    "blue": (60, 100, 240),
    "violet": (200, 70, 220),
}
# Side in pixels at which shapes are drawn before they are scaled down, for smooth edges.
CANVAS = 128


class Mark(NamedTuple):
    """One part of a shape: an ellipse (left, top, right, bottom) or a polygon, in 0..16, that is painted or cut out."""

    points: Tuple[float, ...]
    ellipse: bool = False
    cut: bool = False


def _disc(left: float, top: float, right: float, bottom: float, cut: bool = False) -> Mark:
    return Mark((left, top, right, bottom), ellipse=True, cut=cut)


def _box(left: float, top: float, right: float, bottom: float, cut: bool = False) -> Mark:
    return Mark((left, top, right, top, right, bottom, left, bottom), cut=cut)


def _polygon(*points: float) -> Mark:
    return Mark(points)


SHAPES: Dict[str, Tuple[Mark, ...]] = {
    "disc": (_disc(0, 0, 16, 16),),
    "ring": (_disc(0, 0, 16, 16), _disc(4, 4, 12, 12, cut=True)),
    "square": (_box(1, 1, 15, 15),),
    "frame": (_box(1, 1, 15, 15), _box(4.5, 4.5, 11.5, 11.5, cut=True)),
    "triangle": (_polygon(8, 0, 16, 15, 0, 15),),
    "diamond": (_polygon(8, 0, 14, 8, 8, 16, 2, 8),),
    "plus": (_box(6, 0, 10, 16), _box(0, 6, 16, 10)),
    "saltire": (_polygon(0, 3, 3, 0, 16, 13, 13, 16), _polygon(13, 0, 16, 3, 3, 16, 0, 13)),
    "bars": (_box(0, 0, 16, 3.2), _box(0, 6.4, 16, 9.6), _box(0, 12.8, 16, 16)),
    "stripes": (_box(0, 0, 3.2, 16), _box(6.4, 0, 9.6, 16), _box(12.8, 0, 16, 16)),
    "star": (_polygon(8, 0, 10, 6, 16, 6, 11, 10, 13, 16, 8, 12, 3, 16, 5, 10, 0, 6, 6, 6),),
    "crescent": (_disc(0, 0, 16, 16), _disc(5, 1, 17, 13, cut=True)),
    "bowl": (_disc(0, -5, 16, 13), _box(-1, -6, 17, 4, cut=True)),
    "heart": (_disc(0, 1, 8.5, 9), _disc(7.5, 1, 16, 9), _polygon(0.6, 6.5, 15.4, 6.5, 8, 16)),
    "arrow": (_polygon(8, 0, 15, 8, 1, 8), _box(6, 8, 10, 16)),
    "chequer": (_box(0, 0, 8, 8), _box(8, 8, 16, 16)),
    "hourglass": (_polygon(0, 0, 16, 0, 8, 8), _polygon(8, 8, 16, 16, 0, 16)),
    "dots": (_disc(0, 0, 6, 6), _disc(10, 0, 16, 6), _disc(0, 10, 6, 16), _disc(10, 10, 16, 16)),
    "tee": (_box(0, 0, 16, 4), _box(6, 4, 10, 16)),
    "staircase": (_box(0, 11, 16, 16), _box(5.3, 5.5, 16, 11), _box(10.7, 0, 16, 5.5)),
}


def write_digits(folder: str) -> None:
    """Write scikit-learn's 1,797 handwritten digits in CIFAR-10's layout: 1,501 training and 296 test images.

    Each picture of 8 x 8 pixels is enlarged to 24 x 24 in the middle of a black image of 32 x 32, so that crops and
    shifts do not cut off its strokes.

    Args:
        folder: folder to create; one that holds the same set already is left unchanged.

    Raises:
        DataError: the folder holds something else, or cannot be written.
        InputError: scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("the digits come with scikit-learn, which is missing: pip install scikit-learn") from None
    digits = load_digits()
    labels = digits.target.astype(np.uint8)[:, np.newaxis]
    records = np.hstack([labels, _to_planes(_enlarged(digits.images))])
    test = _rank_in_class(digits.target) % TEST_SHARE == TEST_SHARE - 1
    files = {
        f"data_batch_{number}.bin": batch.tobytes()
        for number, batch in enumerate(np.array_split(records[~test], 5), start=1)
    }
    files["test_batch.bin"] = records[test].tobytes()
    files["batches.meta.txt"] = _lines(str(digit) for digit in range(10))
    _write_set(Path(os.path.expanduser(folder)), files)


def write_shapes(folder: str, train_images: int = 5000, test_images: int = 1000, seed: int = 0) -> None:
    """Draw shapes and write them in CIFAR-100's layout: 20 shapes (coarse labels), each in 5 colours (fine labels).

    The fine label is 5 * coarse + colour. Size, place and background vary, and all fine labels are equally frequent.

    Args:
        folder: folder to create; one that holds the same set already is left unchanged.
        train_images: number of training images, a multiple of 100.
        test_images: number of test images, a multiple of 100.
        seed: seed of the random numbers, 0 or more.

    Raises:
        DataError: the folder holds something else, or cannot be written.
        InputError: a number is not as required.
    """
    if seed < 0:
        raise InputError(f"the seed is {seed}, but it has to be 0 or more")
    files = {
        name: _draw_records(images, np.random.Generator(np.random.PCG64((seed, half)))).tobytes()
        for half, (name, images) in enumerate({"train.bin": train_images, "test.bin": test_images}.items())
    }
    files["coarse_label_names.txt"] = _lines(SHAPES)
    files["fine_label_names.txt"] = _lines(f"{colour}_{shape}" for shape in SHAPES for colour in COLOURS)
    _write_set(Path(os.path.expanduser(folder)), files)


def _enlarged(digits: np.ndarray) -> np.ndarray:
    """Enlarge digits, (N, 8, 8) in 0..16, to images, uint8 (N, 32, 32, 3) in 0..255."""
    grey = np.rint(digits * (255 / 16)).astype(np.uint8)
    size = (DIGIT_SIZE, DIGIT_SIZE)
    large = np.stack([np.asarray(Image.fromarray(digit).resize(size, Image.Resampling.BICUBIC)) for digit in grey])
    margin = (32 - DIGIT_SIZE) // 2
    canvas = np.pad(large, ((0, 0), (margin, margin), (margin, margin)))
    return np.repeat(canvas[..., np.newaxis], 3, axis=-1)


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    """Return for each sample how many earlier ones have the same label."""
    return (np.cumsum(labels[:, np.newaxis] == np.arange(labels.max() + 1), axis=0) - 1)[np.arange(len(labels)), labels]


def _draw_records(images: int, random: np.random.Generator) -> np.ndarray:
    """Draw images and return them as CIFAR-100 records, uint8 (N, 3074), in random order."""
    kinds = len(SHAPES) * len(COLOURS)
    if images < kinds or images % kinds:
        raise InputError(f"{images} images do not make {kinds} equally frequent kinds: use a multiple of {kinds}")
    fine = random.permutation(np.arange(images) % kinds)
    coarse, colour = np.divmod(fine, len(COLOURS))
    masks = [_mask(marks) for marks in SHAPES.values()]
    size = random.integers(16, 25, size=images)
    place = (random.random((images, 2)) * (33 - size[:, np.newaxis])).astype(int)
    cover = np.stack([_placed(masks[kind], *spot) for kind, *spot in zip(coarse, size.tolist(), place.tolist())])
    painted = _painted(cover, np.array(list(COLOURS.values()))[colour], random)
    return np.hstack(
        [coarse[:, np.newaxis].astype(np.uint8), fine[:, np.newaxis].astype(np.uint8), _to_planes(painted)]
    )


def _mask(marks: Tuple[Mark, ...]) -> Image.Image:
    """Draw a shape in white on black, CANVAS pixels wide and high."""
    image = Image.new("L", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(image)
    for mark in marks:
        points = [coordinate * CANVAS / 16 for coordinate in mark.points]
        (draw.ellipse if mark.ellipse else draw.polygon)(points, fill=0 if mark.cut else 255)
    return image


def _placed(mask: Image.Image, size: int, place: List[int]) -> np.ndarray:
    """Scale a shape to `size` pixels and place its top left corner at `place` (row, column); return uint8 (32, 32)."""
    canvas = np.zeros((32, 32), np.uint8)
    row, column = place
    canvas[row : row + size, column : column + size] = mask.resize((size, size), Image.Resampling.BOX)
    return canvas


def _painted(cover: np.ndarray, colours: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Paint shapes, uint8 (N, 32, 32), in their colours (N, 3) on noisy grey gradients; return uint8 (N, 32, 32, 3)."""
    grey, down, right = random.uniform([[30], [-30], [-30]], [[90], [30], [30]], size=(3, len(cover)))
    ramp = np.linspace(-0.5, 0.5, 32)
    slope = grey[:, np.newaxis, np.newaxis] + down[:, np.newaxis, np.newaxis] * ramp[:, np.newaxis]
    background = slope + right[:, np.newaxis, np.newaxis] * ramp
    share = cover / 255
    brightness = random.uniform(0.8, 1.0, size=(len(cover), 1))
    paint = share[..., np.newaxis] * (colours * brightness)[:, np.newaxis, np.newaxis]
    clean = paint + ((1 - share) * background)[..., np.newaxis]
    noisy = clean + random.normal(0, 4, size=clean.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _to_planes(images: np.ndarray) -> np.ndarray:
    """Convert images (N, 32, 32, 3) to CIFAR's order of bytes, (N, 3072), in which all red values come first."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def _lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def _write_set(folder: Path, files: Dict[str, bytes]) -> None:
    """Write the files of a set, and `SHA1SUMS` with their checksums."""
    sums = (f"{hashlib.sha1(data).hexdigest()}  {name}" for name, data in files.items() if name.endswith(".bin"))
    write_whole(folder, {**files, SUMS_FILE: _lines(sums)})


def write_whole(folder: Path, files: Dict[str, bytes]) -> None:
    """Create a folder with all its files in one step, so that no incomplete folder is left behind.

    Args:
        folder: folder to create; one that holds exactly these files already is left unchanged.
        files: content of the files, by their paths relative to the folder.

    Raises:
        DataError: the folder holds other files, or cannot be written.
    """
    if folder.exists() and not _is_empty(folder):
        if not _holds(folder, files):
            raise DataError(f"{folder} exists and holds something else: remove it or choose another folder")
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as unfinished:
            _write_files(Path(unfinished) / folder.name, files).rename(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}): choose another folder") from error


def _write_files(folder: Path, files: Dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _holds(folder: Path, files: Dict[str, bytes]) -> bool:
    """Return whether the folder holds exactly these files."""
    found = (entry for entry in folder.rglob("*") if not entry.is_dir())
    if not folder.is_dir() or {entry.relative_to(folder).as_posix() for entry in found} != set(files):
        return False
    return all((folder / name).read_bytes() == data for name, data in files.items())
