"""Write a self-contained HTML page about the runs in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import List

from gluon_aff.errors import InputError
from gluon_aff.files import replacing
from gluon_aff.results.report_contents import evaluations_tables, reported_runs, weights_files
from gluon_aff.results.report_page import report_page


def write_report(directory: str, path: str) -> List[str]:
    """Write the report on the logs and weights under `directory` to the HTML file `path`.

    Returns:
        The paths of the logs in the report, relative to `directory`.

    Raises:
        InputError: `directory` is not a directory, or contains no training log with a finished epoch.
        GluonAFFError: `path` cannot be written.
    """
    root = Path(directory)
    if not root.is_dir():
        raise InputError(f"{directory} is no directory: name the one a run wrote its log and weights to")
    runs, left_out = reported_runs(root)
    if not runs:
        reason = f"; {left_out[0]}" if left_out else ""
        raise InputError(f"{directory} holds no training log with a finished epoch (*.log, *.log.gz){reason}")
    evaluations, unread_tables = evaluations_tables(root)
    left_out += unread_tables
    page = report_page(root.resolve().name, runs, left_out, weights_files(root, runs), evaluations)
    with replacing(path) as partial:
        Path(partial).write_text(page, encoding="utf-8")
    return [run.path for run in runs]
