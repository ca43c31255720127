"""The formats in which images are read, whoever decodes them.

The list is closed: image files come from strangers, and Pillow and OpenCV know dozens of other formats, of which some
run programs (Pillow hands EPS to Ghostscript) and many are hardly ever tried.
"""

from __future__ import annotations

import re

PILLOW_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")

# Of files in class folders; all decoders give these the same pixels. GIF is missing, which not every OpenCV decodes.
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")

_BEGINNING = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|BM|RIFF....WEBP|II[*+]\0|MM\0[*+]|P[1-6]\s", re.DOTALL
)  # fmt: skip


def begins_like_an_image(content: bytes) -> bool:
    """Whether a file with this content begins as one of the formats in ENDINGS does."""
    return _BEGINNING.match(content) is not None
