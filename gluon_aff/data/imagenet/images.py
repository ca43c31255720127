"""Images of class folders and record files: decoded, resized, cropped, normalised.

OpenCV, which MXNet calls too, is called directly.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, NamedTuple, Optional, Sequence

import numpy as np
from PIL import Image

from gluon_aff.data.image_formats import FORMATS, NO_LEVELS, ODD_LEVELS, begins_like_an_image, is_tiff, of_odd_levels
from gluon_aff.errors import DataError, InputError, last_line

# Red, green, blue on a 0..255 scale: GluonCV's for folders, which has them as 0.485, 0.229 and so on, and for records.
FOLDER_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
FOLDER_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
RECORD_MEAN = (123.68, 116.779, 103.939)
RECORD_STD = (58.393, 57.12, 57.375)

CROP_RATIO = 0.875
LONGEST_SIDE = 1 << 15  # after resizing; a longer image is refused before it fills the memory
LARGE_INPUT = 320  # from this input size on, the original cropped the images of folders as EfficientNet does
EFFICIENTNET_BORDER = 32  # pixels around EfficientNet's centre crop, at the scale of the input size


class Box(NamedTuple):
    """Part of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int


def opencv() -> Any:
    """OpenCV's Python module.

    Raises:
        InputError: it is not usable.
    """
    try:
        import cv2
    except ImportError as error:  # the desktop build, which GluonCV asks for, needs libGL
        raise InputError(
            f"OpenCV cannot be used ({last_line(error)}): pip uninstall -y opencv-python opencv-python-headless, "
            "then pip install opencv-python-headless"
        ) from None
    return cv2


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Name the image that cannot be read or worked on.

    Raises:
        DataError: any error of the file system, of OpenCV or DataError from within, as one line.
    """
    try:
        yield
    except (OSError, DataError, opencv().error) as error:
        raise DataError(f"{what} cannot be read ({last_line(error)}): get it again or leave it out") from None


def decode(encoded: bytes, upright: bool) -> np.ndarray:
    """Decode an image.

    Args:
        encoded: what a file in one of the formats of `image_formats.ENDINGS` holds.
        upright: turn JPEG images as their EXIF data says, which ImageRecordIter did and Gluon did not.

    Returns:
        uint8, H x W x 3: blue, green, red. Alpha is dropped, so hidden pixels count; of 16 bits the upper 8 stay.

    Raises:
        DataError: it is in another format, of a kind of pixels without 8-bit values, or OpenCV cannot decode it.
    """
    cv2 = opencv()
    if not begins_like_an_image(encoded):
        raise DataError(f"no image that OpenCV can decode: it is none of {FORMATS}")
    if of_odd_levels(encoded):
        raise DataError(ODD_LEVELS)
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    buffer = np.frombuffer(encoded, np.uint8)
    if is_tiff(encoded) and not _has_levels(cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)):
        raise DataError(NO_LEVELS)
    pixels = cv2.imdecode(buffer, flags)
    if pixels is None:
        raise DataError("no image that OpenCV can decode")
    return pixels


def _has_levels(stored: Optional[np.ndarray]) -> bool:
    """Whether pixels are of 8 or 16 bits; OpenCV makes others white. None: it cannot say."""
    return stored is None or stored.dtype in (np.uint8, np.uint16)


def cut(image: np.ndarray, box: Box) -> np.ndarray:
    """The part of an image, H x W x 3, that is in the box: a view."""
    return image[box.top : box.top + box.height, box.left : box.left + box.width]


def resize_shorter(image: np.ndarray, shorter: int) -> np.ndarray:
    """Resize the shorter side to so many pixels, bilinear, the longer in proportion.

    Args:
        image: uint8, H x W x 3, the colours in any order.
        shorter: 1 or more.

    Raises:
        DataError: the image is more than a hundred times as long as wide; the file is for the caller to name.
    """
    height, width = image.shape[:2]
    scaled = (shorter * height // width, shorter) if height > width else (shorter, shorter * width // height)
    check_size(width, height, max(scaled), shorter)
    return opencv().resize(image, scaled[::-1])


def check_size(width: int, height: int, longest: int, shorter: int) -> None:
    """Refuse to enlarge an image, width x height, so that its sides become `longest` and `shorter`, if it is a strip.

    Raises:
        DataError: it is.
    """
    if longest > max(LONGEST_SIDE, 2 * shorter):
        raise DataError(f"{width} x {height} pixels are too long a strip")


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
    resized = resize_shorter(image, int(np.ceil(input_size / crop_ratio)))
    return cut_centre(resized, input_size)


def cut_centre(image: np.ndarray, size: int) -> np.ndarray:
    """The centre, size x size x 3, of an image that is at least so large."""
    height, width = image.shape[:2]
    return cut(image, Box((width - size) // 2, (height - size) // 2, size, size))


def efficientnet_centre(height: int, width: int, input_size: int) -> Box:
    """EfficientNet's centre crop: a square, input_size / (input_size + 32) of the shorter side, of an image H x W."""
    side = input_size / (input_size + EFFICIENTNET_BORDER) * min(height, width)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return Box(left, top, round(left + side) - left, round(top + side) - top)


def resize_bicubic(image: np.ndarray, input_size: int) -> np.ndarray:
    """Resize to input_size x input_size with Pillow's bicubic filter, which averages when it shrinks; uint8."""
    return np.asarray(Image.fromarray(image).resize((input_size, input_size), Image.Resampling.BICUBIC))


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
