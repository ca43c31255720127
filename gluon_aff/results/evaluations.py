"""A CSV file with a row for each evaluation, to compare by."""

from __future__ import annotations

import csv
import io
import os
from typing import Any, Mapping

from gluon_aff.errors import GluonAFFError, InputError


def append_row(path: str, row: Mapping[str, Any]) -> None:
    """Append `row` to the CSV file `path`, with a header if the file is new; in one write.

    Raises:
        InputError: if the file has other columns.
        GluonAFFError: if it cannot be written.
    """
    header = _line(row)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            first = file.readline()
            if first not in ("", header):
                raise InputError(f"{path} has other columns: name another file with --csv")
            file.write(("" if first else header) + _line(row.values()))
    except OSError as error:
        raise GluonAFFError(f"{path} cannot be written ({error.strerror}): name another file with --csv") from None


def _line(cells: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
