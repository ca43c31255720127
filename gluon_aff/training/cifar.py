"""The original's CIFAR training run, from settings to files."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import List, Optional, Tuple, Union

from gluon_aff.data.cifar.batches import TrainBatches, validation_batches
from gluon_aff.data.cifar.files import LabelledImages, load_cifar
from gluon_aff.engines import Classification, Devices, LearnerSettings, Optimizer, Start
from gluon_aff.errors import InputError
from gluon_aff.files import check_directories
from gluon_aff.models import CIFAR_HOSTS, CIFAR_SIZE
from gluon_aff.run_names import CURVE, LOG, name_of
from gluon_aff.schedule import Schedule, decay_epochs, step_rate
from gluon_aff.training.architectures import cifar_architecture
from gluon_aff.training.cards import weights_writer
from gluon_aff.training.checkpoint import RunState
from gluon_aff.training.cifar_options import CIFARSettings, resolve
from gluon_aff.training.curve_bookkeeper import CurveBookkeeper
from gluon_aff.training.logbook import append_best_accuracy, log_path
from gluon_aff.training.notes import cifar_notes, first_release_notes
from gluon_aff.training.options import SMOOTHING
from gluon_aff.training.random_choices import mixup_weights
from gluon_aff.training.run import Plan, run_epochs
from gluon_aff.training.run_files import open_files
from gluon_aff.training.scores import top1_accuracy
from gluon_aff.training.setup import Setup, chosen_devices, set_up


@dataclass(frozen=True)
class CIFARRun:
    """What a run left: best validation accuracy (0..1), and paths of weights, log and curve (None if not written).

    Of several workers, 0 has written them; `rank` is this one's.
    """

    best_accuracy: float
    params: Optional[str]
    log: Optional[str]
    curve: Optional[str]
    rank: int = 0


def train_cifar(settings: CIFARSettings, devices: Optional[Devices] = None) -> CIFARRun:
    """Train as the original's `train_cifar.py` does.

    Args:
        settings: the command line's options.
        devices: what to train on; the `--gpus` of the settings if None.

    Raises:
        InputError: before anything is written, if the settings, the data, the weights or a directory are unusable.
        TrainingError: if the loss is not finite.
        Stopped: if a signal ended it; what it did is in a checkpoint.
    """
    given, settings = settings, resolve(settings)
    name = str(name_of(settings))
    save_dir = settings.save_dir if settings.save_period else ""
    setup = set_up(settings, given.seed is not None, chosen_devices(settings, devices), name if save_dir else None)
    settings, cluster = setup.settings, setup.cluster
    training, validation = _load_data(settings)
    places = {"--save-dir": settings.save_dir, "--logging-dir": settings.logging_dir}
    check_directories({**places, "--save-plot-dir": settings.save_plot_dir, "working directory": ""})
    workers = setup.data_workers if settings.auto_aug else 0  # else outrun
    versions = setup.versions(training.official, training.classes, settings.head_classes)
    log = log_path(settings.logging_dir, LOG.format(name))
    curve = os.path.join(settings.save_plot_dir, CURVE.format(name))
    seed = settings.drawn_seed
    with TrainBatches(training, setup.local_batch, seed, settings.auto_aug, workers, setup.share) as batches:
        learner_settings = _learner_settings(settings, setup, len(batches))
        learner = setup.learner(learner_settings)
        setup.announce(
            learner,
            workers,
            [*first_release_notes(given), *cifar_notes(settings, setup.global_batch), *_data_notes(training)],
        )
        write = weights_writer(
            setup,
            learner_settings,
            versions,
            settings.dataset,
            settings.head_classes,
            training.names,
            labels=_label_set(settings),
        )
        with open_files(setup, versions, log or os.devnull, logging.BASIC_FORMAT) as files:
            plan = Plan(
                epochs=settings.num_epochs,
                fresh=RunState(0, best=0.0),
                batches=batches.epoch,
                mixup_weights=lambda epoch: mixup_weights(settings, epoch, len(batches)),
                validation=lambda: validation_batches(validation, setup.local_batch, setup.share),
                score=lambda network, images: (top1_accuracy(network, images, cluster), None),
                book=CurveBookkeeper(
                    files, learner_settings.objective, name, curve, save_dir, settings.keep_one_best, write
                ),
                rate=None if settings.cosine else partial(step_rate, settings.lr, settings.lr_decay, _cuts(settings)),
            )
            state = run_epochs(learner, plan, files, setup.checkpoint)
            if files.writes and not (setup.checkpoint and setup.checkpoint.finished):
                append_best_accuracy(settings.dataset, settings.gpus, state.best)
    return CIFARRun(state.best, state.params, log, curve if state.errors else None, cluster.rank)


def _label_set(settings: CIFARSettings) -> Optional[str]:
    """Of CIFAR-100, which has two."""
    if settings.dataset != "cifar100":
        return None
    return "fine" if settings.fine_label else "superclass"


def _data_notes(training: LabelledImages) -> List[str]:
    return [] if training.official else ["data: not the official set (there is a SHA1SUMS file beside it)"]


def _load_data(settings: CIFARSettings) -> Tuple[LabelledImages, LabelledImages]:
    training, validation = (
        load_cifar(settings.dataset, train, settings.fine_label, settings.data_dir) for train in (True, False)
    )
    if settings.head_classes < training.classes:
        raise InputError(
            f"--classes {settings.head_classes} is too small for labels 0..{training.classes - 1} of {settings.dataset}"
        )
    return training, validation


def _learner_settings(settings: CIFARSettings, setup: Setup[CIFARSettings], steps_per_epoch: int) -> LearnerSettings:
    if settings.named:
        setup.refuse_sync_bn(settings.model, CIFAR_HOSTS)
    rate: Union[float, Schedule] = settings.lr
    if settings.cosine:
        rate = Schedule("cosine", settings.lr, settings.warmup_epochs, settings.num_epochs, steps_per_epoch)
    smoothing = SMOOTHING if settings.label_smoothing else 0.0
    return LearnerSettings(
        architecture=cifar_architecture(settings),
        batch_shape=(settings.batch_size, 3, CIFAR_SIZE, CIFAR_SIZE),
        objective=Classification(settings.head_classes, smoothing, settings.mixup),
        optimizer=Optimizer(
            settings.optimizer, rate, settings.wd, settings.momentum, settings.no_wd and settings.cosine
        ),
        seed=settings.drawn_seed,
        initializer=settings.init,
        amp=settings.amp,
        compiled=settings.mode == "hybrid",
        sync_bn=settings.sync_bn,
        start=Start(None if setup.checkpoint else settings.resume_from or None, ignore_extra=True),
    )


def _cuts(settings: CIFARSettings) -> List[int]:
    return decay_epochs(settings.lr_decay_epoch, settings.lr_decay_period, settings.num_epochs, settings.warmup_epochs)
