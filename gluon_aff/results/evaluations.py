"""Append evaluations to a CSV file, a row for each."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Dict, Iterable, List, Mapping, Optional

from gluon_aff.errors import GluonAFFError, InputError, last_line
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
HEADER_BYTES = 1 << 16  # largest accepted length of a file's first line
LARGEST = 4 << 20  # bytes of a table that is read; about 10,000 evaluations
DELIMITERS = (",", ";")  # Excel writes semicolons in countries where numbers have decimal commas


@dataclass(frozen=True)
class _Form:
    """Delimiter of the cells and end of the rows of a table."""

    delimiter: str = ","
    end: str = "\n"

    def line(self, cells: Iterable[Any]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=self.delimiter, lineterminator=self.end).writerow(cells)
        return text.getvalue()


def check_table(path: str) -> None:
    """Check, before the work, that a row can be appended to the CSV file `path`.

    Raises:
        InputError: the file cannot be written, or has other columns.
    """
    check_directories({"--csv": os.path.dirname(path)})
    if os.path.isdir(path) or (os.path.exists(path) and not os.access(path, os.W_OK)):
        raise InputError(f"{path} cannot be written: name another file with --csv")
    _form(path)


def append_row(path: str, row: Mapping[str, Any]) -> None:
    """Append `row`, which has all of `COLUMNS`, to the CSV file `path` in a single write; a new file gets a header.

    Raises:
        InputError: the file has other columns.
        GluonAFFError: the file cannot be written.
    """
    check_table(path)
    form = _form(path)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "ab+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            start = form.line(COLUMNS) if not size else "" if file.read() == b"\n" else form.end
            file.write((start + form.line(row[column] for column in COLUMNS)).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise GluonAFFError(f"{path} cannot be written ({error.strerror}): name another file with --csv") from None


def read_rows(path: str) -> List[Dict[str, str]]:
    """Return the rows of the CSV file at `path`, which a spreadsheet may have changed, each by the names of `COLUMNS`.

    Raises:
        InputError: the file cannot be read, is too large, or is no table of evaluations.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({last_line(error)})") from None
    if len(content) > LARGEST:
        raise InputError(f"{path}: is larger than {LARGEST >> 20} MiB")
    form = _form_of(text.partition("\n")[0])
    if text and not form:
        raise InputError(f"{path}: is no table of gluon-aff evaluate, by its columns")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=form.delimiter if form else ",")
    try:
        cells = [line for line in lines if line][1:]
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from None
    return [dict(zip_longest(COLUMNS, line[: len(COLUMNS)], fillvalue="")) for line in cells]


def _form(path: str) -> _Form:
    """Return the form of the table at `path`, which a spreadsheet may have changed; our own for a new file.

    Raises:
        InputError: the file has other columns, or is not UTF-8.
    """
    if not os.path.exists(path):
        return _Form()
    try:
        with open(path, "rb") as file:
            header = file.readline(HEADER_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as CSV ({last_line(error)}): name another file with --csv") from None
    if not header:
        return _Form()
    form = _form_of(header)
    if not form:
        raise InputError(f"{path} has other columns: name another file with --csv")
    return form


def _form_of(header: str) -> Optional[_Form]:
    """Return the form of the table with that first line; None if it has other columns."""
    end = "\r\n" if header.endswith("\r\n") else "\n"
    with contextlib.suppress(csv.Error):
        for delimiter in DELIMITERS:
            if tuple(next(csv.reader([header], delimiter=delimiter), ())) == COLUMNS:
                return _Form(delimiter, end)
    return None
