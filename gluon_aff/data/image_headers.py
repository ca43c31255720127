"""Read the size that an image claims from its header, before a decoder allocates memory for the pixels.

A JPEG file of a few hundred bytes may claim 65535 x 65535 pixels, and a decoder allocates memory for all of them, even
if their data is missing. The header of each format is read as the library of the format reads it, so that both find the
same size.
"""

from __future__ import annotations

import re
import struct
from typing import Dict, Iterator, Optional, Tuple

from gluon_aff.data.image_formats import HEAD, SPACE, is_tiff

Size = Tuple[int, int]

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNK, _PNG_CHECKSUM = struct.Struct(">I4s"), 4  # the layout before the content of a chunk, and the bytes after it
_PNM = re.compile(rb"P[1-6]" + SPACE + rb"(\d{1,9})" + SPACE + rb"(\d{1,9})\s")
_BMP_WITH_WORDS, _BMP_WITH_LONGS = 12, 36  # header sizes in bytes; for the second kind, the smallest
_WEBP_SIDE = (1 << 14) - 1  # mask for the bits of a side; in lossy files, two bits for scaling follow
_JPEG_MARKER = re.compile(rb"[^\xff]*\xff+([^\xff])")
_JPEG_ALONE = {0x00, 0x01, *range(0xD0, 0xD8)}  # no length follows these; 0 is an escaped data byte, not a marker
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ENDS = {0xD9, 0xDA}  # the header ends where the image ends or its data begins
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TIFF_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}  # `struct` codes by tag type


def is_png(encoded: bytes) -> bool:
    """Return whether a file that begins with the bytes `encoded` is a PNG file."""
    return encoded.startswith(_PNG)


def claimed_size(encoded: bytes) -> Optional[Size]:
    """Return the width and height that an image claims; None if `encoded` does not contain them.

    Args:
        encoded: an image in one of the formats of `image_formats.FORMATS`, or the beginning of one.
    """
    try:
        if encoded.startswith(b"\xff\xd8"):
            return _jpeg(encoded)
        if is_png(encoded):
            width, height = struct.unpack_from(">2I", encoded, 16)
            return width, height
        if encoded.startswith(b"BM"):
            return _bmp(encoded)
        if encoded.startswith(b"RIFF"):
            return _webp(encoded)
        return _tiff(encoded) if is_tiff(encoded) else _pnm(encoded)
    except struct.error:
        return None


def chunks_fit(png: bytes) -> bool:
    """Return whether each chunk of a PNG file fits into the rest of the file.

    OpenCV allocates memory for as many bytes as a chunk claims.
    """
    place, kind = len(_PNG), b""
    while place < len(png) and kind != b"IEND":
        if place + _PNG_CHUNK.size > len(png):
            return False
        length, kind = _PNG_CHUNK.unpack_from(png, place)
        place += _PNG_CHUNK.size + length + _PNG_CHECKSUM
    return place <= len(png)


def _jpeg(encoded: bytes) -> Optional[Size]:
    """Return the size in the first frame header, and skip any bytes between the markers."""
    found = _JPEG_MARKER.match(encoded, 2)
    while found:
        marker, place = found[1][0], found.end()
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">2H", encoded, place + 3)
            return width, height
        if marker in _JPEG_ENDS:
            return None
        if marker not in _JPEG_ALONE:
            place += struct.unpack_from(">H", encoded, place)[0]
        found = _JPEG_MARKER.match(encoded, place)
    return None


def _bmp(encoded: bytes) -> Optional[Size]:
    (header,) = struct.unpack_from("<I", encoded, 14)
    if header != _BMP_WITH_WORDS and header < _BMP_WITH_LONGS:
        return None
    width, height = struct.unpack_from("<2H" if header == _BMP_WITH_WORDS else "<2i", encoded, 18)
    return abs(width), abs(height)  # a negative height means that the rows are stored from top to bottom


def _webp(encoded: bytes) -> Optional[Size]:
    kind = encoded[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(encoded[place : place + 3], "little") for place in (24, 27))
        return (width + 1, height + 1) if len(encoded) >= 30 else None
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", encoded, 21)
        return (bits & _WEBP_SIDE) + 1, (bits >> 14 & _WEBP_SIDE) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<2H", encoded, 26)
        return width & _WEBP_SIDE, height & _WEBP_SIDE
    return None


def _tiff(encoded: bytes) -> Optional[Size]:
    """Return the size in the tags of the first picture; if a tag occurs several times, its largest value counts."""
    sides: Dict[int, int] = {}
    for tag, value in _tiff_integers(encoded):
        sides[tag] = max(value, sides.get(tag, 0))
    return (sides[_TIFF_WIDTH], sides[_TIFF_HEIGHT]) if {_TIFF_WIDTH, _TIFF_HEIGHT} <= set(sides) else None


def _tiff_integers(encoded: bytes) -> Iterator[Tuple[int, int]]:
    """Yield the number and value of each tag of the first picture that contains exactly one integer."""
    order, large = "<" if encoded.startswith(b"II") else ">", b"+" in encoded[:4]
    (start,) = struct.unpack_from(f"{order}Q", encoded, 8) if large else struct.unpack_from(f"{order}I", encoded, 4)
    count_layout, tag_layout = (f"{order}Q", f"{order}2HQ") if large else (f"{order}H", f"{order}2HI")
    if start >= len(encoded):
        return
    (count,) = struct.unpack_from(count_layout, encoded, start)
    place, value_bytes = start + struct.calcsize(count_layout), 8 if large else 4
    for _ in range(count):
        tag, kind, values = struct.unpack_from(tag_layout, encoded, place)
        place += struct.calcsize(tag_layout)
        if kind in _TIFF_INTEGERS and values == 1 and struct.calcsize(_TIFF_INTEGERS[kind]) <= value_bytes:
            yield tag, struct.unpack_from(order + _TIFF_INTEGERS[kind], encoded, place)[0]
        place += value_bytes


def _pnm(encoded: bytes) -> Optional[Size]:
    found = _PNM.match(encoded[:HEAD])
    return (int(found[1]), int(found[2])) if found else None
