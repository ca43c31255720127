"""What happens to an image and its mask before the network, with every random choice handed in.

The chain is that of the authors' sister project: mirror, scale by the longer side, pad with black below and on the
right, crop, blur. A validation image is squashed to a square, since COCO's differ in size.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageFilter

from gluon_aff.data.image_files import read_image
from gluon_aff.data.stop_signs.annotations import MaskedImage, mask_toolbox
from gluon_aff.errors import DataError

SCALES = (0.5, 2.0)  # of the base size
NUMBERS = 6  # uniform numbers that an image takes

Pair = Tuple[np.ndarray, np.ndarray]  # uint8: H x W x 3, red, green, blue; H x W, 1 where the mask is
MakeBatch = Callable[[Sequence[MaskedImage], Optional[np.ndarray]], Pair]


class Draws(NamedTuple):
    """The random choices for an image.

    Attributes:
        mirror: left to right.
        long_side: of the scaled image, in pixels.
        column: of the crop, in 0..1 of where it fits.
        row: likewise.
        blur: radius of the Gaussian blur in pixels, 0 for none.
    """

    mirror: bool
    long_side: int
    column: float
    row: float
    blur: float


def to_draws(numbers: Sequence[float], base_size: int) -> Draws:
    """The choices that NUMBERS uniform numbers in [0, 1) stand for."""
    mirror, scale, column, row, blurs, radius = map(float, numbers)
    shortest, longest = (int(base_size * scale) for scale in SCALES)
    long_side = shortest + int(scale * (longest - shortest + 1))
    return Draws(mirror < 0.5, long_side, column, row, radius if blurs < 0.5 else 0.0)


def batch_maker(base_size: int, crop_size: int) -> MakeBatch:
    """Function that reads images, and augments them by their rows of numbers, or squashes them without any.

    Its result: uint8, B x S x S x 3 and B x S x S; S is the crop size, or the base size.
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
    """The image in RGB, as it lies in the file, and its mask with values 0 and 1.

    Raises:
        InputError: the image cannot be read.
        DataError: it has another size than its annotations say.
    """
    image = read_image(place.path, upright=False)
    height, width = place.mask["size"]
    if image.size != (width, height):  # before there is an array of the size that the annotations say
        raise DataError(
            f"{place.path} has {image.width} x {image.height} pixels, and its annotations say {width} x {height}: get "
            "both again"
        )
    return image, Image.fromarray(np.ascontiguousarray(mask_toolbox().decode(place.mask)))


def augment(image: Image.Image, mask: Image.Image, crop_size: int, draws: Draws) -> Pair:
    """Mirror, scale, pad, crop, blur (the image only): crop_size x crop_size."""
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
    """Resize to base_size x base_size, the image bilinear, the mask to the nearest pixel."""
    return squash_image(image, base_size), np.asarray(mask.resize((base_size, base_size), Image.Resampling.NEAREST))


def squash_image(image: Image.Image, base_size: int) -> np.ndarray:
    """Resize bilinear: uint8 (base_size, base_size, 3)."""
    return np.asarray(image.resize((base_size, base_size), Image.Resampling.BILINEAR))


def _scaled(size: Tuple[int, int], long_side: int) -> Tuple[int, int]:
    """Width and height of an image of that `size` once its longer side is `long_side`."""
    longest = max(size)
    width, height = (max(1, int(side * long_side / longest + 0.5)) for side in size)
    return width, height
