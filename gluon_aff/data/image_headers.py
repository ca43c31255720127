"""How many pixels an image claims to have, read from its header before a decoder takes memory for them.

A JPEG file of a few hundred bytes may claim 65535 x 65535 pixels, and a decoder fills in what is missing. Each format's
header is read as its library reads it, so that the two cannot be of different minds.
"""

from __future__ import annotations

import re
import struct
from typing import Dict, Iterator, Optional, Tuple

from gluon_aff.data.image_formats import HEAD, SPACE, is_tiff

Size = Tuple[int, int]

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNK, _PNG_CHECKSUM = struct.Struct(">I4s"), 4  # before what is in a chunk, and bytes behind it
_PNM = re.compile(rb"P[1-6]" + SPACE + rb"(\d{1,9})" + SPACE + rb"(\d{1,9})\s")
_BMP_WITH_WORDS, _BMP_WITH_LONGS = 12, 36  # bytes that a header has, the latter at least
_WEBP_SIDE = (1 << 14) - 1  # the bits of a side, which the others scale
_JPEG_MARKER = re.compile(rb"[^\xff]*\xff+([^\xff])")
_JPEG_ALONE = (0x00, 0x01, *range(0xD0, 0xD8))  # without a length behind them; 0 is no marker at all
_JPEG_FRAMES = tuple(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC))
_JPEG_ENDS = (0xD9, 0xDA)  # of the header: the end of the image, or its data
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TIFF_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}  # types of a tag, as in `struct`


def is_png(encoded: bytes) -> bool:
    """Whether a file that begins so is a PNG file."""
    return encoded.startswith(_PNG)


def claimed_size(encoded: bytes) -> Optional[Size]:
    """Width and height that an image claims; None if its header, or the part of it in `encoded`, has none.

    Args:
        encoded: of an image in one of the formats of `image_formats.FORMATS`.
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
    """Whether no chunk of a PNG file claims more bytes than are left; OpenCV takes memory for what one claims."""
    place, kind = len(_PNG), b""
    while place < len(png) and kind != b"IEND":
        if place + _PNG_CHUNK.size > len(png):
            return False
        length, kind = _PNG_CHUNK.unpack_from(png, place)
        place += _PNG_CHUNK.size + length + _PNG_CHECKSUM
    return place <= len(png)


def _jpeg(encoded: bytes) -> Optional[Size]:
    """The sides that the first frame names; what is between markers does not matter."""
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
    return abs(width), abs(height)  # a height below 0 says that the first line is the top one


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
    """The largest sides that the first picture's tags name."""
    sides: Dict[int, int] = {}
    for tag, value in _tiff_integers(encoded):
        sides[tag] = max(value, sides.get(tag, 0))
    return (sides[_TIFF_WIDTH], sides[_TIFF_HEIGHT]) if {_TIFF_WIDTH, _TIFF_HEIGHT} <= set(sides) else None


def _tiff_integers(encoded: bytes) -> Iterator[Tuple[int, int]]:
    """Number and value of each tag that has one integer."""
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
