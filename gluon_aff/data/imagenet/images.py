"""Decode, resize, crop and normalise the images of class folders and record files.

OpenCV is called directly; MXNet's readers call it, too.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, Iterator, NamedTuple, Optional, Sequence

import numpy as np
from PIL import Image

from gluon_aff.data.image_formats import (
    FORMATS,
    MOST_PIXELS,
    NO_LEVELS,
    ODD_LEVELS,
    TOO_MANY_PIXELS,
    begins_like_an_image,
    is_tiff,
    of_odd_levels,
)
from gluon_aff.data.image_headers import chunks_fit, claimed_size, is_png
from gluon_aff.errors import DataError, InputError, last_line

# GluonCV's values for folders and for records: red, green, blue on a 0..255 scale.
FOLDER_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
FOLDER_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
RECORD_MEAN = (123.68, 116.779, 103.939)
RECORD_STD = (58.393, 57.12, 57.375)

CROP_RATIO = 0.875
LONGEST_SIDE = 1 << 15  # pixels after resizing; a longer image is refused before it fills the memory
LARGE_INPUT = 320  # from this input size on, the original crops the images of folders as EfficientNet does
EFFICIENTNET_BORDER = 32  # pixels around EfficientNet's centre crop, at the scale of the input


class Box(NamedTuple):
    """Part of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int


def opencv() -> Any:
    """Import and return OpenCV's Python module.

    Raises:
        InputError: it cannot be imported; the message says what to install.
    """
    try:
        import cv2
    except ImportError as error:  # GluonCV requires the desktop build, which needs libGL
        raise InputError(
            f"OpenCV cannot be used ({last_line(error)}): pip uninstall -y opencv-python opencv-python-headless, "
            "then pip install opencv-python-headless"
        ) from None
    return cv2


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Turn errors of the file system, of OpenCV and DataErrors within this context into one that names the image.

    Raises:
        DataError: there was such an error; the message has one line.
    """
    try:
        yield
    except (OSError, DataError, opencv().error) as error:
        raise DataError(f"{what} cannot be read ({last_line(error)}): get it again or leave it out") from None


def decode(encoded: bytes, upright: bool) -> np.ndarray:
    """Decode the content of an image file with OpenCV.

    Args:
        encoded: content of a file in one of the formats `image_formats.FORMATS`.
        upright: whether to turn JPEG images as their EXIF data says, which ImageRecordIter does and Gluon does not.

    Returns:
        uint8 (H, W, 3): blue, green, red. Alpha is dropped, so that transparent pixels show their colour; of 16 bits
        the upper 8 remain.

    Raises:
        DataError: the format is another one, there are more than `MOST_PIXELS`, the pixels have no 8-bit values, or
            OpenCV cannot decode the image.
    """
    cv2 = opencv()
    if not begins_like_an_image(encoded):
        raise DataError(f"OpenCV cannot decode it: it is none of {FORMATS}")
    if of_odd_levels(encoded):
        raise DataError(ODD_LEVELS)
    _check_claims(encoded)
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    buffer = np.frombuffer(encoded, np.uint8)
    if is_tiff(encoded) and not _has_levels(cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)):
        raise DataError(NO_LEVELS)
    pixels = cv2.imdecode(buffer, flags)
    if pixels is None:
        raise DataError("OpenCV cannot decode it")
    return pixels


def _check_claims(encoded: bytes) -> None:
    """Refuse what would take gigabytes of memory, however short the file is."""
    if is_png(encoded) and not chunks_fit(encoded):
        raise DataError("it is cut short or damaged")
    claimed = claimed_size(encoded)
    if claimed is None:
        raise DataError("its header does not say how many pixels it has")
    if math.prod(claimed) > MOST_PIXELS:
        raise DataError(TOO_MANY_PIXELS)


def _has_levels(stored: Optional[np.ndarray]) -> bool:
    """Return whether pixels have 8 or 16 bits, since OpenCV makes all others white; None, unknown pixels, passes."""
    return stored is None or stored.dtype in (np.uint8, np.uint16)


def cut(image: np.ndarray, box: Box) -> np.ndarray:
    """Return the part of an image, (H, W, 3), that is in the box, as a view."""
    return image[box.top : box.top + box.height, box.left : box.left + box.width]


def resize_shorter(image: np.ndarray, shorter: int) -> np.ndarray:
    """Resize an image bilinearly and in proportion, so that its shorter side has `shorter` pixels.

    Args:
        image: uint8 (H, W, 3), with the colours in any order.
        shorter: length of the shorter side in pixels, 1 or more.

    Raises:
        DataError: the image is too long and narrow; the caller has to name the file.
    """
    height, width = image.shape[:2]
    scaled = (shorter * height // width, shorter) if height > width else (shorter, shorter * width // height)
    check_size(width, height, max(scaled), shorter)
    return opencv().resize(image, scaled[::-1])


def check_size(width: int, height: int, longest: int, shorter: int) -> None:
    """Check that a resized image does not become too long.

    Args:
        width: width of the image before, in pixels.
        height: height of the image before, in pixels.
        longest: length of the longer side after resizing, in pixels.
        shorter: length of the shorter side after resizing, in pixels.

    Raises:
        DataError: the longer side exceeds LONGEST_SIDE and twice the shorter side.
    """
    if longest > max(LONGEST_SIDE, 2 * shorter):
        raise DataError(f"{width} x {height} pixels are too long and narrow to resize")


def resize_and_crop(image: np.ndarray, input_size: int, crop_ratio: float = CROP_RATIO) -> np.ndarray:
    """Resize the shorter side bilinearly to ceil(input_size / crop_ratio) pixels, and cut out the centre.

    Args:
        image: uint8 (H, W, 3), with the colours in any order.
        input_size: side of the crop in pixels.
        crop_ratio: side of the crop divided by the resized shorter side, in 0..1.

    Returns:
        uint8 (input_size, input_size, 3).

    Raises:
        DataError: the image is too long and narrow; the caller has to name the file.
    """
    resized = resize_shorter(image, int(np.ceil(input_size / crop_ratio)))
    return cut_centre(resized, input_size)


def cut_centre(image: np.ndarray, size: int) -> np.ndarray:
    """Return the centre, (size, size, 3), of an image whose sides have at least `size` pixels."""
    height, width = image.shape[:2]
    return cut(image, Box((width - size) // 2, (height - size) // 2, size, size))


def efficientnet_centre(height: int, width: int, input_size: int) -> Box:
    """Return EfficientNet's centre crop: a square whose side is input_size / (input_size + 32) of the shorter side."""
    side = input_size / (input_size + EFFICIENTNET_BORDER) * min(height, width)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return Box(left, top, round(left + side) - left, round(top + side) - top)


def resize_bicubic(image: np.ndarray, input_size: int) -> np.ndarray:
    """Resize a uint8 image to (input_size, input_size, 3) with Pillow's bicubic filter, which averages in shrinking."""
    return np.asarray(Image.fromarray(image).resize((input_size, input_size), Image.Resampling.BICUBIC))


def normalise(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Return (images - mean) / std.

    Args:
        images: uint8 (N, H, W, 3): red, green, blue.
        mean: means of red, green and blue on a 0..255 scale.
        std: standard deviations of red, green and blue on a 0..255 scale.

    Returns:
        float32 (N, 3, H, W).
    """
    batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    batch -= np.array(mean, np.float32).reshape(3, 1, 1)
    batch /= np.array(std, np.float32).reshape(3, 1, 1)
    return batch
