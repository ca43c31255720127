"""Train on ImageNet as the original does, from settings to files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Iterable, List, Optional

from gluon_aff.data.batches import Batch
from gluon_aff.data.class_names import class_names
from gluon_aff.data.imagenet.class_lists import check_same_classes
from gluon_aff.data.imagenet.training_batches import ImageNetBatches, folder_batches, record_batches
from gluon_aff.data.imagenet.validation_batches import ValidationData, folder_validation, record_validation
from gluon_aff.engines import Classification, Distillation, LearnerSettings, Network, Optimizer, Start
from gluon_aff.errors import InputError
from gluon_aff.evaluation.evaluate import evaluate
from gluon_aff.schedule import Schedule
from gluon_aff.settings.imagenet import ImageNetSettings, resolve, used_dtype
from gluon_aff.training.architectures import imagenet_architecture
from gluon_aff.training.checkpoint import RunState
from gluon_aff.training.imagenet_bookkeeper import Errors, ImageNetBookkeeper, best_error
from gluon_aff.training.notes import imagenet_facts, imagenet_warnings
from gluon_aff.training.random_choices import mixup_weights
from gluon_aff.training.run import RunPlan, train
from gluon_aff.training.setup import DataFacts, Setup, chosen_devices, set_up

IMAGENET_TRAINING_IMAGES = 1_281_167


@dataclass(frozen=True)
class ImageNetRun:
    """Result of an ImageNet run.

    Attributes:
        best_error: lowest top-1 validation error, in 0..1.
        params: path of the weights that reached it, None if none were written.
        log: path of the log.
        rank: number of this worker; only worker 0 writes files.
    """

    best_error: float
    params: Optional[str]
    log: str
    rank: int = 0


def train_imagenet(settings: ImageNetSettings) -> ImageNetRun:
    """Train as the original's `train_imagenet.py` does.

    Raises:
        InputError: the settings, the data, the weights or a directory are unusable; nothing has been written.
        TrainingError: the loss is not finite.
        Stopped: a signal ended the run; a checkpoint holds its state.
    """
    given, asked = settings, resolve(settings)
    devices, note = chosen_devices(asked)
    on_gpu = devices.kind == "gpu"
    used = replace(asked, dtype=used_dtype(asked, on_gpu))
    setup = set_up(used, given_seed=given.seed, devices=devices, device_note=note)
    with _training_data(setup) as batches:
        validation = _validation_data(setup)
        _check_labels(setup, batches, validation)
        best, earlier_params = best_error(setup.settings, setup.paths.name)
        earlier = [f"best so far: {best} in {earlier_params}"] if earlier_params and not setup.checkpoint else []
        plan = RunPlan(
            learner=_learner_settings(setup, len(batches)),
            data=_facts(setup, batches),
            workers=setup.data_workers,
            facts=[*imagenet_facts(asked, setup.global_batch), *earlier],
            warnings=[*imagenet_warnings(asked, on_gpu), *_doubts(batches, validation)],
            batches=batches.epoch,
            pixels=batches.pixels,
            mixup_weights=lambda epoch: mixup_weights(setup.settings, epoch, len(batches)),
            validation=lambda: validation.batches,
            score=lambda network, images: _errors(network, images, validation.images, setup),
            book=lambda files: ImageNetBookkeeper(files, len(batches), earlier_params),
            fresh=RunState(setup.settings.resume_epoch, best),
        )
        state = train(setup, plan)
    return ImageNetRun(state.best, state.params or earlier_params, used.logging_file, setup.cluster.rank)


def _training_data(setup: Setup[ImageNetSettings]) -> ImageNetBatches:
    settings = setup.settings
    common: Dict[str, Any] = {
        "batch_size": setup.local_batch,
        "seed": settings.drawn_seed,
        "input_size": settings.input_size,
        "num_workers": setup.data_workers,
        "classes": settings.classes,
        "share": setup.share,
    }
    if settings.use_rec:
        return record_batches(settings.rec_train, settings.rec_train_idx, **common)
    return folder_batches(settings.data_dir, auto_augment=settings.auto_aug, **common)


def _validation_data(setup: Setup[ImageNetSettings]) -> ValidationData:
    settings = setup.settings
    common: Dict[str, Any] = {
        "input_size": settings.input_size,
        "batch_size": setup.local_batch,
        "num_workers": settings.num_workers,
        "crop_ratio": settings.used_crop_ratio,
        "share": setup.share,
    }
    if settings.use_rec:
        return record_validation(settings.rec_val, settings.rec_val_idx, **common)
    return folder_validation(settings.data_dir, **common)


def _facts(setup: Setup[ImageNetSettings], batches: ImageNetBatches) -> DataFacts:
    official = batches.images == IMAGENET_TRAINING_IMAGES
    known = batches.class_list
    ordered = known.ordered if known and known.whole else []
    return DataFacts(
        dataset="imagenet",
        official=official,
        label_values=batches.classes,
        outputs=setup.settings.classes,
        names=class_names("imagenet") if official else ordered,
    )


def _check_labels(setup: Setup[ImageNetSettings], batches: ImageNetBatches, validation: ValidationData) -> None:
    check_same_classes(batches.class_list, validation.class_list)
    classes, outputs = max(batches.classes, validation.classes), setup.settings.classes
    if classes > outputs:
        raise InputError(f"the data has {classes} classes and the network only {outputs} outputs: raise --classes")


def _doubts(batches: ImageNetBatches, validation: ValidationData) -> List[str]:
    unknown = not (batches.class_list and validation.class_list) and validation.classes < batches.classes
    doubt = (
        f"the training labels go up to {batches.classes - 1} and the validation labels only to "
        f"{validation.classes - 1}, and there is no .classes or .lst file next to both record files that names their "
        "classes: if a class was missing when the validation records were made, all labels after it are wrong; "
        "gluon-aff make-records labels both sets alike"
    )
    return [*batches.notes, *validation.notes, *([doubt] if unknown else [])]


def _learner_settings(setup: Setup[ImageNetSettings], steps_per_epoch: int) -> LearnerSettings:
    settings = setup.settings
    schedule = Schedule(
        settings.lr_mode,
        settings.lr,
        settings.warmup_epochs,
        settings.num_epochs,
        steps_per_epoch,
        cuts=tuple(settings.cuts),
        factor=settings.lr_decay,
    )
    return LearnerSettings(
        architecture=imagenet_architecture(settings),
        batch_shape=(settings.batch_size, 3, settings.input_size, settings.input_size),
        objective=Classification(settings.classes, settings.smoothing, settings.mixup, _distillation(settings)),
        optimizer=Optimizer(settings.optimizer, schedule, settings.wd, settings.momentum, settings.no_wd),
        seed=settings.drawn_seed,
        dtype=settings.dtype,
        amp=settings.amp,
        compiled=settings.hybrid,
        static=True,
        sync_bn=settings.sync_bn,
        start=_start(setup, steps_per_epoch),
    )


def _start(setup: Setup[ImageNetSettings], steps_per_epoch: int) -> Start:
    """Return what training starts from: random weights or the files of --resume-params and --resume-states.

    A checkpoint brings its own weights and states later.
    """
    settings = setup.settings
    if setup.checkpoint:
        return Start()
    updates = settings.resume_epoch * steps_per_epoch  # the schedule follows --resume-epoch, not the states' file
    return Start(settings.resume_params or None, states=settings.resume_states or None, updates=updates)


def _distillation(settings: ImageNetSettings) -> Optional[Distillation]:
    if not settings.teacher or settings.hard_weight >= 1:
        return None
    if not settings.teacher_params:
        raise InputError(f"--teacher {settings.teacher}: name its weights with --teacher-params")
    return Distillation(settings.teacher, settings.teacher_params, settings.temperature, settings.hard_weight)


def _errors(network: Network, batches: Iterable[Batch], images: int, setup: Setup[ImageNetSettings]) -> Errors:
    """Return the top-1 and top-5 error over the images of all workers; this worker's batches hold `images` of them."""
    figures = evaluate(network.infer, batches, setup.settings.classes, images)
    counts = [round(figures.top1 * figures.images), round(figures.top5 * figures.images), figures.images]
    top1, top5, count = setup.cluster.sum(counts)
    return 1 - top1 / count, 1 - top5 / count
