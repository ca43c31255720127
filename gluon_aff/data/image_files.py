"""Image files of any kind, read whole or not at all."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Iterator

import numpy as np
from PIL import Image, ImageFile, ImageOps

from gluon_aff.errors import InputError, last_line


def read_image(path: str, upright: bool = True) -> Image.Image:
    """The image in a file, in RGB.

    Of an animation, the first frame is taken; what is transparent lies on white; 16 bits are scaled to 8; CMYK is
    converted without its colour profile.

    Args:
        path: of the file.
        upright: apply EXIF's orientation.

    Raises:
        InputError: the file is missing, damaged, no image, too large for Pillow's limit, or of a kind of pixels that
            has no 8-bit RGB values.
    """
    try:
        if not Path(path).is_file():
            raise OSError("it is no regular file" if Path(path).exists() else "there is no such file")
        with _whole_images_only(), Image.open(path) as image:
            return _to_rgb(ImageOps.exif_transpose(image) if upright else image)
    # Pillow's readers raise all kinds of errors on damaged files, from SyntaxError to struct.error.
    except Exception as error:
        raise InputError(f"{path} cannot be read as an image ({last_line(error)})") from None


@contextlib.contextmanager
def _whole_images_only() -> Iterator[None]:
    """Make Pillow refuse truncated files, which importing GluonCV turns off, and large ones; silence its remarks."""
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        levels = np.clip(np.asarray(image), 0, 65535) / 257
        image = Image.fromarray(np.rint(levels).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, with_alpha)
    return image.convert("RGB")
