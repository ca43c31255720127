"""A CSV file with a row for each evaluation, to compare by."""

from __future__ import annotations

import csv
import io
import os
from typing import Any, Iterable, Mapping

from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.files import check_directories

COLUMNS = (
    "date",
    "network",
    "weights",
    "git_blob_sha1",
    "dataset",
    "labels",
    "official_data",
    "images",
    "top1",
    "top5",
    "loss",
    "published_error_percent",
    "images_per_second",
    "batch_size",
    "devices",
    "versions",
    "command",
)


def check_table(path: str) -> None:
    """See that a row can be appended to the CSV file `path`, before the work that gives it.

    Raises:
        InputError: if not, or if the file has other columns.
    """
    check_directories({"--csv": os.path.dirname(path)})
    if os.path.isdir(path) or (os.path.exists(path) and not os.access(path, os.W_OK)):
        raise InputError(f"{path} cannot be written: name another file with --csv")
    if os.path.exists(path):
        with open(path, "rb") as file:
            first = file.readline(1 << 16)
        if first not in (b"", _line(COLUMNS).encode()):
            raise InputError(f"{path} has other columns: name another file with --csv")


def append_row(path: str, row: Mapping[str, Any]) -> None:
    """Append `row`, with all of `COLUMNS`, to the CSV file `path`, below a header; in one write.

    Raises:
        InputError: if the file has other columns.
        GluonAFFError: if it cannot be written.
    """
    check_table(path)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "ab+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            start = _line(COLUMNS) if not size else "" if file.read() == b"\n" else "\n"
            file.write((start + _line(row[column] for column in COLUMNS)).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise GluonAFFError(f"{path} cannot be written ({error.strerror}): name another file with --csv") from None


def _line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
