"""What a process begins a run with: its engine and devices, the other workers, the checkpoint to go on from."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, replace
from typing import Generic, Iterable, Optional, Tuple, TypeVar

import numpy as np

from gluon_aff._version import __version__
from gluon_aff.data.batches import Share, usable_workers
from gluon_aff.engines import Cluster, Devices, Engine, Learner, LearnerSettings, engine
from gluon_aff.errors import InputError
from gluon_aff.printing import show
from gluon_aff.run_names import CHECKPOINTS
from gluon_aff.training.checkpoint import (
    Checkpoint,
    check_seen_by_all,
    newest_checkpoint,
    read_checkpoint,
    same_run,
)
from gluon_aff.training.cifar_options import CIFARSettings
from gluon_aff.training.imagenet_options import ImageNetSettings
from gluon_aff.training.options import RunSettings
from gluon_aff.training.segmentation_options import SegmentationSettings

AUTO = "auto"
AnySettings = TypeVar("AnySettings", CIFARSettings, ImageNetSettings, SegmentationSettings)


@dataclass(frozen=True)
class Setup(Generic[AnySettings]):
    """What one process begins a run with.

    Attributes:
        settings: resolved, with worker 0's seed or the checkpoint's.
        engine: what computes.
        devices: this process's.
        device_note: line about them.
        cluster: the run's workers.
        folder: of the checkpoints, None for none.
        checkpoint: to go on from, None for a new run.
    """

    settings: AnySettings
    engine: Engine
    devices: Devices
    device_note: str
    cluster: Cluster
    folder: Optional[str]
    checkpoint: Optional[Checkpoint]

    @property
    def device_count(self) -> int:
        """Devices of all workers."""
        return len(self.devices) * self.cluster.size

    @property
    def local_batch(self) -> int:
        """Images of a step in this process."""
        return self.settings.batch_size * len(self.devices)

    @property
    def global_batch(self) -> int:
        """Images of a step."""
        return self.settings.batch_size * self.device_count

    @property
    def share(self) -> Share:
        """This worker's of every batch."""
        return Share(self.cluster.rank, self.cluster.size)

    @property
    def data_workers(self) -> int:
        """Processes that prepare data for this one."""
        return usable_workers(self.settings.num_workers, self.cluster.local_size)

    def versions(self, official: bool, label_values: int, head: int) -> str:
        """The line after the settings in a log, which `results.logs` reads.

        Args:
            official: the data is as published.
            label_values: classes of the data.
            head: outputs of the network.
        """
        devices = ",".join(self.devices.names * self.cluster.size)
        return (
            f"gluon_aff {__version__}, {self.engine.NAME} {self.engine.VERSION}, NumPy {np.__version__}, "
            f"Python {platform.python_version()}, devices {devices}, {self.global_batch} images per step, "
            f"{'official' if official else 'other'} data, {label_values} label values under a {head}-way head"
        )

    def refuse_sync_bn(self, model: str, hosts: Iterable[str]) -> None:
        """Raise InputError where several devices would share a named network's batch statistics."""
        if self.settings.sync_bn and len(self.devices) > 1:
            raise InputError(f"--sync-bn goes with --model {', '.join(hosts)}, not with {model}")

    def learner(self, settings: LearnerSettings) -> Learner:
        """A network to train on this process's devices.

        Raises:
            InputError: the settings do not go together, or a file cannot be used.
        """
        return self.engine.learner(settings, self.devices, self.cluster)

    def announce(self, learner: Learner, workers: int, notes: Iterable[str]) -> None:
        """Print, once in a process, what computes, the number of data `workers`, the `notes`, and a new learner's."""
        if self.cluster.rank:
            return
        lines = [*notes, *(() if self.checkpoint else learner.notes)]
        show(f"{self.engine.NAME}, {self.device_note}; {workers} data workers", *lines, file=sys.stderr)
        if self.settings.sync_bn and len(self.devices) == 1:
            show("--sync-bn has no effect on one device", file=sys.stderr)


def chosen_devices(settings: RunSettings, given: Optional[Devices] = None) -> Tuple[Devices, str]:
    """The `given` devices, or those that the settings ask for, and a line about them."""
    if given:
        return given, f"devices: {', '.join(given.names)}"
    strict = isinstance(settings, ImageNetSettings) and settings.strict_devices
    return engine(settings.engine).find_devices(settings.gpu_ids, strict)


def processes_needed(settings: RunSettings) -> int:
    """How many processes train: as many as GPUs where the engine has one process for each; 1 in one of several."""
    if not engine(settings.engine).PROCESS_PER_GPU or "RANK" in os.environ:
        return 1
    devices, _ = chosen_devices(settings)
    return len(devices)


def set_up(
    settings: AnySettings,
    seed_given: bool,
    devices: Tuple[Devices, str],
    name: Optional[str],
) -> Setup[AnySettings]:
    """Join the run's other workers and find the checkpoint to go on from.

    Args:
        settings: resolved.
        seed_given: theirs was not drawn.
        devices: those that all workers of this machine see, and a line about them.
        name: of the run that is saved, None if none of it is.

    Raises:
        InputError: there are no other workers, or not the same number of devices for each; or there is no checkpoint
            that `--resume` names, or it is damaged or of another run.
    """
    computes = engine(settings.engine)
    cluster = computes.join_cluster(settings.kvstore)
    all_devices, device_note = devices
    own = cluster.devices(all_devices)
    seed, count = cluster.broadcast(np.array([settings.seed, len(own)], np.int64)).tolist()
    if len(own) != count:
        raise InputError(f"worker {cluster.rank} has {len(own)} devices and worker 0 has {count}: name as many")
    settings = replace(settings, seed=seed)
    folder = os.path.join(settings.save_dir, CHECKPOINTS.format(name)) if name and settings.checkpoint_every else None
    checkpoint = _chosen_checkpoint(settings.resume, folder, cluster)
    if checkpoint:
        settings = same_run(checkpoint, settings, len(own) * cluster.size, seed_given)
    return Setup(settings, computes, own, device_note, cluster, folder, checkpoint)


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
