"""The formats in which images are read, whoever decodes them.

The list is closed: image files come from strangers, and Pillow and OpenCV know dozens of other formats, of which some
run programs (Pillow hands EPS to Ghostscript) and many are hardly ever tried.
"""

from __future__ import annotations

import re

FORMATS = "JPEG, PNG, BMP, WebP, TIFF, PNM"  # what OpenCV decodes of them; Pillow reads GIF besides
PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")

# Of files in class folders; all decoders give these the same pixels. GIF is missing, which not every OpenCV decodes.
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")

HEAD = 4096  # bytes that tell the format; a PNM header is longer only by its comments

NO_LEVELS = "pixels that are floating-point or have 32 bits have no fixed range: save it with 8 or 16 bits"
ODD_LEVELS = "its brightest level is neither 255 nor 65535: save it anew, as PNG for example"

_BEGINNING = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|BM|RIFF....WEBP|II[*+]\0|MM\0[*+]|P[1-6]\s", re.DOTALL)
_TIFF = re.compile(rb"II[*+]\0|MM\0[*+]")
_SPACE = rb"(?:\s|#[^\n]*\n)+"
_HIGHEST_LEVEL = re.compile(rb"P[2356]" + _SPACE + rb"\d+" + _SPACE + rb"\d+" + _SPACE + rb"(\d+)\s")
_HIGHEST_LEVELS = (255, 65535)


def begins_like_an_image(head: bytes) -> bool:
    """Whether a file that begins so is in one of FORMATS."""
    return _BEGINNING.match(head) is not None


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins so is a TIFF file."""
    return _TIFF.match(head) is not None


def of_odd_levels(head: bytes) -> bool:
    """Whether a file that begins so is a PNM file whose white is neither 255 nor 65535; decoders disagree on those."""
    found = _HIGHEST_LEVEL.match(head[:HEAD])
    return found is not None and int(found[1]) not in _HIGHEST_LEVELS
