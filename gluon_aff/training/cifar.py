"""Train on CIFAR as the original does, from settings to files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Callable, List, Optional, Tuple, Union

from gluon_aff.data.cifar.batches import TrainBatches, validation_batches
from gluon_aff.data.cifar.files import LabelledImages, load_cifar
from gluon_aff.engines import Classification, Devices, LearnerSettings, Optimizer, Start
from gluon_aff.errors import InputError
from gluon_aff.models import CIFAR_SIZE
from gluon_aff.schedule import Schedule, step_rate
from gluon_aff.settings.cifar import CIFARSettings, resolve
from gluon_aff.training.architectures import cifar_architecture
from gluon_aff.training.curve_bookkeeper import CurveBookkeeper
from gluon_aff.training.logbook import append_best_accuracy
from gluon_aff.training.notes import cifar_facts, cifar_warnings, first_release_warnings
from gluon_aff.training.random_choices import mixup_weights
from gluon_aff.training.run import RunPlan, train
from gluon_aff.training.scores import top1_accuracy
from gluon_aff.training.setup import DataFacts, Setup, chosen_devices, set_up


@dataclass(frozen=True)
class CIFARRun:
    """Result of a CIFAR run.

    Attributes:
        best_accuracy: highest validation accuracy, in 0..1.
        params: path of the weights that reached it, None if none were written.
        log: path of the log, None if it was not written.
        curve: path of the curve of errors, None if it was not drawn.
        rank: number of this worker; only worker 0 writes files.
    """

    best_accuracy: float
    params: Optional[str]
    log: Optional[str]
    curve: Optional[str]
    rank: int = 0


def train_cifar(settings: CIFARSettings, devices: Optional[Devices] = None) -> CIFARRun:
    """Train as the original's `train_cifar.py` does.

    Args:
        settings: options of the command line.
        devices: devices to train on; None takes those of `--gpus` in the settings.

    Raises:
        InputError: the settings, the data, the weights or a directory are unusable; nothing has been written.
        TrainingError: the loss is not finite.
        Stopped: a signal ended the run; a checkpoint holds its state.
    """
    given, settings = settings, resolve(settings)
    chosen, note = chosen_devices(settings, devices)
    setup = set_up(settings, given_seed=given.seed, devices=chosen, device_note=note)
    training, validation = _load_data(setup)
    workers = setup.data_workers if setup.settings.auto_aug else 0  # the main process is faster without AutoAugment
    with _training_batches(setup, training, workers) as batches:
        learner = _learner_settings(setup, len(batches))
        plan = RunPlan(
            learner=learner,
            data=_facts(setup, training),
            workers=workers,
            facts=list(cifar_facts(setup.settings, setup.global_batch)),
            warnings=[*first_release_warnings(given), *cifar_warnings(setup.settings), *_doubt(training)],
            batches=batches.epoch,
            pixels=batches.pixels,
            mixup_weights=lambda epoch: mixup_weights(setup.settings, epoch, len(batches)),
            validation=lambda: validation_batches(validation, setup.local_batch, setup.share),
            score=lambda network, images: (top1_accuracy(network, images, setup.cluster), None),
            book=lambda files: CurveBookkeeper(files, learner.objective),
            rate=_rate(setup),
        )
        state = train(setup, plan)
    if setup.writes and not (setup.checkpoint and setup.checkpoint.finished):
        append_best_accuracy(settings.dataset, settings.gpus, state.best)
    curve = setup.paths.curve if state.errors else None
    return CIFARRun(state.best, state.params, setup.paths.log, curve, setup.cluster.rank)


def _load_data(setup: Setup[CIFARSettings]) -> Tuple[LabelledImages, LabelledImages]:
    settings = setup.settings
    training, validation = (
        load_cifar(settings.dataset, train, settings.fine_label, settings.data_dir) for train in (True, False)
    )
    if settings.head_classes < training.classes:
        raise InputError(
            f"--classes {settings.head_classes} is too small for labels 0..{training.classes - 1} of {settings.dataset}"
        )
    return training, validation


def _training_batches(setup: Setup[CIFARSettings], training: LabelledImages, workers: int) -> TrainBatches:
    return TrainBatches(
        training,
        batch_size=setup.local_batch,
        seed=setup.settings.drawn_seed,
        auto_augment=setup.settings.auto_aug,
        num_workers=workers,
        share=setup.share,
    )


def _facts(setup: Setup[CIFARSettings], training: LabelledImages) -> DataFacts:
    settings = setup.settings
    return DataFacts(
        dataset=settings.dataset,
        official=training.official,
        label_values=training.classes,
        outputs=settings.head_classes,
        names=training.names,
        labels=_label_set(settings),
    )


def _label_set(settings: CIFARSettings) -> Optional[str]:
    """Return which of CIFAR-100's two label sets the run uses, None for CIFAR-10."""
    if settings.dataset != "cifar100":
        return None
    return "fine" if settings.fine_label else "superclass"


def _doubt(training: LabelledImages) -> List[str]:
    return [] if training.official else ["the data is not the official set: a SHA1SUMS file of its own describes it"]


def _rate(setup: Setup[CIFARSettings]) -> Optional[Callable[[int], float]]:
    """Return the function from an epoch to its learning rate; None with --cosine, where the learner has a schedule."""
    settings = setup.settings
    if settings.cosine:
        return None
    return partial(step_rate, settings.lr, settings.lr_decay, settings.cuts)


def _learner_settings(setup: Setup[CIFARSettings], steps_per_epoch: int) -> LearnerSettings:
    settings = setup.settings
    rate: Union[float, Schedule] = settings.lr
    if settings.cosine:
        rate = Schedule("cosine", settings.lr, settings.warmup_epochs, settings.num_epochs, steps_per_epoch)
    return LearnerSettings(
        architecture=cifar_architecture(settings),
        batch_shape=(settings.batch_size, 3, CIFAR_SIZE, CIFAR_SIZE),
        objective=Classification(settings.head_classes, settings.smoothing, settings.mixup),
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
