"""Carry out a run from its setup to its last epoch: train, validate, record the epochs and write checkpoints."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from typing import Callable, Dict, Generic, Iterable, Iterator, Optional, Protocol, Sequence, TypeVar

import numpy as np

from gluon_aff.data.batches import Batch, PixelBatch, TrainingBatch
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
    """Records the epochs of a recipe: log lines, weights and curves. Of several workers, only worker 0 writes."""

    def begin(self, state: RunState) -> None:
        """Record what is due before the first epoch of this process."""

    def observer(self, state: RunState) -> Optional[StepObserver]:
        """Return a function that is called after each step of the next epoch, or None."""

    def kept(self, state: RunState) -> Optional[str]:
        """Return the path of the best weights so far, None if there are none."""

    def trained(self, learner: Learner, state: RunState, *, now: bool) -> None:
        """Record the training half of an epoch.

        Args:
            learner: the network after it.
            state: state of the run.
            now: whether this process has trained; otherwise an earlier one did, logged it, and stopped in validation.
        """

    def validated(self, learner: Learner, state: RunState, score: Scored, *, seconds: float) -> RunState:
        """Record the validation of an epoch and return the state with the best score so far.

        Args:
            learner: the network.
            state: state of the run before.
            score: result of the validation.
            seconds: duration of the whole epoch.
        """

    def figures(self, state: RunState, score: Scored) -> Dict[str, float]:
        """Return the epoch's training metric and validation scores, by their names in the log."""


@dataclass(frozen=True)
class RunPlan(Generic[Score]):
    """Everything that distinguishes a recipe: what it trains, on what data, and what it records.

    Attributes:
        learner: settings of the network and of how it learns.
        data: facts about the training data.
        workers: number of processes that prepare data.
        facts: lines to print before the run that say what it trains.
        warnings: lines to print before the run that need attention.
        batches: function that returns the batches of an epoch, given its number and the step to start at.
        mixup_weights: function that returns the shares of an epoch's batches in their mixes, (steps,), in 0..1.
        validation: function that returns the batches to validate on.
        score: function that computes the score of a network on such batches.
        book: function that makes the bookkeeper from the run's files.
        rate: function that returns the learning rate of an epoch; None if the learner has a schedule.
        reseeds: whether to seed the framework's random numbers before each batch, which dropout needs.
        fresh: state that a new run begins with.
        pixels: `batches` with images that are not normalised yet, for learners that take them; None if there is no such
            function.
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
    pixels: Optional[Callable[[int, int], Iterable[PixelBatch]]] = None


def train(setup: Setup[AnySettings], plan: RunPlan[Score]) -> RunState:
    """Train and validate for the epochs that are left, and return the state after the last one.

    Raises:
        InputError: a file cannot be used, the checkpoint does not fit the network, or another process uses the files.
        TrainingError: the loss is not finite.
        Stopped: a signal ended the run; a checkpoint holds its state.
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
    """Train and validate for the next epoch, or for the rest of it, and return the state after it."""
    begun = _train_half(learner, plan, book, files, state)
    trained_now = begun.steps > state.begun.steps  # otherwise an earlier process stopped while it validated
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
    """Train on the remaining batches of the next epoch and return its complete progress."""
    epoch, first = state.epoch, state.begun.steps
    weights = plan.mixup_weights(epoch)
    batches: Iterable[TrainingBatch] = _batches(learner, plan)(epoch, first)
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


def _batches(learner: Learner, plan: RunPlan[Score]) -> Callable[[int, int], Iterable[TrainingBatch]]:
    """Return the function that yields the batches of an epoch in the form that suits the learner."""
    return plan.pixels if plan.pixels and learner.takes_pixels else plan.batches


def _begin(files: RunFiles, learner: Learner, fresh: RunState) -> RunState:
    """Return the state of the checkpoint, which is restored, or `fresh` for a new run.

    For a new run, write the first lines of the log and a first checkpoint, which holds the seed.
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
    """Write a checkpoint between two epochs if one is due, or if a stop was requested.

    Raises:
        Stopped: a stop was requested before the last epoch was done.
        GluonAFFError: the checkpoint cannot be written.
    """
    settings = files.setup.settings
    last = state.epoch == settings.num_epochs
    if files.stop() and not last:
        raise stopped(files, learner, state)
    if files.folder and (last or state.epoch % settings.checkpoint_every == 0):
        save_checkpoint(files.folder, state, files.facts, learner, files.log.text())


def stopped(files: RunFiles, learner: Learner, state: RunState) -> Stopped:
    """Write the checkpoint of `state` and return the exception that ends a run which was asked to stop.

    Raises:
        GluonAFFError: the checkpoint cannot be written.
    """
    kept = "No checkpoint was kept, since checkpoints are turned off"
    if files.folder:
        path = save_checkpoint(files.folder, state, files.facts, learner, files.log.text())
        kept = f"Kept: {path}. To continue, give the same command with --resume auto"
    elif not files.writes:
        kept = "worker 0 has the checkpoint"
    name = signal.Signals(files.stop.signal).name
    return Stopped(f"stopped by {name} after {state.position}. {kept}", files.stop.signal)
