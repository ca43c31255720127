"""Make a small set of pictures in ImageNet's folders, so that a whole run needs no download."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Callable, Dict, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from gluon_aff.data.samples.cifar_layout import write_whole
from gluon_aff.errors import InputError

WIDTH, HEIGHT = 128, 100
JPEG_QUALITY = 90
PATCH_WIDTHS = (96, 160)  # smallest and largest, in pixels of the photograph
NOISE = 5  # standard deviation on a 0..255 scale


class Region(NamedTuple):
    """Part of one of scikit-learn's sample photographs, in pixels."""

    photograph: str
    left: int
    top: int
    right: int
    bottom: int


REGIONS = {
    "dahlia": Region("flower.jpg", 175, 85, 445, 355),
    "leaves": Region("flower.jpg", 0, 0, 175, 427),
    "pagoda": Region("china.jpg", 75, 95, 345, 365),
    "sky": Region("china.jpg", 330, 0, 640, 190),
    "trees": Region("china.jpg", 370, 280, 640, 427),
}

Painter = Callable[[np.random.Generator], np.ndarray]


def write_pictures(folder: str, train_images: int = 320, val_images: int = 80, seed: int = 0) -> None:
    """Write JPEG pictures of 128 x 100 pixels into `train/CLASS/` and `val/CLASS/`, equally many for each of 8 classes.

    Five classes are patches of scikit-learn's two sample photographs, and three are drawn: chequers, discs and
    gratings. Place, size, colours and brightness vary. Training and validation patches overlap, so that scores on this
    set show that a run works, and say nothing about generalisation.

    Args:
        folder: folder to create; one that holds the same set already is left unchanged.
        train_images: number of training images, a multiple of 8.
        val_images: number of validation images, a multiple of 8.
        seed: seed of the random numbers, 0 or more.

    Raises:
        DataError: the folder holds something else, or cannot be written.
        InputError: a number is not as required, or scikit-learn is missing.
    """
    if seed < 0:
        raise InputError(f"the seed is {seed}, but it has to be 0 or more")
    painters = _painters()
    for images in (train_images, val_images):
        if images < 1 or images % len(painters):
            raise InputError(
                f"{images} images do not make {len(painters)} equally frequent classes: "
                f"use a multiple of {len(painters)}"
            )
    files = {}
    for half, (name, images) in enumerate({"train": train_images, "val": val_images}.items()):
        for label, (kind, paint) in enumerate(sorted(painters.items())):
            random = np.random.Generator(np.random.PCG64((seed, half, label)))
            for number in range(images // len(painters)):
                files[f"{name}/{kind}/{number:04}.jpg"] = _jpeg(paint(random), random)
    write_whole(Path(os.path.expanduser(folder)), files)


def _painters() -> Dict[str, Painter]:
    """Return for each class a function that makes a picture of it: float (100, 128, 3), in 0..255."""
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        raise InputError("the photographs come with scikit-learn, which is missing: pip install scikit-learn") from None
    sample = load_sample_images()
    photographs = dict(zip((Path(name).name for name in sample.filenames), map(Image.fromarray, sample.images)))
    patches = {name: _patches(photographs[region.photograph], region) for name, region in REGIONS.items()}
    return {**patches, "chequers": _chequers, "discs": _discs, "gratings": _grating}


def _patches(photograph: Image.Image, region: Region) -> Painter:
    def paint(random: np.random.Generator) -> np.ndarray:
        width = int(random.integers(*PATCH_WIDTHS, endpoint=True))
        height = width * HEIGHT // WIDTH
        left = int(random.integers(region.left, region.right - width, endpoint=True))
        top = int(random.integers(region.top, region.bottom - height, endpoint=True))
        patch = photograph.crop((left, top, left + width, top + height)).resize(
            (WIDTH, HEIGHT), Image.Resampling.BICUBIC
        )
        return np.asarray(patch) * random.uniform(0.8, 1.1)

    return paint


def _waves(random: np.random.Generator, turn: float) -> np.ndarray:
    """Return a sine wave at the angle `turn`, with a period of 12 to 24 pixels: float (100, 128), in -1..1."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    place = np.cos(turn) * column + np.sin(turn) * row
    return np.sin(2 * np.pi * (place / random.uniform(12, 24) + random.random()))


def _two_colours(share: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Blend a random dark colour, where `share` is 0, with a random light one, where it is 1: float (H, W, 3)."""
    dark, light = random.uniform([[0], [150]], [[90], [255]], size=(2, 3))
    return dark + share[..., np.newaxis] * (light - dark)


def _grating(random: np.random.Generator) -> np.ndarray:
    return _two_colours(_waves(random, random.uniform(0, np.pi)) / 2 + 0.5, random)


def _chequers(random: np.random.Generator) -> np.ndarray:
    turn = random.uniform(0, np.pi)
    fields = _waves(random, turn) * _waves(random, turn + np.pi / 2)
    return _two_colours((fields > 0).astype(float), random)


def _discs(random: np.random.Generator) -> np.ndarray:
    image = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(image)
    for column, row, radius in random.uniform([0, 0, 8], [WIDTH, HEIGHT, 22], size=(7, 3)).tolist():
        draw.ellipse((column - radius, row - radius, column + radius, row + radius), fill=255)
    return _two_colours(np.asarray(image) / 255, random)


def _jpeg(pixels: np.ndarray, random: np.random.Generator) -> bytes:
    noisy = pixels + random.normal(0, NOISE, size=pixels.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8)).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
