"""What all recipes do around their epochs: one process's part of a run, from its lock to its last checkpoint."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass, replace
from typing import Any, Iterator, List, Mapping, Optional, Tuple, TypeVar

import mxnet as mx
import numpy as np

from gluon_aff.distributed.cluster import Cluster, join
from gluon_aff.errors import InputError, Stopped
from gluon_aff.training.checkpoint import (
    Checkpoint,
    RunFacts,
    RunState,
    check_seen_by_all,
    clear,
    locked,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from gluon_aff.training.cifar_options import CIFARSettings
from gluon_aff.training.imagenet_options import ImageNetSettings
from gluon_aff.training.logbook import SILENT_LOG, RunLog, open_log, settings_line
from gluon_aff.training.loop import Training
from gluon_aff.training.segmentation_options import SegmentationSettings
from gluon_aff.training.stopping import StopRequest, stop_on_signals

AUTO = "auto"
AnySettings = TypeVar("AnySettings", CIFARSettings, ImageNetSettings, SegmentationSettings)


@dataclass(frozen=True)
class Session:
    """One process's part of a run.

    Attributes:
        folder: of the checkpoints, None if this process writes none.
        every: epochs between checkpoints.
        facts: about the run.
        log: of the run.
        stop: whether it is to end.
    """

    folder: Optional[str]
    every: int
    facts: RunFacts
    log: RunLog
    stop: StopRequest


def meet(settings: AnySettings, contexts: List[mx.Context]) -> Tuple[Cluster, AnySettings, List[mx.Context]]:
    """Join the run's other workers; the settings with worker 0's seed, and this worker's part of its machine's devices.

    Args:
        settings: resolved.
        contexts: devices that all workers of this machine see.

    Raises:
        InputError: there are no other workers, or not the same number of devices for each.
    """
    cluster = join(settings.kvstore)
    contexts = cluster.devices(contexts)
    seed, devices = cluster.broadcast(np.array([settings.seed, len(contexts)], np.int64)).tolist()
    if len(contexts) != devices:
        raise InputError(f"worker {cluster.rank} has {len(contexts)} devices and worker 0 has {devices}: name as many")
    return cluster, replace(settings, seed=seed), contexts


def chosen_checkpoint(resume: Optional[str], folder: Optional[str], cluster: Cluster) -> Optional[Checkpoint]:
    """The checkpoint that `--resume` means: with `auto` the newest in `folder`, if there is one.

    Raises:
        InputError: there is none at the path given, it is damaged, or another worker sees another one.
    """
    if resume is None:
        return None
    checkpoint = _found_checkpoint(resume, folder)
    check_seen_by_all(checkpoint, cluster)
    return checkpoint


def _found_checkpoint(resume: str, folder: Optional[str]) -> Optional[Checkpoint]:
    if resume != AUTO:
        return read_checkpoint(os.path.expanduser(resume))
    if folder is None:
        raise InputError("--resume auto: without --save-dir, or with --checkpoint-every 0, there are no checkpoints")
    newest = newest_checkpoint(folder)
    return read_checkpoint(newest) if newest else None


@contextlib.contextmanager
def open_session(
    folder: Optional[str],
    checkpoint: Optional[Checkpoint],
    settings: Mapping[str, Any],
    devices: int,
    versions: str,
    log_path: str,
    log_format: str,
    cluster: Cluster,
) -> Iterator[Session]:
    """Lock the checkpoints, open the log, catch signals, until the run ends; of several workers, 0 writes.

    Args:
        folder: of the checkpoints, None for none.
        checkpoint: to go on from, None for a new run.
        settings: of the run by name; `checkpoint_every` is heeded.
        devices: that it trains on.
        versions: line that names them.
        log_path: of the log.
        log_format: of its lines.
        cluster: the workers of the run.

    Raises:
        InputError: another process has the checkpoints or the log.
        GluonAFFError: a file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        if cluster.rank:
            stop = stack.enter_context(stop_on_signals())
            stop.alone = False
            yield Session(None, settings["checkpoint_every"], RunFacts(dict(settings), devices), SILENT_LOG, stop)
            return
        if folder:
            stack.enter_context(locked(folder))
        if folder and not (
            checkpoint and os.path.realpath(os.path.dirname(checkpoint.path)) == os.path.realpath(folder)
        ):
            aside = clear(folder)
            if aside:
                print(f"the unfinished run that was here: --resume {aside}", file=sys.stderr)
        if checkpoint:
            print(f"going on from {checkpoint.path}", file=sys.stderr)
            log = stack.enter_context(open_log(log_path, log_format, checkpoint.log(), checkpoint.facts.log_start))
        else:
            log = stack.enter_context(open_log(log_path, log_format))
        began = {"from": checkpoint.state.position if checkpoint else "the start", "versions": versions}
        earlier = checkpoint.facts.sessions if checkpoint else ()
        facts = RunFacts(dict(settings), devices, log.start, (*earlier, began))
        stop = stack.enter_context(stop_on_signals())
        stop.alone = cluster.size == 1
        yield Session(folder, settings["checkpoint_every"], facts, log, stop)


def begin(session: Session, training: Training, state: RunState) -> None:
    """Write a new run's first checkpoint, which has its seed, and the first lines of its log.

    Raises:
        GluonAFFError: they cannot be written.
    """
    if training.cluster.rank:
        return
    lines = settings_line(session.facts.settings), session.facts.sessions[-1]["versions"]
    if session.folder:
        _save(session, training, state, session.log.lines(*lines))
    for line in lines:
        session.log.info(line)


def keep(session: Session, training: Training, state: RunState) -> None:
    """Write a checkpoint of `state` if one is due, or the run is to end; then end it.

    Raises:
        Stopped: it has been asked to end, and is not done.
        GluonAFFError: the checkpoint cannot be written.
    """
    last = state.epoch == session.facts.settings["num_epochs"]
    due = last or (not state.begun.steps and state.epoch % session.every == 0)
    path = None
    if session.folder and (due or session.stop()):
        path = _save(session, training, state, session.log.text())
    if session.stop() and not last:
        kept = f"{path}. To go on: the same command with --resume auto" if path else "no checkpoint, as asked for"
        name = signal.Signals(session.stop.signal).name
        what = "worker 0 has the checkpoint" if training.cluster.rank else f"Kept: {kept}"
        raise Stopped(f"stopped by {name} behind {state.position}. {what}", session.stop.signal)


def _save(session: Session, training: Training, state: RunState, log: bytes) -> str:
    return save_checkpoint(
        str(session.folder), state, session.facts, training.net, training.trainer, training.contexts, log
    )
