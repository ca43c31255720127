"""The paper's segmentation run, on StopSign, from settings to files."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from typing import Optional, Union

import numpy as np

from gluon_aff.data.stop_signs.annotations import CATEGORY, load_stop_signs
from gluon_aff.data.stop_signs.batches import MaskBatches
from gluon_aff.engines import Devices, LearnerSettings, Optimizer, Segmentation
from gluon_aff.files import check_directories
from gluon_aff.printing import show
from gluon_aff.run_names import CURVE, LOG, name_of
from gluon_aff.schedule import Schedule
from gluon_aff.training.architectures import segmentation_architecture
from gluon_aff.training.cards import weights_writer
from gluon_aff.training.checkpoint import RunState
from gluon_aff.training.curve_bookkeeper import CurveBookkeeper
from gluon_aff.training.logbook import log_path
from gluon_aff.training.notes import segmentation_notes
from gluon_aff.training.random_choices import reseeding
from gluon_aff.training.run import Plan, run_epochs
from gluon_aff.training.run_files import open_files
from gluon_aff.training.scores import iou_and_niou
from gluon_aff.training.segmentation_options import SegmentationSettings, data_folder, resolve
from gluon_aff.training.setup import chosen_devices, set_up

POWER = 0.9


@dataclass(frozen=True)
class SegmentationRun:
    """What a run left: best validation IoU and nIoU (0..1), not always of one epoch, and paths of weights, log, curve.

    The weights are those of the best IoU, None if not saved; the log is None if not written. Of several workers, 0 has
    written the files; `rank` is this one's.
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
        settings: the command line's options.
        devices: what to train on; the `--gpus` of the settings if None.

    Raises:
        InputError: before anything is written, if the settings, the data or a directory are unusable.
        TrainingError: if the loss is not finite.
        Stopped: if a signal ended it; what it did is in a checkpoint.
    """
    given, settings = settings, resolve(settings)
    name = str(name_of(settings))
    setup = set_up(
        settings, given.seed is not None, chosen_devices(settings, devices), name if settings.save_dir else None
    )
    settings, cluster = setup.settings, setup.cluster
    if not cluster.rank:
        show(f"reading the annotations in {data_folder(settings)}", file=sys.stderr)  # COCO's take a while
    training, validation = (load_stop_signs(data_folder(settings), train, settings.min_area) for train in (True, False))
    places = {"--save-dir": settings.save_dir, "--logging-dir": settings.logging_dir}
    check_directories({**places, "--save-plot-dir": settings.save_plot_dir})
    versions = setup.versions(training.official, 2, 1)
    log = log_path(settings.logging_dir, LOG.format(name))
    curve = os.path.join(settings.save_plot_dir, CURVE.format(name))
    sizes, seed = (settings.base_size, settings.crop_size), settings.drawn_seed
    with MaskBatches(training, validation, setup.local_batch, *sizes, seed, setup.data_workers, setup.share) as batches:
        learner_settings = _learner_settings(settings, len(batches))
        learner = setup.learner(learner_settings)
        notes = segmentation_notes(settings, (len(training), len(validation)), setup.global_batch)
        setup.announce(learner, setup.data_workers, notes)
        write = weights_writer(
            setup, learner_settings, versions, "stopsign", 1, [CATEGORY], base_size=settings.base_size
        )
        with open_files(setup, versions, log or os.devnull, logging.BASIC_FORMAT) as files:
            plan = Plan(
                epochs=settings.num_epochs,
                fresh=RunState(0, best=0.0),
                batches=lambda epoch, first: reseeding(learner, batches.epoch(epoch, first), seed, epoch, first),
                mixup_weights=lambda epoch: np.ones(len(batches)),
                validation=batches.validation,
                score=lambda network, images: iou_and_niou(network, images, cluster),
                book=CurveBookkeeper(
                    files, Segmentation(), name, curve, settings.save_dir, settings.keep_one_best, write
                ),
            )
            state = run_epochs(learner, plan, files, setup.checkpoint)
    return SegmentationRun(state.best, state.best_niou, state.params, log, curve, cluster.rank)


def _learner_settings(settings: SegmentationSettings, steps_per_epoch: int) -> LearnerSettings:
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
