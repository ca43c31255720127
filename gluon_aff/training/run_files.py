"""A process's files of a run: its checkpoints, its log, and the lock on both."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any, Iterator, Optional

from gluon_aff.engines import Learner
from gluon_aff.errors import Stopped
from gluon_aff.printing import show
from gluon_aff.training.checkpoint import (
    Checkpoint,
    RunFacts,
    RunState,
    clear,
    locked,
    restore,
    save_checkpoint,
)
from gluon_aff.training.logbook import SILENT_LOG, RunLog, open_log, settings_line
from gluon_aff.training.setup import Setup
from gluon_aff.training.stopping import StopRequest, stop_on_signals
from gluon_aff.training.tensorboard import Board, open_board


@dataclass(frozen=True)
class RunFiles:
    """What a process writes of a run beside its results; of several workers, 0 writes.

    Attributes:
        writes: this process does.
        folder: of the checkpoints, None if this process writes none.
        every: epochs between checkpoints.
        global_batch: images of a step.
        facts: about the run.
        log: of the run.
        stop: whether it is to end.
        board: is told the epochs' figures, for TensorBoard.
    """

    writes: bool
    folder: Optional[str]
    every: int
    global_batch: int
    facts: RunFacts
    log: RunLog
    stop: StopRequest
    board: Board


@contextlib.contextmanager
def open_files(setup: Setup[Any], versions: str, log_path: str, log_format: str) -> Iterator[RunFiles]:
    """Lock the checkpoints, open the log, catch signals, until the run ends; of several workers, 0 writes.

    Args:
        setup: what the run starts from.
        versions: line that names them.
        log_path: of the log.
        log_format: of its lines.

    Raises:
        InputError: another process has the checkpoints or the log.
        GluonAFFError: a file cannot be written.
    """
    folder, checkpoint, every = setup.folder, setup.checkpoint, setup.settings.checkpoint_every
    facts = RunFacts(asdict(setup.settings), setup.device_count)
    with contextlib.ExitStack() as stack:
        if setup.cluster.rank:
            stop = stack.enter_context(stop_on_signals())
            stop.alone = False
            board = stack.enter_context(open_board(None, 0))
            yield RunFiles(False, None, every, setup.global_batch, facts, SILENT_LOG, stop, board)
            return
        if folder:
            stack.enter_context(locked(folder))
        if checkpoint:
            show(f"going on from {checkpoint.path}", file=sys.stderr)
            log = stack.enter_context(open_log(log_path, log_format, checkpoint.log(), checkpoint.facts.log_start))
        else:
            log = stack.enter_context(open_log(log_path, log_format))
        if folder and not (
            checkpoint and os.path.realpath(os.path.dirname(checkpoint.path)) == os.path.realpath(folder)
        ):
            aside = clear(folder)
            if aside:
                show(f"the unfinished run that was here: --resume {aside}", file=sys.stderr)
        start = checkpoint.state.position if checkpoint else "the start"
        began = {"from": start, "engine": setup.engine.NAME, "versions": versions}
        earlier = checkpoint.facts.sessions if checkpoint else ()
        facts = replace(facts, log_start=log.start, sessions=(*earlier, began))
        stop = stack.enter_context(stop_on_signals())
        stop.alone = setup.cluster.size == 1
        epoch = checkpoint.state.epoch if checkpoint else 0
        board = stack.enter_context(open_board(setup.settings.tensorboard, epoch))
        yield RunFiles(True, folder, every, setup.global_batch, facts, log, stop, board)


def begin(files: RunFiles, learner: Learner, checkpoint: Optional[Checkpoint], fresh: RunState) -> RunState:
    """Where the run is: as the checkpoint has it, or `fresh`.

    A new run's first checkpoint, which has its seed, and the first lines of its log are written.

    Raises:
        InputError: the checkpoint does not fit the network.
        GluonAFFError: a file cannot be written.
    """
    if checkpoint:
        restore(checkpoint, learner)
        if files.writes and checkpoint.facts.engine != files.facts.engine:
            files.log.info(f"from epoch {checkpoint.state.epoch} on: {files.facts.sessions[-1]['versions']}")
        return checkpoint.state
    if not files.writes:
        return fresh
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
    last = state.epoch == files.facts.settings["num_epochs"]
    if files.stop() and not last:
        raise stopped(files, learner, state)
    if files.folder and (last or state.epoch % files.every == 0):
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
