"""A run, from its setup to its last epoch: training, validation, what is written of them, checkpoints."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from typing import Callable, Dict, Generic, Iterable, Iterator, Optional, Protocol, Sequence, TypeVar

import numpy as np

from gluon_aff.data.batches import Batch
from gluon_aff.engines import Learner, LearnerSettings, Network
from gluon_aff.errors import Stopped, TrainingError
from gluon_aff.training.checkpoint import FRESH, RunState, restore, save_checkpoint
from gluon_aff.training.epoch import NOT_BEGUN, EpochProgress, StepObserver, train_epoch
from gluon_aff.training.logbook import settings_line
from gluon_aff.training.random_choices import reseeding
from gluon_aff.training.run_files import RunFiles, open_files
from gluon_aff.training.setup import AnySettings, DataFacts, Setup
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

    def trained(self, learner: Learner, state: RunState, *, now: bool) -> None:
        """After the training half of an epoch; it was done before the run stopped, and said then, if not `now`."""

    def validated(self, learner: Learner, state: RunState, score: Scored, *, seconds: float) -> RunState:
        """After the validation; the epoch took so long. Returns the state with what is best now."""

    def figures(self, state: RunState, score: Scored) -> Dict[str, float]:
        """The epoch's metric and scores by the names that the log has."""


@dataclass(frozen=True)
class RunPlan(Generic[Score]):
    """What a run trains, on what, and what it writes.

    Attributes:
        learner: the network, and how it learns.
        data: what it trains on.
        workers: processes that prepare data.
        facts: lines to print before the run that say what it trains.
        warnings: lines to print before the run that need attention.
        batches: of an epoch, from a step on.
        mixup_weights: of an epoch's batches against their reverse, (steps,).
        validation: batches to validate on.
        score: of a network on them.
        book: what is written, with the run's files.
        rate: learning rate of an epoch; None if the learner has a schedule.
        reseeds: seed the framework's random numbers for each batch, as dropout needs.
        fresh: state that a new run begins with.
    """

    learner: LearnerSettings
    data: DataFacts
    workers: int
    facts: Sequence[str]
    warnings: Sequence[str]
    batches: Callable[[int, int], Iterable[Batch]]
    mixup_weights: Callable[[int], np.ndarray]
    validation: Callable[[], Iterable[Batch]]
    score: Callable[[Network, Iterator[Batch]], Score]
    book: Callable[[RunFiles], Bookkeeper[Score]]
    rate: Optional[Callable[[int], float]] = None
    reseeds: bool = False
    fresh: RunState = FRESH


def train(setup: Setup[AnySettings], plan: RunPlan[Score]) -> RunState:
    """Train and validate for the epochs that are left; return the state after the last.

    Raises:
        InputError: a file cannot be used, the checkpoint does not fit the network, or another process has the files.
        TrainingError: the loss is not finite.
        Stopped: a signal ended it; what it did is in a checkpoint.
        GluonAFFError: a file cannot be written.
    """
    learner = setup.learner(plan.learner)
    setup.announce(learner, plan.workers, plan.facts, plan.warnings)
    with open_files(setup, plan.learner, plan.data) as files:
        state, book = _begin(files, learner, plan.fresh), plan.book(files)
        book.begin(state)
        for epoch in range(state.epoch, setup.settings.num_epochs):
            if plan.rate:
                learner.set_learning_rate(plan.rate(epoch))
            state = _run_epoch(learner, plan, book, files, state)
            keep(files, learner, state)
    return state


def _run_epoch(
    learner: Learner, plan: RunPlan[Score], book: Bookkeeper[Score], files: RunFiles, state: RunState
) -> RunState:
    """The state after the next epoch, or after the rest of it."""
    begun = _train_half(learner, plan, book, files, state)
    trained_now = begun.steps > state.begun.steps  # else the run stopped while it validated
    state, start = replace(state, begun=begun), time.perf_counter()
    book.trained(learner, state, now=trained_now)
    try:
        score = plan.score(learner.validated(), unless_stopped(plan.validation(), files.stop))
    except StopRequestedError:
        raise stopped(files, learner, state) from None
    state = book.validated(learner, state, score, seconds=begun.seconds + time.perf_counter() - start)
    speed = files.setup.global_batch * begun.steps / begun.seconds
    figures = {"loss": begun.loss, "lr": learner.learning_rate, "images_per_second": speed}
    files.board(state.epoch, {**book.figures(state, score), **figures})
    return replace(state, epoch=state.epoch + 1, begun=NOT_BEGUN)


def _train_half(
    learner: Learner, plan: RunPlan[Score], book: Bookkeeper[Score], files: RunFiles, state: RunState
) -> EpochProgress:
    """The training half of the next epoch, whole."""
    epoch, first = state.epoch, state.begun.steps
    weights, batches = plan.mixup_weights(epoch), plan.batches(epoch, first)
    if plan.reseeds:
        batches = reseeding(learner, batches, plan.learner.seed, epoch, first)
    try:
        begun = train_epoch(learner, batches, weights, epoch, files.stop, state.begun, book.observer(state))
    except TrainingError as error:
        kept = [book.kept(state) or "no weights yet", *([] if files.log.path == os.devnull else [files.log.path])]
        raise TrainingError(f"{error}. Kept: {', '.join(kept)}") from None
    if begun.steps < len(weights):
        raise stopped(files, learner, replace(state, begun=begun))
    return begun


def _begin(files: RunFiles, learner: Learner, fresh: RunState) -> RunState:
    """Where the run is: as the checkpoint has it, or `fresh`.

    A new run's first checkpoint, which has its seed, and the first lines of its log are written.
    """
    checkpoint = files.setup.checkpoint
    if checkpoint:
        restore(checkpoint, learner)
        if files.writes and checkpoint.facts.engine != files.facts.engine:
            files.log.info(f"from epoch {checkpoint.state.epoch} on: {files.facts.sessions[-1]['versions']}")
        return checkpoint.state
    if files.writes:
        lines = settings_line(files.facts.settings), files.facts.sessions[-1]["versions"]
        if files.folder:
            save_checkpoint(files.folder, fresh, files.facts, learner, files.log.lines(*lines))
        for line in lines:
            files.log.info(line)
    return fresh


def keep(files: RunFiles, learner: Learner, state: RunState) -> None:
    """Write a checkpoint of `state`, between two epochs, if one is due; end the run if it is to end.

    Raises:
        Stopped: it has been asked to end, and is not done.
        GluonAFFError: the checkpoint cannot be written.
    """
    settings = files.setup.settings
    last = state.epoch == settings.num_epochs
    if files.stop() and not last:
        raise stopped(files, learner, state)
    if files.folder and (last or state.epoch % settings.checkpoint_every == 0):
        save_checkpoint(files.folder, state, files.facts, learner, files.log.text())


def stopped(files: RunFiles, learner: Learner, state: RunState) -> Stopped:
    """What ends a run that has been asked to end; the checkpoint of `state` is written.

    Raises:
        GluonAFFError: it cannot be.
    """
    kept = "Kept: no checkpoint, as asked for"
    if files.folder:
        path = save_checkpoint(files.folder, state, files.facts, learner, files.log.text())
        kept = f"Kept: {path}. To go on: the same command with --resume auto"
    elif not files.writes:
        kept = "worker 0 has the checkpoint"
    name = signal.Signals(files.stop.signal).name
    return Stopped(f"stopped by {name} behind {state.position}. {kept}", files.stop.signal)
