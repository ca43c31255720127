"""Set a process up for a run: its engine and devices, the other workers, and the checkpoint to continue from."""

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
    """Facts about the data of a run, for its log and for the cards of its weights.

    Attributes:
        dataset: cifar10, cifar100, imagenet or stopsign.
        official: whether the data is the published data set.
        label_values: number of classes in the data.
        outputs: number of outputs of the network.
        names: names of the classes in the order of their labels, empty if they are not known.
        labels: label set, `fine` or `superclass`, for CIFAR-100.
        base_size: side in pixels to which validation images are scaled, for segmentation.
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
    """Everything that one process of a run has before it builds the network.

    Attributes:
        settings: resolved settings, with the seed of worker 0 or of the checkpoint.
        engine: framework that computes.
        devices: devices of this process.
        device_note: text that names the devices.
        cluster: the workers of the run.
        paths: paths of the run's files.
        checkpoint: checkpoint to continue from, None for a new run.
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
        """Return whether this process writes the run's files: of several workers, only worker 0 does."""
        return self.cluster.rank == 0

    @property
    def device_count(self) -> int:
        """Return the number of devices of all workers."""
        return len(self.devices) * self.cluster.size

    @property
    def local_batch(self) -> int:
        """Return the number of images that this process trains on in a step."""
        return self.settings.batch_size * len(self.devices)

    @property
    def global_batch(self) -> int:
        """Return the number of images in a step, over all workers."""
        return self.settings.batch_size * self.device_count

    @property
    def share(self) -> Share:
        """Return which part of every batch this worker takes."""
        return Share(self.cluster.rank, self.cluster.size)

    @property
    def data_workers(self) -> int:
        """Return the number of processes that prepare data for this one."""
        return usable_workers(self.settings.num_workers, self.cluster.local_size)

    def versions(self, data: DataFacts) -> str:
        """Return the log line after the settings, which `results.logs` reads: versions, devices, batch and labels."""
        devices = ",".join(self.devices.names * self.cluster.size)
        return (
            f"gluon_aff {__version__}, {self.engine.NAME} {self.engine.VERSION}, NumPy {np.__version__}, "
            f"Python {platform.python_version()}, devices {devices}, {self.global_batch} images per step, "
            f"{'official' if data.official else 'other'} data, {data.label_values} label values under a "
            f"{data.outputs}-way head"
        )

    def learner(self, settings: LearnerSettings) -> Learner:
        """Build the network and its trainer on the devices of this process.

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
        if self.checkpoint and self.checkpoint.finished:
            of = f"{self.checkpoint.state.epoch} of {self.settings.num_epochs} epochs"
            show(f"this run is finished ({of}): nothing is left to train", file=sys.stderr)
        if self.settings.sync_bn and len(self.devices) == 1:
            show(marked("--sync-bn has no effect on one device"), file=sys.stderr)


def chosen_devices(settings: RunSettings, given: Optional[Devices] = None) -> Tuple[Devices, str]:
    """Return the `given` devices, or those that the settings name, and a text about them.

    Raises:
        InputError: the engine cannot use what the settings name.
    """
    if given:
        return given, f"devices: {', '.join(given.names)}"
    strict = isinstance(settings, ImageNetSettings) and settings.strict_devices
    return engine(settings.engine).find_devices(settings.gpu_ids, strict)


def processes_needed(settings: RunSettings) -> int:
    """Return how many processes to start for a run: one for each GPU where the engine needs that, otherwise 1.

    In a process that has been started as one of several, the answer is 1.
    """
    if not engine(settings.engine).PROCESS_PER_GPU or "RANK" in os.environ:
        return 1
    devices, _ = chosen_devices(settings)
    return len(devices)


def set_up(
    settings: AnySettings, *, given_seed: Optional[int], devices: Devices, device_note: str
) -> Setup[AnySettings]:
    """Join the other workers, check that files can be written, and find the checkpoint to continue from.

    Args:
        settings: resolved settings.
        given_seed: seed that the user gave, None if it was drawn.
        devices: devices that all workers of this machine see.
        device_note: text that names them.

    Raises:
        InputError: the other workers are missing or have other numbers of devices; a directory cannot be written; the
            devices cannot share batch statistics; or the checkpoint that `--resume` names is missing, damaged or of
            another run.
    """
    computes = engine(settings.engine)
    cluster = computes.join_cluster(settings.kvstore)
    own = cluster.devices(devices)
    seed, count = cluster.broadcast(np.array([settings.seed, len(own)], np.int64)).tolist()
    if len(own) != count:
        raise InputError(
            f"worker {cluster.rank} has {len(own)} devices and worker 0 has {count}: give all workers the same number"
        )
    check_directories(settings.directories)
    _check_sync_bn(settings, own)
    paths = paths_of(settings)
    setup = Setup(
        settings=replace(settings, seed=seed),
        engine=computes,
        devices=own,
        device_note=device_note,
        cluster=cluster,
        paths=paths,
        checkpoint=_chosen_checkpoint(settings.resume, paths.checkpoints, cluster),
    )
    if setup.checkpoint is None:
        return setup
    same = same_run(setup.checkpoint, setup.settings, setup.device_count, given_seed is not None)
    return replace(setup, settings=same)


def _check_sync_bn(settings: RunSettings, devices: Devices) -> None:
    """Check that several devices do not share the batch statistics of a listed network, which is not supported.

    Raises:
        InputError: they would.
    """
    if settings.sync_bn and settings.named and len(devices) > 1:
        raise InputError("--sync-bn works only with networks assembled from flags, not with listed ones: leave it out")


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
        raise InputError("--resume auto finds no checkpoints without --save-dir or with --checkpoint-every 0")
    newest = newest_checkpoint(folder)
    return read_checkpoint(newest) if newest else None
