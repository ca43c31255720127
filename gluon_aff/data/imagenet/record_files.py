"""Find, read and format the records in MXNet's record files.

A record is a header with the label, followed by the encoded image. MXNet's reader ends the process without a message
when an offset is wrong or an image is damaged, so that everything is checked here.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np

from gluon_aff.errors import DataError

RECORD_MAGIC = struct.pack("<I", 0xCED7230A)
RECORD_HEADER = struct.Struct("<IfQQ")  # MXNet's IRHeader: number of labels that follow, or 0; the label; id; id2
LABEL = struct.Struct("<f")  # a label that follows the header
RECORD_LIMIT = 1 << 29  # bytes, since the length of a piece has 29 bits
LONGEST_INDEX_LINE = 1 << 10  # bytes; a line has two numbers, and a file without line ends is not read into memory
LOOKS = 1 << 14  # number of headers checked before training; all of a million take half an hour on a network drive
WHOLE, FIRST, MIDDLE, LAST = range(4)

# The pieces of a record in its file, first byte and length of each. A record has one piece, unless it contains
# RECORD_MAGIC: then it is cut at each of them, and they are left out.
Pieces = Tuple[Tuple[int, int], ...]


def open_record_file(record: str) -> Any:
    """Map a record file into memory, so that bytes are read only when they are used.

    Raises:
        DataError: the file cannot be opened.
    """
    try:
        with open(record, "rb") as file:
            empty = os.fstat(file.fileno()).st_size == 0
            return b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DataError(
            f"{record}: {error.strerror}; copy it next to its .idx file or make both again with gluon-aff make-records"
        ) from None


def index_offsets(index: str) -> List[int]:
    """Read the offsets of the records, in bytes, from an index, whose lines are a key and an offset.

    Raises:
        DataError: the file is missing or is not an index.
    """
    try:
        with open(index, "rb") as file:
            lines = iter(lambda: file.readline(LONGEST_INDEX_LINE), b"")
            return [int(line.split()[1]) for line in lines if line.strip()]
    except OSError as error:
        raise DataError(
            f"{index}: {error.strerror}; copy it next to its .rec file or make both again with gluon-aff make-records"
        ) from None
    except (ValueError, IndexError):
        raise DataError(
            f"{index} is not an index of a .rec file: copy it again or make both again with gluon-aff make-records"
        ) from None


def record_at(content: Any, begin: int, record: str) -> Tuple[Pieces, int]:
    """Return the pieces of the record that begins at a byte of a file, and where it ends, which is a multiple of 4.

    Each piece is preceded by RECORD_MAGIC and a word with its kind in 3 bits and its length in 29.

    Raises:
        DataError: no record begins there, or it is not complete.
    """
    pieces: List[Tuple[int, int]] = []
    while True:
        magic, word = content[begin : begin + 4], content[begin + 4 : begin + 8]
        if magic != RECORD_MAGIC or len(word) < 4:
            raise _damaged(record, begin)
        kind, length = divmod(struct.unpack("<I", word)[0], RECORD_LIMIT)
        following = begin + 8 + (length + 3) // 4 * 4
        if following > len(content) or kind > LAST or (kind in (WHOLE, FIRST)) == bool(pieces):
            raise _damaged(record, begin)
        pieces.append((begin + 8, length))
        if kind in (WHOLE, LAST):
            return tuple(pieces), following
        begin = following


def all_records(content: Any, record: str) -> Iterator[Tuple[Pieces, int]]:
    """Yield the records of a file in order, each with the offset of its end.

    Raises:
        DataError: the file is cut short or damaged; all records before that have been yielded.
    """
    begin = 0
    while begin < len(content):
        pieces, begin = record_at(content, begin, record)
        yield pieces, begin


def joined(content: Any, pieces: Pieces, at_most: Optional[int] = None) -> bytes:
    """Return the bytes of a record, but at most the first `at_most`."""
    lengths = (length if at_most is None else min(length, at_most) for _, length in pieces)
    return RECORD_MAGIC.join(content[begin : begin + n] for (begin, _), n in zip(pieces, lengths))[:at_most]


def encoded_image(content: Any, pieces: Pieces) -> bytes:
    """Return the encoded image of a record, which follows the header and any labels."""
    whole = joined(content, pieces)
    return whole[RECORD_HEADER.size + LABEL.size * RECORD_HEADER.unpack_from(whole)[0] :]


def record_label(content: Any, pieces: Pieces, number: int, record: str, classes: Optional[int] = None) -> int:
    """Return the label of a record, which is in the header or follows it as an array of one.

    Args:
        content: content of the file.
        pieces: pieces of the record.
        number: number of the record, for messages.
        record: path of the file, for messages.
        classes: number of classes, below which the label must be; None allows any label.

    Raises:
        DataError: the record has no label, several, or one that is not a class.
    """
    label = _single_label(joined(content, pieces, RECORD_HEADER.size + LABEL.size))
    if label is None or label < 0 or not label.is_integer():
        raise DataError(
            f"the label of {record_name(number, record)} is not a class: make the file with "
            "gluon-aff make-records, which gives each image one whole number, 0 or more"
        )
    if classes is not None and label >= classes:
        raise DataError(
            f"{record_name(number, record)} has label {int(label)}, but there are {classes} classes, 0 to "
            f"{classes - 1}: use a record file with these classes, or raise --classes"
        )
    return int(label)


def _single_label(head: bytes) -> Optional[float]:
    if len(head) < RECORD_HEADER.size:
        return None
    count, label = RECORD_HEADER.unpack_from(head)[:2]
    if count == 0:
        return float(label)
    whole = count == 1 and len(head) == RECORD_HEADER.size + LABEL.size
    return float(LABEL.unpack_from(head, RECORD_HEADER.size)[0]) if whole else None


def record_name(number: int, record: str) -> str:
    """Return the name of a record for messages."""
    return f"image {number} (counted from 0) of {record}"


def matched_records(content: Any, record: str, index: str) -> List[Pieces]:
    """Return all records of a file, after checking every header in it against its index.

    Raises:
        DataError: the file or the index is missing, damaged or empty, or they do not belong together.
    """
    offsets = index_offsets(index)
    found = [pieces for pieces, _ in all_records(content, record)]
    if sorted(offsets) != [pieces[0][0] - 8 for pieces in found]:
        raise DataError(
            f"{index} ({len(offsets):,} records) does not belong to {record} ({len(found):,} records): "
            "copy both again, or make both again with gluon-aff make-records"
        )
    if not found:
        raise _no_images(record)
    return found


def indexed_spans(content: Any, record: str, index: str) -> np.ndarray:
    """Return the first byte and the end of each record as the index says: integer (N, 2), in the order of the file.

    Raises:
        DataError: the index is missing or cannot belong to this file, or there are no records.
    """
    begins = np.array(sorted(index_offsets(index)), np.int64)
    if not len(content) and not len(begins):
        raise _no_images(record)
    if not len(begins) or begins[0] != 0 or begins[-1] >= len(content) or (np.diff(begins) < 8).any():
        raise _mismatched(record, index)
    return np.stack([begins, np.append(begins[1:], len(content))], axis=1)


def record_in(content: Any, span: Tuple[int, int], record: str, index: str) -> Pieces:
    """Return the pieces of the record that fills a row of `indexed_spans`.

    Raises:
        DataError: there is no record of that length.
    """
    try:
        pieces, end = record_at(content, span[0], record)
    except DataError:
        raise _mismatched(record, index, span[0]) from None
    if end != span[1]:
        raise _mismatched(record, index, span[0])
    return pieces


def highest_label(content: Any, spans: np.ndarray, record: str, index: str, classes: Optional[int]) -> int:
    """Check the headers of all records, or of LOOKS evenly spread ones, and return the highest label found.

    Raises:
        DataError: a record is not where the index says, or has no label below `classes`.
    """
    numbers = np.unique(np.linspace(0, len(spans) - 1, min(len(spans), LOOKS)).astype(int)).tolist()
    return max(
        record_label(content, record_in(content, tuple(spans[number].tolist()), record, index), number, record, classes)
        for number in numbers
    )


def framed(content: bytes) -> bytes:
    """Format a record for a file: its pieces, each after RECORD_MAGIC, kind and length, padded to 4 bytes.

    Raises:
        DataError: the content is too long.
    """
    if len(content) >= RECORD_LIMIT:
        raise DataError(f"{len(content):,} bytes are too many for a record")
    words = np.frombuffer(content, "<u4", len(content) // 4)
    cuts = (4 * np.flatnonzero(words == struct.unpack("<I", RECORD_MAGIC)[0])).tolist()
    begins, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(content)]
    kinds = [FIRST, *[MIDDLE] * (len(cuts) - 1), LAST] if cuts else [WHOLE]
    pieces = (
        RECORD_MAGIC + struct.pack("<I", kind * RECORD_LIMIT + end - begin) + content[begin:end]
        for kind, begin, end in zip(kinds, begins, ends)
    )
    return b"".join(pieces) + bytes(-len(content) % 4)


def _damaged(record: str, where: int) -> DataError:
    return DataError(f"{record} is cut short or damaged at byte {where:,}: copy it again")


def _no_images(record: str) -> DataError:
    return DataError(f"{record} has no images: make it and its index again with gluon-aff make-records")


def _mismatched(record: str, index: str, where: int = 0) -> DataError:
    return DataError(
        f"{record} does not have the record that {index} says is at byte {where:,}: copy both again, or make both "
        "again with gluon-aff make-records"
    )
