"""Augment an image and its mask, with all random choices as arguments.

The chain is that of the authors' sister project: mirror, scale by the longer side, pad with black below and on the
right, crop, blur. Validation images are resized to squares, since COCO's images differ in size.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageFilter

from gluon_aff.data.image_files import read_image
from gluon_aff.data.stop_signs.annotations import MaskedImage, mask_toolbox
from gluon_aff.errors import DataError

SCALES = (0.5, 2.0)  # smallest and largest longer side, as shares of the base size
NUMBERS = 6  # uniform numbers for one image

Pair = Tuple[np.ndarray, np.ndarray]  # image uint8 (H, W, 3): red, green, blue; mask uint8 (H, W): 1 on a sign
MakeBatch = Callable[[Sequence[MaskedImage], Optional[np.ndarray]], Pair]


class Draws(NamedTuple):
    """Random choices for the augmentation of an image.

    Attributes:
        mirror: whether to mirror the image left to right.
        long_side: longer side of the scaled image, in pixels.
        column: place of the crop among all columns at which it fits, in 0..1.
        row: place of the crop among all rows at which it fits, in 0..1.
        blur: radius of the Gaussian blur in pixels, 0 for none.
    """

    mirror: bool
    long_side: int
    column: float
    row: float
    blur: float


def to_draws(numbers: Sequence[float], base_size: int) -> Draws:
    """Translate NUMBERS uniform numbers in [0, 1) into the choices that they stand for."""
    mirror, scale, column, row, blurs, radius = map(float, numbers)
    shortest, longest = (int(base_size * scale) for scale in SCALES)
    long_side = shortest + int(scale * (longest - shortest + 1))
    return Draws(mirror < 0.5, long_side, column, row, radius if blurs < 0.5 else 0.0)


def batch_maker(base_size: int, crop_size: int) -> MakeBatch:
    """Return a function that reads images and masks and makes a batch of them.

    It augments them by their rows of random numbers; without any, it resizes them to squares. It returns
    uint8 (B, S, S, 3) and uint8 (B, S, S), where S is the crop size, or for squares the base size.
    """

    def make(places: Sequence[MaskedImage], numbers: Optional[np.ndarray]) -> Pair:
        if numbers is None:
            pairs = [squash(*read_pair(place), base_size) for place in places]
        else:
            draws = [to_draws(row, base_size) for row in numbers.tolist()]
            pairs = [augment(*read_pair(place), crop_size, each) for place, each in zip(places, draws)]
        images, masks = zip(*pairs)
        return np.stack(images), np.stack(masks)

    return make


def read_pair(place: MaskedImage) -> Tuple[Image.Image, Image.Image]:
    """Read an image in RGB, ignoring its EXIF orientation, and decode its mask with the values 0 and 1.

    Raises:
        InputError: the image cannot be read.
        DataError: the image has another size than its annotations say.
    """
    image = read_image(place.path, upright=False)
    height, width = place.mask["size"]
    if image.size != (width, height):  # checked before memory for a mask of that size is allocated
        raise DataError(
            f"{place.path} has {image.width} x {image.height} pixels, but its annotations say {width} x {height}: get "
            "both again"
        )
    return image, Image.fromarray(np.ascontiguousarray(mask_toolbox().decode(place.mask)))


def augment(image: Image.Image, mask: Image.Image, crop_size: int, draws: Draws) -> Pair:
    """Mirror, scale, pad and crop an image and its mask to crop_size x crop_size pixels, and blur the image."""
    if draws.mirror:
        image, mask = (each.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for each in (image, mask))
    size = _scaled(image.size, draws.long_side)
    image, mask = image.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)
    left, top = (int(share * (max(side - crop_size, 0) + 1)) for share, side in zip((draws.column, draws.row), size))
    box = left, top, left + crop_size, top + crop_size
    image, mask = (each.crop(box) for each in (image, mask))  # black beyond the image
    if draws.blur:
        image = image.filter(ImageFilter.GaussianBlur(draws.blur))
    return np.asarray(image), np.asarray(mask)


def squash(image: Image.Image, mask: Image.Image, base_size: int) -> Pair:
    """Resize an image bilinearly, and its mask to the nearest pixels, to base_size x base_size."""
    return squash_image(image, base_size), np.asarray(mask.resize((base_size, base_size), Image.Resampling.NEAREST))


def squash_image(image: Image.Image, base_size: int) -> np.ndarray:
    """Resize an image bilinearly and return it as uint8 (base_size, base_size, 3)."""
    return np.asarray(image.resize((base_size, base_size), Image.Resampling.BILINEAR))


def _scaled(size: Tuple[int, int], long_side: int) -> Tuple[int, int]:
    """Return the width and height of an image of this `size` after scaling its longer side to `long_side`."""
    longest = max(size)
    width, height = (max(1, int(side * long_side / longest + 0.5)) for side in size)
    return width, height
