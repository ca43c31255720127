"""The original's ImageNet training run, from settings to files."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from typing import Iterable, List, Optional

from gluon_aff.data.batches import Batch
from gluon_aff.data.class_names import class_names
from gluon_aff.data.imagenet.class_lists import check_same_classes
from gluon_aff.data.imagenet.training_batches import ImageNetBatches, folder_batches, record_batches
from gluon_aff.data.imagenet.validation_batches import ValidationData, folder_validation, record_validation
from gluon_aff.engines import (
    Classification,
    Cluster,
    Distillation,
    LearnerSettings,
    Network,
    Optimizer,
    Start,
)
from gluon_aff.errors import InputError
from gluon_aff.evaluation.evaluate import evaluate
from gluon_aff.files import check_directories
from gluon_aff.models import IMAGENET_HOSTS
from gluon_aff.printing import show
from gluon_aff.run_names import imagenet_files
from gluon_aff.schedule import Schedule, decay_epochs
from gluon_aff.training.architectures import imagenet_architecture
from gluon_aff.training.cards import weights_writer
from gluon_aff.training.checkpoint import RunState
from gluon_aff.training.imagenet_bookkeeper import Errors, ImageNetBookkeeper, best_error, saves
from gluon_aff.training.imagenet_options import ImageNetSettings, resolve, used_dtype
from gluon_aff.training.notes import imagenet_notes
from gluon_aff.training.options import SMOOTHING
from gluon_aff.training.random_choices import mixup_weights
from gluon_aff.training.run import Plan, run_epochs
from gluon_aff.training.run_files import open_files
from gluon_aff.training.setup import Setup, chosen_devices, set_up

IMAGENET_TRAINING_IMAGES = 1_281_167


@dataclass(frozen=True)
class ImageNetRun:
    """What a run left: lowest top-1 error (0..1), paths of its weights (None if not saved) and of the log.

    Of several workers, 0 has written them; `rank` is this one's.
    """

    best_error: float
    params: Optional[str]
    log: str
    rank: int = 0


def train_imagenet(settings: ImageNetSettings) -> ImageNetRun:
    """Train as the original's `train_imagenet.py` does.

    Raises:
        InputError: before anything is written, if the settings, the data, the weights or a directory are unusable.
        TrainingError: if the loss is not finite.
        Stopped: if a signal ended it; what it did is in a checkpoint.
    """
    given, asked = settings, resolve(settings)
    found = chosen_devices(asked)
    on_gpu = found[0].kind == "gpu"
    used = replace(asked, dtype=used_dtype(asked, on_gpu))
    setup = set_up(used, given.seed is not None, found, imagenet_files(asked) if saves(asked) else None)
    settings, cluster = setup.settings, setup.cluster
    check_directories({"--save-dir": settings.save_dir, "--logging-file": os.path.dirname(settings.logging_file)})
    with _training_data(setup) as batches:
        validation = _validation_data(setup)
        _check_labels(settings, batches, validation)
        learner_settings = _learner_settings(settings, setup, len(batches))
        learner = setup.learner(learner_settings)
        setup.announce(
            learner,
            setup.data_workers,
            [*imagenet_notes(asked, setup.global_batch, on_gpu), *_data_notes(batches, validation)],
        )
        best, earlier_params = best_error(settings)
        if earlier_params and not setup.checkpoint and not cluster.rank:
            show(f"best so far: {best} in {earlier_params}", file=sys.stderr)
        official = batches.images == IMAGENET_TRAINING_IMAGES
        versions = setup.versions(official, batches.classes, settings.classes)
        names = _class_names(batches, official)
        write = weights_writer(setup, learner_settings, versions, "imagenet", settings.classes, names)
        with open_files(setup, versions, settings.logging_file, "%(message)s") as files:
            book = ImageNetBookkeeper(files, settings, len(batches), earlier_params, write)
            plan = Plan(
                epochs=settings.num_epochs,
                fresh=RunState(settings.resume_epoch, best),
                batches=batches.epoch,
                mixup_weights=lambda epoch: mixup_weights(settings, epoch, len(batches)),
                validation=lambda: validation.batches,
                score=lambda network, images: _errors(network, images, settings.classes, validation.images, cluster),
                book=book,
            )
            state = run_epochs(learner, plan, files, setup.checkpoint)
            return ImageNetRun(state.best, book.kept(state), settings.logging_file, cluster.rank)


def _training_data(setup: Setup[ImageNetSettings]) -> ImageNetBatches:
    settings = setup.settings
    shape = (setup.local_batch, settings.drawn_seed, settings.input_size)
    if settings.use_rec:
        files = (settings.rec_train, settings.rec_train_idx)
        return record_batches(*files, *shape, setup.data_workers, settings.classes, setup.share)
    return folder_batches(
        settings.data_dir, *shape, settings.auto_aug, setup.data_workers, settings.classes, setup.share
    )


def _validation_data(setup: Setup[ImageNetSettings]) -> ValidationData:
    settings = setup.settings
    shape = (settings.input_size, setup.local_batch, settings.num_workers, settings.used_crop_ratio, setup.share)
    if settings.use_rec:
        return record_validation(settings.rec_val, settings.rec_val_idx, *shape)
    return folder_validation(settings.data_dir, *shape)


def _check_labels(settings: ImageNetSettings, batches: ImageNetBatches, validation: ValidationData) -> None:
    check_same_classes(batches.class_list, validation.class_list)
    classes = max(batches.classes, validation.classes)
    if classes > settings.classes:
        raise InputError(f"the data has {classes} classes, and the network {settings.classes} outputs: raise --classes")


def _class_names(batches: ImageNetBatches, official: bool) -> List[str]:
    """In the order of the labels; none if they are not known."""
    if official:
        return class_names("imagenet")
    known = batches.class_list
    return known.ordered if known and known.whole else []


def _data_notes(batches: ImageNetBatches, validation: ValidationData) -> List[str]:
    unknown = not (batches.class_list and validation.class_list) and validation.classes < batches.classes
    doubt = (
        f"training has labels up to {batches.classes - 1} and validation up to {validation.classes - 1}, and no "
        ".classes or .lst file beside both record files says for which classes: if one was missing when the validation "
        "records were made, the labels after it are wrong; gluon-aff make-records makes both alike"
    )
    return [*batches.notes, *validation.notes, *([doubt] if unknown else [])]


def _learner_settings(settings: ImageNetSettings, setup: Setup[ImageNetSettings], steps: int) -> LearnerSettings:
    """Fresh, or as --resume-params and --resume-states have it, unless a checkpoint will."""
    if settings.named:
        setup.refuse_sync_bn(str(settings.model), IMAGENET_HOSTS)
    cuts = decay_epochs(settings.lr_decay_epoch, settings.lr_decay_period, settings.num_epochs, settings.warmup_epochs)
    schedule = Schedule(
        settings.lr_mode,
        settings.lr,
        settings.warmup_epochs,
        settings.num_epochs,
        steps,
        tuple(cuts),
        settings.lr_decay,
    )
    resumes = setup.checkpoint is None
    return LearnerSettings(
        architecture=imagenet_architecture(settings),
        batch_shape=(settings.batch_size, 3, settings.input_size, settings.input_size),
        objective=Classification(
            settings.classes, SMOOTHING if settings.label_smoothing else 0.0, settings.mixup, _distillation(settings)
        ),
        optimizer=Optimizer(settings.optimizer, schedule, settings.wd, settings.momentum, settings.no_wd),
        seed=settings.drawn_seed,
        dtype=settings.dtype,
        amp=settings.amp,
        compiled=settings.hybrid,
        static=True,
        sync_bn=settings.sync_bn,
        start=Start(
            (settings.resume_params or None) if resumes else None,
            states=(settings.resume_states or None) if resumes else None,
            updates=settings.resume_epoch * steps,  # the schedule goes with the epochs, whatever the states say
        ),
    )


def _distillation(settings: ImageNetSettings) -> Optional[Distillation]:
    if not settings.teacher or settings.hard_weight >= 1:
        return None
    if not settings.teacher_params:
        raise InputError(f"--teacher {settings.teacher}: name its weights with --teacher-params")
    return Distillation(settings.teacher, settings.teacher_params, settings.temperature, settings.hard_weight)


def _errors(network: Network, images: Iterable[Batch], classes: int, total: int, cluster: Cluster) -> Errors:
    """Top-1 and top-5 error on the images of all workers."""
    figures = evaluate(network.infer, images, classes, total)
    counts = [round(figures.top1 * figures.images), round(figures.top5 * figures.images), figures.images]
    top1, top5, count = cluster.sum(counts)
    return 1 - top1 / count, 1 - top5 / count
