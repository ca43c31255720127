"""Published figures of the original repository (open-aff) and of the papers, each with its source.

`figures` is a link to the folder logs/published, which holds the numbers as CSV and JSON; logs/README.md describes
them. Reading them needs no engine.
"""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple
from urllib.parse import quote

import numpy as np

FIGURES = Path(__file__).parent / "figures"
RAW_URL = "https://raw.githubusercontent.com/YimianDai/open-aff"
LABEL_SETS = {"coarse": "superclass"}  # names in the figures that differ from those of the command line


@dataclass(frozen=True)
class PublishedRun:
    """One training run in the original's logs.

    Attributes:
        name: unique name, the stem of its CSV file.
        file: CSV file of its curve, under `FIGURES`.
        model: name of the network; this package does not have the networks of the first release.
        dataset: cifar10, cifar100 or imagenet.
        labels: cifar10, fine, superclass or imagenet.
        release: first (2020-09) or head (2020-10 and later).
        status: complete, stopped or aborted; an aborted run does not count as a result.
        description: how the run started and ended.
        fusion: the original's name of the fusion operator, such as ASKCFuse.
        settings: settings line of the log, without paths.
        global_batch: images per step, over all GPUs.
        gpus: number of GPUs.
        epochs: number of finished epochs.
        best: figures of the best epoch: its number, and val_acc, or err_top1 and err_top5 (0..1).
        final: the same figures of the last epoch.
        parent: name of the run from whose best weights this one started; None if it started from scratch.
        notes: peculiarities of the run.
        weights: path, git_blob_sha1 and epoch of the published weights of the run; None if there are none.
        source: commit, path and lines of the log.
    """

    name: str
    file: str
    model: str
    dataset: str
    labels: str
    release: str
    status: str
    description: str
    fusion: str
    settings: Mapping[str, Any]
    global_batch: int
    gpus: int
    epochs: int
    best: Mapping[str, float]
    final: Mapping[str, float]
    parent: Optional[str]
    notes: str
    weights: Optional[Mapping[str, Any]]
    source: Mapping[str, Any]


@dataclass(frozen=True)
class PublishedWeights:
    """One `.params` file of the original repository.

    Attributes:
        model: name of the network; this package does not have the networks of the first release.
        labels: cifar10, fine, superclass or imagenet.
        path: path of the file in the original repository.
        commit: commit that the file is taken from.
        git_blob_sha1: SHA-1 over `blob <size>`, a zero byte and the file, as git computes it.
        run: name of the run that produced the file; None if its log was not published.
        epoch: epoch after which the file was saved; None without a log.
        error: top-1 validation error at that epoch, in percent; without a log, the one in the file name.
        release: first or head.
    """

    model: str
    labels: str
    path: str
    commit: str
    git_blob_sha1: str
    run: Optional[str]
    epoch: Optional[int]
    error: float
    release: str

    @property
    def file_name(self) -> str:
        """Return the file name without folders."""
        return self.path.rsplit("/", 1)[1]

    @property
    def origin(self) -> str:
        """Return where the error is known from: an epoch of a run, or the file name."""
        if self.run is None:
            return "by its name; its log was not published"
        return f"at epoch {self.epoch} of {self.run}"

    @property
    def url(self) -> str:
        """Return the address of the file on GitHub."""
        return f"{RAW_URL}/{self.commit}/{quote(self.path)}"


@dataclass(frozen=True)
class PaperTable:
    """A table of one of the papers or of the original's README.

    Attributes:
        name: unique name.
        source: paper and table, or file, in which it is printed.
        unit: unit of the figures; empty if the columns name it.
        columns: names of the columns.
        rows: figures by the name of the row; None where the table has no figure.
    """

    name: str
    source: str
    unit: str
    columns: Tuple[str, ...]
    rows: Mapping[str, Tuple[Any, ...]]


@lru_cache(maxsize=None)
def published_runs() -> Dict[str, PublishedRun]:
    """Return all published runs by name, those of the head release first."""
    runs = [_run(entry) for entry in _load("index.json")]
    return {run.name: run for run in sorted(runs, key=lambda run: (run.release == "first", run.file))}


@lru_cache(maxsize=None)
def published_weights() -> Tuple[PublishedWeights, ...]:
    """Return all published weight files, first those of the head release, which fit this package's networks."""
    runs = published_runs()
    by_hash = {str(run.weights["git_blob_sha1"]): run for run in runs.values() if run.weights}
    head = [
        _weights(runs[Path(entry["run"]).stem], entry, entry["epoch_in_log"]) for entry in _load("params_index.json")
    ]
    unlogged = [_unlogged_weights(entry) for entry in _load("params_without_log.json")]
    known = {weights.git_blob_sha1 for weights in head}
    rest = [_weights(run, run.weights, run.weights["epoch"]) for run in by_hash.values() if run.weights]
    return tuple(head + [weights for weights in rest if weights.git_blob_sha1 not in known] + unlogged)


def weights_with_hash(git_blob_sha1: str) -> Optional[PublishedWeights]:
    """Return the published weight file with this git blob SHA-1; None if there is none."""
    return next((weights for weights in published_weights() if weights.git_blob_sha1 == git_blob_sha1), None)


@lru_cache(maxsize=None)
def paper_tables() -> Dict[str, PaperTable]:
    """Return the tables of both papers and of the original's README by name."""
    return {name: _table(name, entry) for name, entry in _load("paper_tables.json").items()}


def curve(run: PublishedRun) -> Dict[str, np.ndarray]:
    """Read the curve of `run`: columns with a value for each finished epoch, or NaN where the log has no figure.

    All runs have the columns epoch, train_rmse (or train_acc) and seconds, which include validation. CIFAR runs also
    have val_acc, loss and lr; ImageNet runs have err_top1, err_top5 and samples_per_sec. Accuracies and errors are in
    the range 0..1.
    """
    with open(FIGURES / run.file, newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([float(row[name] or math.nan) for row in rows]) for name in rows[0]}
    columns["epoch"] = columns["epoch"].astype(int)
    return {name: column for name, column in columns.items() if not np.isnan(column).all()}


def chain(run: PublishedRun) -> List[PublishedRun]:
    """Return the runs that led to `run`, each started from the weights of the one before, and `run` itself last."""
    parent = published_runs()[run.parent] if run.parent else None
    return [*chain(parent), run] if parent else [run]


def top1_accuracy(figures: Mapping[str, Any]) -> Any:
    """Return the top-1 accuracy (0..1) from a run's best or final figures, or from the columns of its curve."""
    return figures["val_acc"] if "val_acc" in figures else 1 - figures["err_top1"]


def _load(name: str) -> Any:
    return json.loads((FIGURES / name).read_text(encoding="utf-8"))


def _run(entry: Dict[str, Any]) -> PublishedRun:
    name = Path(entry["file"]).stem
    resumed = re.match(r"resumed from run (\d)", entry["run"])
    base = re.sub(r"_(run|aborted)\d\w*$", "", name)
    figures = {field.name: entry[field.name] for field in fields(PublishedRun) if field.name in entry}
    return PublishedRun(
        **{
            **figures,
            "name": name,
            "labels": LABEL_SETS.get(entry["labels"], entry["labels"]),
            "description": entry["run"],
            "gpus": entry["speed"]["gpus"],
            "parent": f"{base}_run{resumed[1]}" if resumed else None,
        }
    )


def _weights(run: PublishedRun, entry: Mapping[str, Any], epoch: int) -> PublishedWeights:
    columns = curve(run)
    accuracy = float(top1_accuracy(columns)[columns["epoch"] == epoch][0])
    return PublishedWeights(
        model=run.model,
        labels=run.labels,
        path=entry["path"],
        commit=run.source["commit"],
        git_blob_sha1=entry["git_blob_sha1"],
        run=run.name,
        epoch=epoch,
        error=round(100 * (1 - accuracy), 2),
        release=run.release,
    )


def _unlogged_weights(entry: Mapping[str, Any]) -> PublishedWeights:
    said = {name: entry[name] for name in ("model", "labels", "path", "commit", "git_blob_sha1", "release")}
    return PublishedWeights(**said, run=None, epoch=None, error=round(100 * (1 - entry["file_name_figure"]), 2))


def _table(name: str, entry: Any) -> PaperTable:
    if isinstance(entry, list):
        rows = {f"{row['dataset']}, {row['host']}": tuple(row.values()) for row in entry}
        return PaperTable(name, "AFF paper, Table 2", "", tuple(entry[0]), rows)
    first = next(iter(entry["rows"].values()))
    columns = entry.get("columns", list(first) if isinstance(first, dict) else ["accuracy"])
    if isinstance(columns, dict):
        columns = [f"{group} {column}" for group, names in columns.items() for column in names]
    rows = {row: _flat(figures) for row, figures in entry["rows"].items()}
    return PaperTable(name, entry["source"], entry.get("unit", ""), tuple(columns), rows)


def _flat(figures: Any) -> Tuple[Any, ...]:
    figures = list(figures.values()) if isinstance(figures, dict) else figures
    if not isinstance(figures, list):
        return (figures,)
    return tuple(figure for part in figures for figure in (part if isinstance(part, list) else [part]))
