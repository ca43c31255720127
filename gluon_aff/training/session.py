"""What all recipes do around their epochs: one process's part of a run, from its lock to its last checkpoint."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, Generic, Iterable, Iterator, List, Optional, TypeVar

import mxnet as mx
import numpy as np

from gluon_aff._version import __version__
from gluon_aff.data.loading import Share, usable_workers
from gluon_aff.distributed.cluster import Cluster, join
from gluon_aff.distributed.sync_bn import norm_arguments
from gluon_aff.errors import InputError, Stopped
from gluon_aff.training.checkpoint import (
    Checkpoint,
    RunFacts,
    RunState,
    check_seen_by_all,
    checkpoint_folder,
    clear,
    locked,
    newest_checkpoint,
    read_checkpoint,
    restore,
    same_run,
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
class Setup(Generic[AnySettings]):
    """What one process begins a run with.

    Attributes:
        settings: resolved, with worker 0's seed or the checkpoint's.
        contexts: this process's devices.
        device_note: line about them.
        cluster: the run's workers.
        folder: of the checkpoints, None for none.
        checkpoint: to go on from, None for a new run.
    """

    settings: AnySettings
    contexts: List[mx.Context]
    device_note: str
    cluster: Cluster
    folder: Optional[str]
    checkpoint: Optional[Checkpoint]

    @property
    def devices(self) -> int:
        """Devices of all workers."""
        return len(self.contexts) * self.cluster.size

    @property
    def local_batch(self) -> int:
        """Images of a step in this process."""
        return self.settings.batch_size * len(self.contexts)

    @property
    def global_batch(self) -> int:
        """Images of a step."""
        return self.settings.batch_size * self.devices

    @property
    def share(self) -> Share:
        """This worker's of every batch."""
        return Share(self.cluster.rank, self.cluster.size)

    @property
    def data_workers(self) -> int:
        """Processes that prepare data for this one."""
        return usable_workers(self.settings.num_workers, self.cluster.local_size)

    def norm(self, dtype: str = "float32") -> Dict[str, Any]:
        """The hosts' norm_layer and norm_kwargs.

        Raises:
            InputError: --sync-bn does not go with the dtype or the devices.
        """
        return norm_arguments(self.contexts, dtype) if self.settings.sync_bn else {}

    def versions(self, official: bool, label_values: int, head: int) -> str:
        """The line after the settings in a log, which `results.logs` reads.

        Args:
            official: the data is as published.
            label_values: classes of the data.
            head: outputs of the network.
        """
        devices = ",".join(map(str, self.contexts * self.cluster.size))
        return (
            f"gluon_aff {__version__}, MXNet {mx.__version__}, NumPy {np.__version__}, "
            f"Python {platform.python_version()}, devices {devices}, {self.global_batch} images per step, "
            f"{'official' if official else 'other'} data, {label_values} label values under a {head}-way head"
        )

    def announce(self, workers: int, notes: Iterable[str]) -> None:
        """Print, once in a run, the devices, the number of data `workers` and the `notes`."""
        if self.cluster.rank:
            return
        print(f"{self.device_note}; {workers} data workers", *notes, sep="\n", file=sys.stderr)
        if self.settings.sync_bn and len(self.contexts) == 1:
            print("--sync-bn has no effect on one device", file=sys.stderr)


def set_up(
    settings: AnySettings,
    seed_given: bool,
    contexts: List[mx.Context],
    device_note: str,
    name: Optional[str],
    may_differ: Iterable[str],
) -> Setup[AnySettings]:
    """Join the run's other workers and find the checkpoint to go on from.

    Args:
        settings: resolved.
        seed_given: theirs was not drawn.
        contexts: devices that all workers of this machine see.
        device_note: line about them.
        name: of the run that is saved, None if none of it is.
        may_differ: settings that have no say in what a run comes to.

    Raises:
        InputError: there are no other workers, or not the same number of devices for each; or there is no checkpoint
            that `--resume` names, or it is damaged or of another run.
    """
    cluster = join(settings.kvstore)
    contexts = cluster.devices(contexts)
    seed, devices = cluster.broadcast(np.array([settings.seed, len(contexts)], np.int64)).tolist()
    if len(contexts) != devices:
        raise InputError(f"worker {cluster.rank} has {len(contexts)} devices and worker 0 has {devices}: name as many")
    settings = replace(settings, seed=seed)
    folder = checkpoint_folder(settings.save_dir, name) if name and settings.checkpoint_every else None
    checkpoint = _chosen_checkpoint(settings.resume, folder, cluster)
    if checkpoint:
        settings = same_run(checkpoint, settings, len(contexts) * cluster.size, seed_given, may_differ)
    return Setup(settings, contexts, device_note, cluster, folder, checkpoint)


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


def _chosen_checkpoint(resume: Optional[str], folder: Optional[str], cluster: Cluster) -> Optional[Checkpoint]:
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
def open_session(setup: Setup[Any], versions: str, log_path: str, log_format: str) -> Iterator[Session]:
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
    facts = RunFacts(asdict(setup.settings), setup.devices)
    with contextlib.ExitStack() as stack:
        if setup.cluster.rank:
            stop = stack.enter_context(stop_on_signals())
            stop.alone = False
            yield Session(None, every, facts, SILENT_LOG, stop)
            return
        if folder:
            stack.enter_context(locked(folder))
        if checkpoint:
            print(f"going on from {checkpoint.path}", file=sys.stderr)
            log = stack.enter_context(open_log(log_path, log_format, checkpoint.log(), checkpoint.facts.log_start))
        else:
            log = stack.enter_context(open_log(log_path, log_format))
        if folder and not (
            checkpoint and os.path.realpath(os.path.dirname(checkpoint.path)) == os.path.realpath(folder)
        ):
            aside = clear(folder)
            if aside:
                print(f"the unfinished run that was here: --resume {aside}", file=sys.stderr)
        began = {"from": checkpoint.state.position if checkpoint else "the start", "versions": versions}
        earlier = checkpoint.facts.sessions if checkpoint else ()
        facts = replace(facts, log_start=log.start, sessions=(*earlier, began))
        stop = stack.enter_context(stop_on_signals())
        stop.alone = setup.cluster.size == 1
        yield Session(folder, every, facts, log, stop)


def begin(session: Session, training: Training, checkpoint: Optional[Checkpoint], fresh: RunState) -> RunState:
    """Where the run is: as the checkpoint has it, or `fresh`.

    A new run's first checkpoint, which has its seed, and the first lines of its log are written.

    Raises:
        InputError: the checkpoint does not fit the network.
        GluonAFFError: a file cannot be written.
    """
    if checkpoint:
        restore(checkpoint, training.net, training.trainer, training.contexts)
        return checkpoint.state
    if training.cluster.rank:
        return fresh
    lines = settings_line(session.facts.settings), session.facts.sessions[-1]["versions"]
    if session.folder:
        _save(session, training, fresh, session.log.lines(*lines))
    for line in lines:
        session.log.info(line)
    return fresh


def keep(session: Session, training: Training, state: RunState) -> None:
    """Write a checkpoint of `state` if one is due, or the run is to end; then end it.

    Raises:
        Stopped: it has been asked to end, and is not done.
        GluonAFFError: the checkpoint cannot be written.
    """
    last = state.epoch == session.facts.settings["num_epochs"]
    path = None
    if session.folder and (last or session.stop() or (not state.begun.steps and state.epoch % session.every == 0)):
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
