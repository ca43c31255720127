"""Image formats that are read, by Pillow as well as by OpenCV.

All other formats are refused, since image files may come from strangers: Pillow and OpenCV know dozens of further
formats, some of which run other programs (Pillow passes EPS to Ghostscript), and many are rarely tested.
"""

from __future__ import annotations

import re

FORMATS = "JPEG, PNG, BMP, WebP, TIFF, PNM"  # OpenCV decodes these; Pillow also reads GIF
PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")

# Endings of the files that are read in class folders. GIF is missing, since not every build of OpenCV decodes it.
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")

HEAD = 4096  # bytes that suffice to recognise the format; only comments can make a PNM header longer

# In an image; cameras of 100 megapixels make smaller ones. To decode so many takes OpenCV 1 GB of memory, Pillow 2.5.
MOST_PIXELS = 1 << 27
TOO_MANY_PIXELS = f"it has more than {MOST_PIXELS:,} pixels: make it smaller"
NO_LEVELS = "floating-point and 32-bit pixels have no fixed range: save it with 8 or 16 bits"
ODD_LEVELS = "its brightest level is neither 255 nor 65535: save it again, for example as PNG"

_BEGINNING = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|BM|RIFF....WEBP|II[*+]\0|MM\0[*+]|P[1-6]\s", re.DOTALL)
_TIFF = re.compile(rb"II[*+]\0|MM\0[*+]")
SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"  # between the numbers of a PNM header
_HIGHEST_LEVEL = re.compile(rb"P[2356]" + SPACE + rb"\d+" + SPACE + rb"\d+" + SPACE + rb"(\d+)\s")
_HIGHEST_LEVELS = {255, 65535}


def begins_like_an_image(head: bytes) -> bool:
    """Return whether a file that begins with the bytes `head` is in one of `FORMATS`."""
    return _BEGINNING.match(head) is not None


def is_tiff(head: bytes) -> bool:
    """Return whether a file that begins with the bytes `head` is a TIFF file."""
    return _TIFF.match(head) is not None


def of_odd_levels(head: bytes) -> bool:
    """Return whether `head` begins a PNM file whose white is neither 255 nor 65535; decoders disagree about those."""
    found = _HIGHEST_LEVEL.match(head[:HEAD])
    return found is not None and int(found[1]) not in _HIGHEST_LEVELS
