"""Open the files of a run in this process: its checkpoints and its log, with a lock on both."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any, ContextManager, Iterator, Optional

from gluon_aff.engines import LearnerSettings
from gluon_aff.printing import show
from gluon_aff.training.cards import WriteWeights, weights_writer
from gluon_aff.training.checkpoint import RunFacts, clear, locked
from gluon_aff.training.logbook import SILENT_LOG, RunLog, open_log
from gluon_aff.training.notes import marked
from gluon_aff.training.setup import DataFacts, Setup
from gluon_aff.training.stopping import StopRequest, stop_on_signals
from gluon_aff.training.tensorboard import Board, open_board


@dataclass(frozen=True)
class RunFiles:
    """Files that a process of a run has open; of several workers, only worker 0 writes.

    Attributes:
        setup: setup of the run.
        facts: facts about the run, for its checkpoints.
        log: log of the run.
        stop: request to stop, which signals set.
        board: function that writes an epoch's figures for TensorBoard.
        write_weights: function that writes a `.params` file with its card.
    """

    setup: Setup[Any]
    facts: RunFacts
    log: RunLog
    stop: StopRequest
    board: Board
    write_weights: WriteWeights

    @property
    def writes(self) -> bool:
        """Return whether this process writes the run's files."""
        return self.setup.writes

    @property
    def folder(self) -> Optional[str]:
        """Return the folder of the checkpoints, None if this process writes none."""
        return self.setup.paths.checkpoints if self.writes else None


@contextlib.contextmanager
def open_files(setup: Setup[Any], learner: LearnerSettings, data: DataFacts) -> Iterator[RunFiles]:
    """Lock the checkpoints, open the log and catch signals until the run ends.

    Of several workers, only worker 0 locks and writes files.

    Args:
        setup: setup of the run.
        learner: settings of the network that the run trains.
        data: facts about the data that it trains on.

    Raises:
        InputError: another process uses the checkpoints or the log.
        GluonAFFError: a file cannot be written.
    """
    checkpoint = setup.checkpoint
    facts = RunFacts(asdict(setup.settings), setup.device_count)
    with contextlib.ExitStack() as stack:
        log, board_folder = SILENT_LOG, None
        if setup.writes:
            if setup.paths.checkpoints:
                stack.enter_context(locked(setup.paths.checkpoints))
            log = stack.enter_context(_open_log(setup))
            _clear_checkpoints(setup)
            start = checkpoint.state.position if checkpoint else "the start"
            began = {"from": start, "engine": setup.engine.NAME, "versions": setup.versions(data)}
            earlier = checkpoint.facts.sessions if checkpoint else ()
            facts = replace(facts, log_start=log.start, sessions=(*earlier, began))
            board_folder = setup.settings.tensorboard
        stop = stack.enter_context(stop_on_signals())
        stop.alone = setup.cluster.size == 1
        board = stack.enter_context(open_board(board_folder, checkpoint.state.epoch if checkpoint else 0))
        yield RunFiles(
            setup=setup,
            facts=facts,
            log=log,
            stop=stop,
            board=board,
            write_weights=weights_writer(setup, learner, data),
        )


def _open_log(setup: Setup[Any]) -> ContextManager[RunLog]:
    path, line_format = setup.paths.log or os.devnull, setup.settings.log_format
    if setup.checkpoint is None:
        return open_log(path, line_format)
    show(f"continuing from {setup.checkpoint.path}", file=sys.stderr)
    return open_log(path, line_format, setup.checkpoint.log(), setup.checkpoint.facts.log_start)


def _clear_checkpoints(setup: Setup[Any]) -> None:
    """Clear the folder for the run's checkpoints, unless the run continues from one of those in it."""
    folder, checkpoint = setup.paths.checkpoints, setup.checkpoint
    if folder and not (checkpoint and os.path.realpath(os.path.dirname(checkpoint.path)) == os.path.realpath(folder)):
        aside = clear(folder)
        if aside:
            moved = (
                f"an unfinished run was in {folder}: its checkpoint is now in {aside}; --resume {aside} continues it"
            )
            show(marked(moved), file=sys.stderr)
