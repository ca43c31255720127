"""Train the paper's segmentation network on StopSign, from settings to files."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Optional, Tuple, Union

import numpy as np

from gluon_aff.data.stop_signs.annotations import CATEGORY, StopSigns, load_stop_signs
from gluon_aff.data.stop_signs.batches import MaskBatches
from gluon_aff.engines import Devices, LearnerSettings, Optimizer, Segmentation
from gluon_aff.printing import show
from gluon_aff.schedule import Schedule
from gluon_aff.settings.segmentation import SegmentationSettings, data_folder, resolve
from gluon_aff.training.architectures import segmentation_architecture
from gluon_aff.training.curve_bookkeeper import CurveBookkeeper
from gluon_aff.training.notes import segmentation_facts, segmentation_warnings
from gluon_aff.training.run import RunPlan, train
from gluon_aff.training.scores import iou_and_niou
from gluon_aff.training.setup import DataFacts, Setup, chosen_devices, set_up

POWER = 0.9


@dataclass(frozen=True)
class SegmentationRun:
    """Result of a segmentation run.

    Attributes:
        best_iou: highest validation IoU, in 0..1.
        best_niou: highest validation nIoU, in 0..1, perhaps of another epoch.
        params: path of the weights that reached the highest IoU, None if none were written.
        log: path of the log, None if it was not written.
        curve: path of the curve of errors.
        rank: number of this worker; only worker 0 writes files.
    """

    best_iou: float
    best_niou: float
    params: Optional[str]
    log: Optional[str]
    curve: str
    rank: int = 0


def train_segmentation(settings: SegmentationSettings, devices: Optional[Devices] = None) -> SegmentationRun:
    """Train on StopSign as the paper describes (Section 5.1, Table 2).

    Args:
        settings: options of the command line.
        devices: devices to train on; None takes those of `--gpus` in the settings.

    Raises:
        InputError: the settings, the data or a directory are unusable; nothing has been written.
        TrainingError: the loss is not finite.
        Stopped: a signal ended the run; a checkpoint holds its state.
    """
    given, settings = settings, resolve(settings)
    chosen, note = chosen_devices(settings, devices)
    setup = set_up(settings, given_seed=given.seed, devices=chosen, device_note=note)
    training, validation = _load_data(setup)
    images = len(training), len(validation)
    with _batches(setup, training, validation) as batches:
        learner = _learner_settings(setup, len(batches))
        plan = RunPlan(
            learner=learner,
            data=_facts(setup, training),
            workers=setup.data_workers,
            facts=list(segmentation_facts(setup.settings, images, setup.global_batch)),
            warnings=list(segmentation_warnings(setup.settings, images)),
            batches=batches.epoch,
            mixup_weights=lambda epoch: np.ones(len(batches)),
            validation=batches.validation,
            score=lambda network, images: iou_and_niou(network, images, setup.cluster),
            book=lambda files: CurveBookkeeper(files, learner.objective),
            reseeds=True,
        )
        state = train(setup, plan)
    paths = setup.paths
    return SegmentationRun(state.best, state.best_niou, state.params, paths.log, str(paths.curve), setup.cluster.rank)


def _load_data(setup: Setup[SegmentationSettings]) -> Tuple[StopSigns, StopSigns]:
    folder = data_folder(setup.settings)
    if setup.writes:
        show(f"reading the annotations in {folder}", file=sys.stderr)  # reading COCO's takes a while
    training, validation = (load_stop_signs(folder, train, setup.settings.min_area) for train in (True, False))
    return training, validation


def _batches(setup: Setup[SegmentationSettings], training: StopSigns, validation: StopSigns) -> MaskBatches:
    settings = setup.settings
    return MaskBatches(
        training,
        validation,
        batch_size=setup.local_batch,
        base_size=settings.base_size,
        crop_size=settings.crop_size,
        seed=settings.drawn_seed,
        num_workers=setup.data_workers,
        share=setup.share,
    )


def _facts(setup: Setup[SegmentationSettings], training: StopSigns) -> DataFacts:
    return DataFacts(
        dataset="stopsign",
        official=training.official,
        label_values=2,
        outputs=1,
        names=[CATEGORY],
        base_size=setup.settings.base_size,
    )


def _learner_settings(setup: Setup[SegmentationSettings], steps_per_epoch: int) -> LearnerSettings:
    settings = setup.settings
    rate: Union[float, Schedule] = settings.lr
    if settings.lr_mode == "poly":
        rate = Schedule("poly", settings.lr, 0, settings.num_epochs, steps_per_epoch, power=POWER)
    return LearnerSettings(
        architecture=segmentation_architecture(settings),
        batch_shape=(settings.batch_size, 3, settings.crop_size, settings.crop_size),
        objective=Segmentation(),
        optimizer=Optimizer("adagrad", rate, settings.wd),
        seed=settings.drawn_seed,
        amp=settings.amp,
        sync_bn=settings.sync_bn,
    )
