"""What the report on a folder is about: each log's run, the published run it is set beside, and the weights."""

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
# Tables that a run's row belongs to, by data set and labels; the row's unit is that of their first column
TABLES = {
    ("cifar100", "superclass"): ("readme_cifar100_superclass_withdrawn", "readme_first_release_cifar100"),
    ("imagenet", "imagenet"): ("readme_imagenet", "aff_table5_imagenet"),
}
# Settings that make figures incomparable where they differ
TASK = (*NETWORK, "outputs", "data")
CHECKPOINTS = re.compile(r"\.checkpoint(\.\d+)?$")  # folders of a run's checkpoints, also those moved aside
ROUNDING = 5.1e-5  # of the score in the names of best weights


@dataclass(frozen=True)
class ReportedRun:
    """A run of a log and what it is set beside.

    Attributes:
        path: of the log, in the folder that is reported on.
        which: of the log's runs it is.
        earlier: number of the runs before it in the log, which are not shown.
        written: day on which the log was last written to, such as 2020-10-31.
        run: what the log says.
        published: the published run with the same settings, or else the nearest one; None if nothing compares.
        comparison: with the published run.
        reason: why nothing compares.
        tables: of the papers and of the original's README in which the run has a place.
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
        """What trained it, such as `PyTorch 2.13.0` or `PyTorch 2.13.0, from epoch 3 on MXNet 1.9.1`."""
        began = self.run.header.get("libraries", "engine not logged")
        goes_on = [f"from epoch {epoch} on {parts['libraries']}" for epoch, parts in self.run.continuations]
        return ", ".join(libraries.split(",")[0] for libraries in (began, *goes_on))

    @property
    def same_task(self) -> bool:
        """Whether both runs train the same network on the same data, so that their figures compare."""
        return self.comparison is not None and not any(each.setting in TASK for each in self.comparison.differing)

    @property
    def best_score(self) -> float:
        """What the names of its best weights say: the highest accuracy or IoU, or ImageNet's lowest error; 0 to 1."""
        epochs = self.run.epochs
        if "err_top1" in epochs:
            return float(np.nan_to_num(epochs["err_top1"], nan=1).min())
        return float(np.nan_to_num(epochs["val_iou" if self.run.segments else "val_acc"]).max())


@dataclass(frozen=True)
class WeightsFile:
    """A file that is called `.params` in the folder that is reported on.

    Attributes:
        path: in that folder.
        size: in bytes.
        git_blob_sha1: hash of its content.
        published: the published weights with that hash, if any.
        best: whether it has a reported run's best weights, by its name.
        is_params_file: whether it begins as such files do.
    """

    path: str
    size: int
    git_blob_sha1: str
    published: Optional[PublishedWeights]
    best: bool
    is_params_file: bool


@dataclass(frozen=True)
class EvaluationsTable:
    """A table in the folder that is reported on, to which `gluon-aff evaluate` appended.

    Attributes:
        path: in that folder.
        rows: cells by the names of the columns.
    """

    path: str
    rows: List[Dict[str, str]]


def reported_runs(root: Path) -> Tuple[List[ReportedRun], List[str]]:
    """Return the runs of the logs under `root`, and the logs that cannot be read, each with the reason."""
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
    """Return the weights under `root`, where `runs` are, without those that belong to checkpoints."""
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
    """Return the tables of evaluations under `root`, and those that cannot be read, each with the reason."""
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
    """Return why the file at `path` is left out, without the folders above the one that is reported on."""
    return f"{name}: {str(error).replace(f'{path}: ', '')}"


def _reported(log: Path, name: str) -> List[ReportedRun]:
    """Return the last run of `log` with a finished epoch, if it is a training log.

    Raises:
        UnreadLinesError: it looks like one, and no epoch of it can be read.
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
    """Return the published run nearest to `run` by its settings, and both compared; or why nothing compares."""
    if run.segments:
        return None, None, "the original published no log of a segmentation run"
    try:
        published, _ = nearest_runs(run)[0]
        return published, compare(run, published), ""
    except InputError as error:
        return None, None, str(error)


def _tables(run: LoggedRun, published: Optional[PublishedRun]) -> List[PaperTable]:
    """Return the tables of the run's data set and labels; none for a run on other images."""
    if run.segments:  # whose figure depends on a data set that the paper does not describe
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
