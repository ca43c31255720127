"""What a process begins a run with: its engine and devices, the other workers, the checkpoint to go on from."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, replace
from typing import Generic, Iterable, Optional, Sequence, Tuple, TypeVar

import numpy as np

from gluon_aff._version import __version__
from gluon_aff.data.batches import Share, usable_workers
from gluon_aff.engines import Cluster, Devices, Engine, Learner, LearnerSettings, engine
from gluon_aff.errors import InputError
from gluon_aff.files import check_directories
from gluon_aff.printing import show
from gluon_aff.run_names import RunPaths, paths_of
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.settings.imagenet import ImageNetSettings
from gluon_aff.settings.segmentation import SegmentationSettings
from gluon_aff.settings.shared import RunSettings
from gluon_aff.training.checkpoint import (
    Checkpoint,
    check_seen_by_all,
    newest_checkpoint,
    read_checkpoint,
    same_run,
)
from gluon_aff.training.notes import marked

AUTO = "auto"


@dataclass(frozen=True)
class DataFacts:
    """What a run trains on, for its log and for the card beside its weights.

    Attributes:
        dataset: cifar10, cifar100, imagenet or stopsign.
        official: the data is as published.
        label_values: classes of the data.
        outputs: of the network.
        names: of the classes, in the order of their labels; none if they are not known.
        labels: set of labels, where the data has several.
        base_size: side that images are scaled to in validation, where the network segments.
    """

    dataset: str
    official: bool
    label_values: int
    outputs: int
    names: Sequence[str]
    labels: Optional[str] = None
    base_size: Optional[int] = None


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
        paths: where the run's files go.
        checkpoint: to go on from, None for a new run.
    """

    settings: AnySettings
    engine: Engine
    devices: Devices
    device_note: str
    cluster: Cluster
    paths: RunPaths
    checkpoint: Optional[Checkpoint]

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files: of several workers, 0 does."""
        return self.cluster.rank == 0

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

    def versions(self, data: DataFacts) -> str:
        """The line after the settings in a log, which `results.logs` reads."""
        devices = ",".join(self.devices.names * self.cluster.size)
        return (
            f"gluon_aff {__version__}, {self.engine.NAME} {self.engine.VERSION}, NumPy {np.__version__}, "
            f"Python {platform.python_version()}, devices {devices}, {self.global_batch} images per step, "
            f"{'official' if data.official else 'other'} data, {data.label_values} label values under a "
            f"{data.outputs}-way head"
        )

    def learner(self, settings: LearnerSettings) -> Learner:
        """A network to train on this process's devices.

        Raises:
            InputError: the settings do not go together, or a file cannot be used.
        """
        return self.engine.learner(settings, self.devices, self.cluster)

    def announce(self, learner: Learner, workers: int, facts: Iterable[str], warnings: Iterable[str]) -> None:
        """Print, in the process that writes the run's files, what is going to be trained and what to be aware of.

        Args:
            learner: the network; its own notes are printed for a new run.
            workers: number of processes that prepare data.
            facts: lines that only inform; they come first.
            warnings: lines that need attention; they come last, each with a mark.
        """
        if not self.writes:
            return
        lines = [*facts, *(() if self.checkpoint else learner.notes), *map(marked, warnings)]
        show(f"{self.engine.NAME}, {self.device_note}; {workers} data workers", *lines, file=sys.stderr)
        if self.settings.sync_bn and len(self.devices) == 1:
            show(marked("--sync-bn has no effect on one device"), file=sys.stderr)


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


def set_up(settings: AnySettings, *, seed_given: bool, devices: Devices, device_note: str) -> Setup[AnySettings]:
    """Join the run's other workers, see that its files can be written, and find the checkpoint to go on from.

    Args:
        settings: resolved.
        seed_given: theirs was not drawn.
        devices: those that all workers of this machine see.
        device_note: line about them.

    Raises:
        InputError: there are no other workers, or not the same number of devices for each; a directory cannot be
            written; the devices cannot share batch statistics; or there is no checkpoint that `--resume` names, or it
            is damaged or of another run.
    """
    computes = engine(settings.engine)
    cluster = computes.join_cluster(settings.kvstore)
    own = cluster.devices(devices)
    seed, count = cluster.broadcast(np.array([settings.seed, len(own)], np.int64)).tolist()
    if len(own) != count:
        raise InputError(f"worker {cluster.rank} has {len(own)} devices and worker 0 has {count}: name as many")
    check_directories(settings.directories)
    _check_sync_bn(settings, own)
    settings, paths = replace(settings, seed=seed), paths_of(settings)
    checkpoint = _chosen_checkpoint(settings.resume, paths.checkpoints, cluster)
    if checkpoint:
        settings = same_run(checkpoint, settings, len(own) * cluster.size, seed_given)
    return Setup(
        settings=settings,
        engine=computes,
        devices=own,
        device_note=device_note,
        cluster=cluster,
        paths=paths,
        checkpoint=checkpoint,
    )


def _check_sync_bn(settings: RunSettings, devices: Devices) -> None:
    """Raise InputError where several devices would share the batch statistics of a listed network."""
    if settings.sync_bn and settings.named and len(devices) > 1:
        raise InputError("--sync-bn goes with networks that are put together from flags: leave it out")


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
