"""Read image files with Pillow, and refuse those that are not complete."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Iterator

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from gluon_aff.data.image_formats import (
    FORMATS,
    HEAD,
    MOST_PIXELS,
    NO_LEVELS,
    ODD_LEVELS,
    PILLOW_FORMATS,
    TOO_MANY_PIXELS,
    of_odd_levels,
)
from gluon_aff.errors import InputError, last_line

MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
SIXTEEN_BITS_AS_32 = {"PNG", "PPM"}  # in these formats, Pillow's mode I holds 16 bits
BITS_PER_SAMPLE = 258  # a TIFF tag


def read_image(path: str, upright: bool = True) -> Image.Image:
    """Read the image in a file and return it in RGB.

    The pixels are those that training and validation see, which decode with OpenCV (`data/imagenet/images.py`): alpha
    is dropped, except that an 8-bit TIFF is laid on black, and of 16 bits the upper 8 remain. CMYK is converted without
    its colour profile. Values may differ from OpenCV's by 1 in CMYK JPEGs, YCbCr TIFFs and 16-bit colours in TIFF and
    PPM, and by 7 in 16-bit BMPs. Of an animation, the first frame is read.

    Args:
        path: path of the file.
        upright: whether to turn the image as its EXIF data says.

    Raises:
        InputError: the file is missing, damaged, not an image, larger than `MOST_PIXELS`, in an unsupported format, or
            has pixels without 8-bit RGB values.
    """
    try:
        if not Path(path).is_file():
            raise OSError("it is not a regular file" if Path(path).exists() else "there is no such file")
        with _whole_images_only(), Image.open(path, formats=PILLOW_FORMATS) as image:
            return _to_rgb(ImageOps.exif_transpose(image) if upright else image, image)
    except UnidentifiedImageError:
        raise InputError(f"{path} cannot be read as an image (it is none of {FORMATS} and GIF)") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):  # one or the other, by how many there are
        raise InputError(f"{path} cannot be read as an image ({TOO_MANY_PIXELS})") from None
    # Pillow's readers raise all kinds of errors on damaged files, from SyntaxError to struct.error.
    except Exception as error:
        raise InputError(f"{path} cannot be read as an image ({last_line(error)})") from None


@contextlib.contextmanager
def _whole_images_only() -> Iterator[None]:
    """Make Pillow refuse truncated and very large files, and silence its other warnings.

    Importing GluonCV makes Pillow accept truncated files.
    """
    truncated, pixels = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, MOST_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = truncated, pixels


def _to_rgb(image: Image.Image, file: ImageFile.ImageFile) -> Image.Image:
    """Convert an image to the RGB pixels that `decode` in `data/imagenet/images.py` returns for its file.

    Args:
        image: image of the file, perhaps turned upright.
        file: the file as Pillow opened it.
    """
    if file.format == "PPM":
        _check_levels(str(file.filename))
    if image.mode.startswith("I"):
        if image.mode == "I" and file.format not in SIXTEEN_BITS_AS_32:
            raise ValueError(NO_LEVELS)
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
    if image.mode not in MODES:
        raise ValueError(NO_LEVELS if image.mode == "F" else f"pixels of kind {image.mode}: save it as RGB")
    if image.mode == "RGBa":
        return Image.fromarray(np.ascontiguousarray(np.asarray(image)[..., :3]))
    if image.mode == "RGBA" and _weighs_by_alpha(file):
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    return image.convert("RGB")


def _weighs_by_alpha(file: ImageFile.ImageFile) -> bool:
    """Return whether OpenCV multiplies the colours by alpha, which happens in 8-bit TIFF files only (by libtiff)."""
    return isinstance(file, TiffImagePlugin.TiffImageFile) and set(file.tag_v2.get(BITS_PER_SAMPLE, ())) == {8}


def _check_levels(path: str) -> None:
    with open(path, "rb") as file:
        if of_odd_levels(file.read(HEAD)):
            raise ValueError(ODD_LEVELS)
