"""Collect the contents of the report on a folder: runs, the published runs to compare with, weights and evaluations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Tuple

import numpy as np

from gluon_aff.errors import InputError
from gluon_aff.printing import printable
from gluon_aff.published import PaperTable, PublishedRun, PublishedWeights, paper_tables, weights_with_hash
from gluon_aff.results.compare import Comparison, chosen_run, compare, nearest_runs
from gluon_aff.results.evaluations import read_rows
from gluon_aff.results.logs import LoggedRun, UnreadLinesError, read_log
from gluon_aff.results.recipe import NETWORK, logged_recipe
from gluon_aff.results.text import which_run
from gluon_aff.weights.params_format import begins_as_params_file, git_blob_sha1

LOG_PATTERNS = ("*.log", "*.log.gz")
# Tables in which a run gets a row, by data set and labels; the figure of the row is in the unit of the first column
TABLES = {
    ("cifar100", "superclass"): ("readme_cifar100_superclass_withdrawn", "readme_first_release_cifar100"),
    ("imagenet", "imagenet"): ("readme_imagenet", "aff_table5_imagenet"),
}
# Settings in which two runs must agree for their figures to be comparable
TASK = (*NETWORK, "outputs", "data")
CHECKPOINTS = re.compile(r"\.checkpoint(\.\d+)?$")  # checkpoint folders of a run, including those moved aside
ROUNDING = 5.1e-5  # accepted difference from the rounded score in the name of a best weights file


@dataclass(frozen=True)
class ReportedRun:
    """Holds a run of a log and the published results to compare it with.

    Attributes:
        path: path of the log, relative to the folder of the report.
        which: text that says which run of the log this is.
        earlier: number of earlier runs in the log, which are not shown.
        written: day on which the log was last written to, such as 2020-10-31.
        run: the run as read from the log.
        published: the published run with the same settings, otherwise the nearest one; None if none is comparable.
        comparison: comparison with the published run; None if none is comparable.
        reason: why no published run is comparable; empty if there is one.
        tables: tables of the papers and of the original's README in which the run gets a row.
    """

    path: str
    which: str
    earlier: int
    written: str
    run: LoggedRun
    published: Optional[PublishedRun]
    comparison: Optional[Comparison]
    reason: str
    tables: List[PaperTable]

    @property
    def engine(self) -> str:
        """Return what trained the run, such as `PyTorch 2.13.0` or `PyTorch 2.13.0, from epoch 3 on MXNet 1.9.1`."""
        began = self.run.header.get("libraries", "engine not logged")
        goes_on = [f"from epoch {epoch} on {parts['libraries']}" for epoch, parts in self.run.continuations]
        return ", ".join(libraries.split(",")[0] for libraries in (began, *goes_on))

    @property
    def same_task(self) -> bool:
        """Return whether both runs train the same network on the same data, so that their figures are comparable."""
        return self.comparison is not None and not any(each.setting in TASK for each in self.comparison.differing)

    @property
    def best_score(self) -> float:
        """Return the score that is in the names of the run's best weights files, from 0 to 1.

        It is the highest accuracy or IoU, or for ImageNet the lowest error.
        """
        epochs = self.run.epochs
        if "err_top1" in epochs:
            return float(np.nan_to_num(epochs["err_top1"], nan=1).min())
        return float(np.nan_to_num(epochs["val_iou" if self.run.segments else "val_acc"]).max())


@dataclass(frozen=True)
class WeightsFile:
    """Holds the facts about a file with the ending `.params` in the folder of the report.

    Attributes:
        path: path relative to that folder.
        size: size in bytes.
        git_blob_sha1: git's hash of the content.
        published: the published weights with this hash; None if there are none.
        best: whether its name is that of the best weights of a run in the report.
        is_params_file: whether it begins like a file in the `.params` format.
    """

    path: str
    size: int
    git_blob_sha1: str
    published: Optional[PublishedWeights]
    best: bool
    is_params_file: bool


@dataclass(frozen=True)
class EvaluationsTable:
    """Holds a table in the folder of the report to which `gluon-aff evaluate` has appended rows.

    Attributes:
        path: path relative to that folder.
        rows: rows, each with its cells by the names of the columns.
    """

    path: str
    rows: List[Dict[str, str]]


def reported_runs(root: Path) -> Tuple[List[ReportedRun], List[str]]:
    """Return the last finished run of each log under `root`, and the logs that cannot be read, each with the reason."""
    runs: List[ReportedRun] = []
    left_out: List[str] = []
    for log in _files(root, LOG_PATTERNS):
        name = printable(log.relative_to(root))
        try:
            runs += _reported(log, name)
        except UnreadLinesError as error:
            left_out.append(_reason(log, name, error))
    return runs, left_out


def weights_files(root: Path, runs: List[ReportedRun]) -> List[WeightsFile]:
    """Return the weights files under `root`, the folder of `runs`, except those in checkpoint folders."""
    files = []
    for path in _files(root, ["*.params"]):
        if any(CHECKPOINTS.search(folder) for folder in path.relative_to(root).parts):
            continue
        digest = git_blob_sha1(str(path))
        files.append(
            WeightsFile(
                path=printable(path.relative_to(root)),
                size=path.stat().st_size,
                git_blob_sha1=digest,
                published=weights_with_hash(digest),
                best=any(_named_best(path.name, run.best_score) for run in runs),
                is_params_file=begins_as_params_file(str(path)),
            )
        )
    return files


def evaluations_tables(root: Path) -> Tuple[List[EvaluationsTable], List[str]]:
    """Return the tables of evaluations under `root`, and the tables that cannot be read, each with the reason."""
    tables: List[EvaluationsTable] = []
    left_out: List[str] = []
    for path in _files(root, ["evaluations.csv"]):
        name = printable(path.relative_to(root))
        try:
            tables.append(EvaluationsTable(name, read_rows(str(path))))
        except InputError as error:
            left_out.append(_reason(path, name, error))
    return tables, left_out


def _files(root: Path, patterns: Iterable[str]) -> List[Path]:
    return sorted(path for pattern in patterns for path in root.rglob(pattern) if path.is_file())


def _reason(path: Path, name: str, error: InputError) -> str:
    """Return why the file at `path` is left out, with `name` in place of its whole path."""
    return f"{name}: {str(error).replace(f'{path}: ', '')}"


def _reported(log: Path, name: str) -> List[ReportedRun]:
    """Return the last run of `log` with a finished epoch; an empty list if `log` is not a training log.

    Raises:
        UnreadLinesError: `log` looks like a training log, but no epoch of it can be read.
    """
    try:
        runs = read_log(str(log))
        number = chosen_run(runs)
    except UnreadLinesError:
        raise
    except InputError:
        return []
    run = runs[number - 1]
    published, comparison, reason = _beside(run)
    written = date.fromtimestamp(log.stat().st_mtime).isoformat()
    tables = _tables(run, published)
    which, earlier = which_run(runs, number), number - 1
    return [ReportedRun(name, which, earlier, written, run, published, comparison, reason, tables)]


def _beside(run: LoggedRun) -> Tuple[Optional[PublishedRun], Optional[Comparison], str]:
    """Return the published run with the nearest settings, its comparison with `run`, and an empty reason.

    If no published run is comparable, return None twice and the reason.
    """
    if run.segments:
        return None, None, "the original published no log of a segmentation run"
    try:
        published, _ = nearest_runs(run)[0]
        return published, compare(run, published), ""
    except InputError as error:
        return None, None, str(error)


def _tables(run: LoggedRun, published: Optional[PublishedRun]) -> List[PaperTable]:
    """Return the tables for the data set and labels of the run; none for segmentation or other images."""
    if run.segments:  # the figure depends on a data set that the paper does not describe
        return []
    try:
        recipe = logged_recipe(run)
    except InputError:
        return []
    if recipe.get("data") == "other":
        return []
    labels = recipe.get("labels") or (published.labels if published else None)
    names = TABLES.get((str(recipe.get("data set")), str(labels)), ())
    return [paper_tables()[name] for name in names]


def _named_best(file_name: str, score: float) -> bool:
    found = re.fullmatch(r"([01]\.\d{4})-.*-best\.params", file_name, re.DOTALL)
    return found is not None and abs(float(found[1]) - score) < ROUNDING
