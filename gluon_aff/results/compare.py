"""Compare a logged run with a published run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from gluon_aff.errors import InputError, unknown_name
from gluon_aff.published import PublishedRun, curve, published_runs, top1_accuracy
from gluon_aff.results.logs import LoggedRun, unread_error
from gluon_aff.results.recipe import NETWORK, Difference, differences, logged_recipe, published_recipe, unsaid

TOLERANCE = 0.5  # accepted difference of the best accuracies in percentage points
COLUMN_NAMES = {
    "top1_accuracy": "top-1 accuracy (%)",
    "err_top5": "top-5 error (%)",
    "val_iou": "IoU (%)",
    "val_niou": "nIoU (%)",
    "train_rmse": "train RMSE",
    "train_acc": "train accuracy (%)",
    "train_iou": "train IoU (%)",
    "loss": "loss",
    "lr": "learning rate",
}
PERCENTAGES = ("top1_accuracy", "err_top5", "train_acc", "val_iou", "val_niou", "train_iou")


@dataclass(frozen=True)
class Pair:
    """Holds a figure of both runs, each with its epoch."""

    this: float
    published: float
    this_epoch: int
    published_epoch: int

    @property
    def difference(self) -> float:
        """Return this run's figure minus the published one."""
        return self.this - self.published


@dataclass(frozen=True)
class ColumnDifference:
    """Summarizes the differences of a column at equal epochs, in the unit of the column.

    Attributes:
        column: key of `COLUMN_NAMES`.
        epochs: number of epochs for which both runs have a figure.
        mean: mean of the absolute differences.
        largest: difference with the largest absolute value.
        epoch: epoch of the largest difference.
    """

    column: str
    epochs: int
    mean: float
    largest: float
    epoch: int


@dataclass(frozen=True)
class Comparison:
    """Compares a logged run with a published run.

    Attributes:
        published: name of the published run.
        differing: settings in which the runs differ; empty if the published run was chosen by its settings.
        assumed: settings that the log does not contain, assumed to be as published, such as `labels fine`.
        finished: number of finished epochs of the logged run.
        planned: number of epochs in the settings of the logged run; None if they do not say.
        best: best top-1 accuracy (%) of each run over the epochs that both have.
        last: top-1 accuracy (%) at the last epoch that both runs have.
        final: top-1 accuracy (%) at the last epoch of each run.
        columns: differences at equal epochs.
        epochs_per_hour: speed of each run from its median epoch, which includes validation; None if a log does not say.
        tolerance: accepted difference of the best accuracies in percentage points.
    """

    published: str
    differing: List[Difference]
    assumed: List[str]
    finished: int
    planned: Optional[int]
    best: Pair
    last: Pair
    final: Pair
    columns: List[ColumnDifference]
    epochs_per_hour: Optional[Tuple[float, float]]
    tolerance: float

    @property
    def within(self) -> bool:
        """Return whether the best accuracies differ by no more than the tolerance."""
        return abs(self.best.difference) <= self.tolerance + 1e-9

    @property
    def unfinished(self) -> bool:
        """Return whether the logged run ends before its planned last epoch."""
        return self.planned is not None and self.final.this_epoch + 1 < self.planned

    def as_dict(self) -> Dict[str, Any]:
        """Return all attributes and properties as a dictionary, for JSON."""
        pairs = {name: {**asdict(getattr(self, name)), "difference": getattr(self, name).difference} for name in
                 ("best", "last", "final")}  # fmt: skip
        return {**asdict(self), **pairs, "within": self.within, "unfinished": self.unfinished}


def chosen_run(runs: List[LoggedRun], number: Optional[int] = None) -> int:
    """Return the number, from 1, of the run to compare: `number`, or if None the last run with a finished epoch.

    Raises:
        InputError: there is no run with this number, or no run has a finished epoch.
    """
    if number is None:
        finished = [i for i, run in enumerate(runs, 1) if run.finished]
        if not finished:
            raise unread_error(runs) or InputError("no run has finished an epoch yet, so there is nothing to compare")
        return finished[-1]
    if number > len(runs):
        raise InputError(f"--run {number}: the last run in the log has number {len(runs)}")
    return number


def fitting_run(run: LoggedRun) -> Optional[PublishedRun]:
    """Return the published run that has the settings of `run`; None if there is none.

    If there are several, the one with the nearest accuracies is returned.

    Raises:
        InputError: the log has no usable settings, or belongs to a segmentation run.
    """
    fitting = [published for published, differing in nearest_runs(run) if not differing]
    return min(fitting, key=lambda published: compare(run, published).columns[0].mean, default=None)


def nearest_runs(run: LoggedRun) -> List[Tuple[PublishedRun, List[Difference]]]:
    """Return all published results, each with the settings in which `run` differs from it, the nearest first.

    Raises:
        InputError: the log has no usable settings, or belongs to a segmentation run.
    """
    _check_classifies(run)
    try:
        recipe = logged_recipe(run)
    except InputError as error:
        raise InputError(f"{error}: name a training log, or the published run with --with") from None
    results = [published for published in published_runs().values() if published.status != "aborted"]
    ranked = [(published, differences(recipe, published_recipe(published))) for published in results]
    return sorted(ranked, key=lambda pair: _distance(pair[1], unsaid(recipe, published_recipe(pair[0]))))


def _distance(differing: List[Difference], unsaid: List[str]) -> int:
    """Return the distance of two recipes.

    A different data set or host counts 100, more than all other settings together. Each other differing setting of the
    network counts 10, every other differing setting 1, and each setting of the network that one recipe does not contain
    5.
    """
    weights = {**dict.fromkeys(NETWORK, 10), "data set": 100, "host": 100}
    return sum(weights.get(difference.setting, 1) for difference in differing) + 5 * len(unsaid)


def describe(difference: Difference) -> str:
    """Describe a difference as text, such as `epochs 32 (published 640)`."""
    return f"{difference.setting} {difference.this} (published {difference.published})"


def published_run(name: str) -> PublishedRun:
    """Return the published run called `name`.

    Raises:
        InputError: the name is unknown, or the run was aborted.
    """
    run = published_runs().get(name)
    if run is None:
        raise unknown_name("published run", name, published_runs(), "gluon-aff published")
    if run.status == "aborted":
        raise InputError(f"{name} was aborted, so it is not a result to compare with: name another run")
    return run


def compare(run: LoggedRun, published: PublishedRun, tolerance: float = TOLERANCE) -> Comparison:
    """Compare `run` with `published` over the epochs that both have.

    Args:
        run: the logged run.
        published: the published run.
        tolerance: accepted difference of the best accuracies in percentage points.

    Raises:
        InputError: `run` has no finished epoch, has no accuracy at any epoch of `published`, or is a segmentation run.
    """
    _check_classifies(run)
    if not run.finished:
        raise unread_error([run]) or InputError("the run has no finished epoch yet, so there is nothing to compare")
    this, other = comparable(run.epochs), comparable(curve(published))
    common, here, there = np.intersect1d(this["epoch"], other["epoch"], return_indices=True)
    known = np.isfinite(this["top1_accuracy"][here])
    common, here, there = common[known], here[known], there[known]
    if not len(common):
        raise InputError(f"the run has no accuracy at any epoch of {published.name}")
    columns = [
        _column_difference(name, common, this[name][here], other[name][there])
        for name in COLUMN_NAMES
        if name in this and name in other
    ]
    differing, assumed = _against(run, published)
    planned = (run.settings or {}).get("num_epochs")
    accuracy, other_accuracy = this["top1_accuracy"][here], other["top1_accuracy"][there]
    best, other_best = int(np.argmax(accuracy)), int(np.argmax(other_accuracy))
    return Comparison(
        published=published.name,
        differing=differing,
        assumed=assumed,
        finished=run.finished,
        planned=planned if isinstance(planned, int) else None,
        best=_pair(accuracy, other_accuracy, common, common, best, other_best),
        last=_pair(accuracy, other_accuracy, common, common, -1, -1),
        final=_final(this, other),
        columns=[column for column in columns if column],
        epochs_per_hour=_pace(this, other),
        tolerance=tolerance,
    )


def _check_classifies(run: LoggedRun) -> None:
    if run.segments:
        raise InputError(
            "the log belongs to a segmentation run, and the original published no log of one; gluon-aff report draws "
            "its curves"
        )


def comparable(columns: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Return the columns of a CIFAR or ImageNet log in common units, with `top1_accuracy`, and shares in percent."""
    if "val_iou" not in columns:
        columns = {**columns, "top1_accuracy": top1_accuracy(columns)}
    return {name: 100 * column if name in PERCENTAGES else column for name, column in columns.items()}


def _against(run: LoggedRun, published: PublishedRun) -> Tuple[List[Difference], List[str]]:
    """Return the settings that differ, and those that the log does not contain, which are assumed to be as published.

    A log without usable settings has no differing ones, and all are assumed.
    """
    other = published_recipe(published)
    try:
        recipe = logged_recipe(run)
    except InputError:
        return [], ["all settings"]
    return differences(recipe, other), [f"{name} {other[name]}" for name in unsaid(recipe, other)]


def _final(this: Dict[str, np.ndarray], other: Dict[str, np.ndarray]) -> Pair:
    """Return the last finite accuracy of each run."""
    (accuracy, epochs), (other_accuracy, other_epochs) = (
        (columns["top1_accuracy"][known], columns["epoch"][known])
        for columns, known in ((c, np.isfinite(c["top1_accuracy"])) for c in (this, other))
    )
    return _pair(accuracy, other_accuracy, epochs, other_epochs, -1, -1)


def _pace(this: Dict[str, np.ndarray], other: Dict[str, np.ndarray]) -> Optional[Tuple[float, float]]:
    """Return the epochs per hour of both runs; None if one of the logs has no times."""
    seconds = [float(np.nanmedian(columns.get("seconds", [0.0]))) for columns in (this, other)]
    return (3600 / seconds[0], 3600 / seconds[1]) if all(0 < s < np.inf for s in seconds) else None


def _pair(
    this: np.ndarray, other: np.ndarray, this_epochs: np.ndarray, other_epochs: np.ndarray, i: int, j: int
) -> Pair:
    return Pair(float(this[i]), float(other[j]), int(this_epochs[i]), int(other_epochs[j]))


def _column_difference(
    name: str, epochs: np.ndarray, this: np.ndarray, other: np.ndarray
) -> Optional[ColumnDifference]:
    difference = this - other
    known = np.isfinite(difference)
    if not known.any():
        return None
    largest = int(np.argmax(np.where(known, np.abs(difference), -1)))
    mean = float(np.abs(difference[known]).mean())
    return ColumnDifference(name, int(known.sum()), mean, float(difference[largest]), int(epochs[largest]))
