"""The epochs of a run that keeps the weights of its best score and draws its errors."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Callable, Iterable, Iterator, Optional, Tuple

import numpy as np
from mxnet.gluon import HybridBlock

from gluon_aff.data.loading import Batch
from gluon_aff.errors import TrainingError
from gluon_aff.training.checkpoint import Checkpoint, RunState
from gluon_aff.training.common import save_best
from gluon_aff.training.logbook import draw_curve, epoch_line
from gluon_aff.training.loop import NOT_BEGUN, Training, copy_parameters, train_epoch
from gluon_aff.training.session import Session, begin, keep
from gluon_aff.training.stopping import StopRequestedError, unless_stopped

Score = Callable[[HybridBlock, Iterator[Batch]], Tuple[float, Optional[float]]]


@dataclass(frozen=True)
class Plan:
    """What the epochs of a run are made of.

    Attributes:
        epochs: number of them.
        batches: of an epoch, from a step on.
        mixup_weights: of an epoch's batches against their reverse, (steps,).
        validated: network to validate, which gets the trained one's parameters.
        validation: batches to validate on.
        score: of a network on them, to be raised, 0..1; and nIoU where there is one.
        name: in the files.
        curve: path of the picture of the errors.
        save_dir: for the best weights; none are written if empty.
        keep_one_best: a better file replaces the one before.
        rate: learning rate of an epoch; None if the trainer has a schedule.
    """

    epochs: int
    batches: Callable[[int, int], Iterable[Batch]]
    mixup_weights: Callable[[int], np.ndarray]
    validated: HybridBlock
    validation: Callable[[], Iterable[Batch]]
    score: Score
    name: str
    curve: str
    save_dir: str
    keep_one_best: bool
    rate: Optional[Callable[[int], float]] = None


def run_epochs(training: Training, plan: Plan, session: Session, checkpoint: Optional[Checkpoint]) -> RunState:
    """Train and validate for the epochs that are left.

    Args:
        training: what trains.
        plan: of the epochs.
        session: this process's part of the run.
        checkpoint: to go on from.

    Raises:
        InputError: the checkpoint does not fit the network.
        TrainingError: the loss is not finite.
        Stopped: a signal ended it; what it did is in a checkpoint.
        GluonAFFError: a file cannot be written.
    """
    writes = not training.cluster.rank
    state = begin(session, training, checkpoint, RunState(0, best=0.0))
    if state.errors and writes:
        draw_curve(state.errors, plan.curve)
    for epoch in range(state.epoch, plan.epochs):
        if plan.rate:
            training.trainer.set_learning_rate(plan.rate(epoch))
        state = _train(training, plan, session, state)
        state = _validate(training, plan, session, state)
        if writes:
            draw_curve(state.errors, plan.curve)
        keep(session, training, state)
    return state


def _train(training: Training, plan: Plan, session: Session, state: RunState) -> RunState:
    """The state behind the training half of the next epoch."""
    epoch, done = state.epoch, state.begun.steps
    weights = plan.mixup_weights(epoch)
    try:
        begun = train_epoch(training, plan.batches(epoch, done), weights, epoch, state.begun)
    except TrainingError as error:
        raise TrainingError(f"{error}. Kept: {state.params or 'no weights yet'}, {session.log.path}") from None
    state = replace(state, begun=begun)
    if begun.steps < len(weights):
        keep(session, training, state)
    return state


def _validate(training: Training, plan: Plan, session: Session, state: RunState) -> RunState:
    """The state behind the next epoch, whose training half is done; its line is in the log."""
    begun, start = state.begun, time.perf_counter()
    copy_parameters(training.net, plan.validated)
    try:
        score, niou = plan.score(plan.validated, unless_stopped(plan.validation(), session.stop))
    except StopRequestedError:
        keep(session, training, state)
    if score > state.best:
        params = None
        if plan.save_dir and not training.cluster.rank:
            superseded = state.params if plan.keep_one_best else None
            params = save_best(training.net, plan.save_dir, plan.name, score, superseded)
        state = replace(state, best=score, params=params)
    seconds = begun.seconds + time.perf_counter() - start
    rate = training.trainer.learning_rate
    session.log.info(epoch_line(state.epoch, begun.metric, score, begun.loss, rate, seconds, niou))
    return replace(
        state,
        epoch=state.epoch + 1,
        begun=NOT_BEGUN,
        best_niou=max(niou or 0.0, state.best_niou),
        errors=(*state.errors, (training.targets.error(begun.metric), 1 - score)),
    )
