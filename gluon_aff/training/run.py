"""A run's epochs: training, validation, what is written of them, checkpoints."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import Callable, Dict, Generic, Iterable, Iterator, Optional, Protocol, TypeVar

import numpy as np

from gluon_aff.data.batches import Batch
from gluon_aff.engines import Learner, Network
from gluon_aff.errors import TrainingError
from gluon_aff.training.checkpoint import Checkpoint, RunState
from gluon_aff.training.epoch import NOT_BEGUN, EpochProgress, StepObserver, train_epoch
from gluon_aff.training.run_files import RunFiles, begin, keep, stopped
from gluon_aff.training.stopping import StopRequestedError, unless_stopped

Score = TypeVar("Score")
Scored = TypeVar("Scored", contravariant=True)


class Bookkeeper(Protocol[Scored]):
    """What a recipe writes of its epochs: lines of the log, weights, curves; of several workers, only 0 does."""

    def begin(self, state: RunState) -> None:
        """Before the first epoch."""

    def observer(self, state: RunState) -> Optional[StepObserver]:
        """What is told of each step of the next epoch."""

    def kept(self, state: RunState) -> Optional[str]:
        """Path of the best weights so far."""

    def trained(self, learner: Learner, state: RunState, now: bool) -> None:
        """After the training half of an epoch; it was done before the run stopped, and said then, if not `now`."""

    def validated(self, learner: Learner, state: RunState, score: Scored, seconds: float) -> RunState:
        """After the validation; the epoch took so long. Returns the state with what is best now."""

    def figures(self, state: RunState, score: Scored) -> Dict[str, float]:
        """The epoch's metric and scores by the names that the log has."""


@dataclass(frozen=True)
class Plan(Generic[Score]):
    """What the epochs of a run are made of.

    Attributes:
        epochs: number of them.
        fresh: state that a new run begins with.
        batches: of an epoch, from a step on.
        mixup_weights: of an epoch's batches against their reverse, (steps,).
        validation: batches to validate on.
        score: of a network on them.
        book: what is written.
        rate: learning rate of an epoch; None if the learner has a schedule.
    """

    epochs: int
    fresh: RunState
    batches: Callable[[int, int], Iterable[Batch]]
    mixup_weights: Callable[[int], np.ndarray]
    validation: Callable[[], Iterable[Batch]]
    score: Callable[[Network, Iterator[Batch]], Score]
    book: Bookkeeper[Score]
    rate: Optional[Callable[[int], float]] = None


def run_epochs(learner: Learner, plan: Plan[Score], files: RunFiles, checkpoint: Optional[Checkpoint]) -> RunState:
    """Train and validate for the epochs that are left.

    Args:
        learner: what trains.
        plan: of the epochs.
        files: this process's checkpoints and log.
        checkpoint: to go on from.

    Raises:
        InputError: the checkpoint does not fit the network.
        TrainingError: the loss is not finite.
        Stopped: a signal ended it; what it did is in a checkpoint.
        GluonAFFError: a file cannot be written.
    """
    state = begin(files, learner, checkpoint, plan.fresh)
    plan.book.begin(state)
    for epoch in range(state.epoch, plan.epochs):
        if plan.rate:
            learner.set_learning_rate(plan.rate(epoch))
        state = _run_epoch(learner, plan, files, state)
        keep(files, learner, state)
    return state


def _run_epoch(learner: Learner, plan: Plan[Score], files: RunFiles, state: RunState) -> RunState:
    """The state after the next epoch, or after the rest of it."""
    begun = _train(learner, plan, files, state)
    trained_now = begun.steps > state.begun.steps  # else the run stopped while it validated
    state, start = replace(state, begun=begun), time.perf_counter()
    plan.book.trained(learner, state, trained_now)
    try:
        score = plan.score(learner.validated(), unless_stopped(plan.validation(), files.stop))
    except StopRequestedError:
        raise stopped(files, learner, state) from None
    state = plan.book.validated(learner, state, score, begun.seconds + time.perf_counter() - start)
    speed = files.global_batch * begun.steps / begun.seconds
    figures = {"loss": begun.loss, "lr": learner.learning_rate, "images_per_second": speed}
    files.board(state.epoch, {**plan.book.figures(state, score), **figures})
    return replace(state, epoch=state.epoch + 1, begun=NOT_BEGUN)


def _train(learner: Learner, plan: Plan[Score], files: RunFiles, state: RunState) -> EpochProgress:
    """The training half of the next epoch."""
    weights = plan.mixup_weights(state.epoch)
    batches, observer = plan.batches(state.epoch, state.begun.steps), plan.book.observer(state)
    try:
        begun = train_epoch(learner, batches, weights, state.epoch, files.stop, state.begun, observer)
    except TrainingError as error:
        kept = [plan.book.kept(state) or "no weights yet", *([] if files.log.path == os.devnull else [files.log.path])]
        raise TrainingError(f"{error}. Kept: {', '.join(kept)}") from None
    if begun.steps < len(weights):
        raise stopped(files, learner, replace(state, begun=begun))
    return begun
