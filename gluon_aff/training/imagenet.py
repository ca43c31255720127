"""The original's ImageNet training run, from settings to files."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import sys
import time
from dataclasses import dataclass, replace
from typing import Any, List, Optional, Tuple

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import HybridBlock

from gluon_aff.data.imagenet import ValidationData, folder_validation, record_validation
from gluon_aff.data.imagenet_training import ImageNetBatches, folder_batches, record_batches
from gluon_aff.distributed.cluster import Cluster, make_trainer
from gluon_aff.errors import InputError, TrainingError, last_line
from gluon_aff.evaluation.evaluate import Evaluation, evaluate
from gluon_aff.files import check_directories
from gluon_aff.gluon.devices import contexts_of, find_devices
from gluon_aff.gluon.networks.zoo import build, get_model
from gluon_aff.inspection.summary import count_layers, format_counts, refusing_small_images
from gluon_aff.models import MODELS
from gluon_aff.training.architectures import imagenet_architecture
from gluon_aff.training.checkpoint import Checkpoint, RunState
from gluon_aff.training.common import (
    SMOOTHING,
    exempt_from_decay,
    infer_shapes,
    mixup_weights,
    network_to_validate,
)
from gluon_aff.training.imagenet_options import (
    MAY_DIFFER,
    ImageNetSettings,
    best_stem,
    notes,
    periodic_stem,
    resolve,
    run_name,
    used_dtype,
)
from gluon_aff.training.logbook import (
    batch_line,
    speed_line,
    training_line,
    validation_line,
)
from gluon_aff.training.loop import (
    NOT_BEGUN,
    StepObserver,
    Targets,
    Teacher,
    Training,
    copy_parameters,
    train_epoch,
)
from gluon_aff.training.optimizer_states import load_states, save_states
from gluon_aff.training.schedule import decay_epochs, warmup_schedule
from gluon_aff.training.session import Session, Setup, begin, keep, open_session, set_up
from gluon_aff.training.stopping import StopRequestedError, unless_stopped
from gluon_aff.training.trainer_states import set_updates
from gluon_aff.weights import load_parameters, save_parameters

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


def build_network(settings: ImageNetSettings, **norm: Any) -> HybridBlock:
    """Network of resolved `settings`, not initialised; `norm`: the hosts' norm_layer and norm_kwargs."""
    if norm and settings.named:
        raise InputError(f"--sync-bn goes with --model resnet and resnext, not with {settings.model}")
    return build(imagenet_architecture(settings), **norm)


def summarise_imagenet(settings: ImageNetSettings) -> str:
    """Layers, parameters and multiply-adds of the network of `settings`."""
    settings = resolve(settings)
    net = build_network(settings)
    net.initialize()
    return format_counts(count_layers(net, settings.input_size))


def train_imagenet(settings: ImageNetSettings) -> ImageNetRun:
    """Train as the original's `train_imagenet.py` does.

    Raises:
        InputError: before anything is written, if the settings, the data, the weights or a directory are unusable.
        TrainingError: if the loss is not finite.
        Stopped: if a signal ended it; what it did is in a checkpoint.
    """
    given, settings = settings, resolve(settings)
    gpus = ",".join(map(str, range(settings.num_gpus)))
    devices, device_note = find_devices(gpus, settings.strict_devices)
    contexts = contexts_of(devices)
    on_gpu = contexts[0].device_type == "gpu"
    used = replace(settings, dtype=used_dtype(settings, on_gpu))
    name = f"imagenet-{run_name(settings)}" if _saves(settings) else None
    setup = set_up(used, given.seed is not None, contexts, device_note, name, MAY_DIFFER)
    check_directories({"--save-dir": settings.save_dir, "--logging-file": os.path.dirname(settings.logging_file)})
    cluster = setup.cluster
    with _training_data(setup) as batches:
        validation = _validation_data(setup)
        _check_labels(settings, batches, validation)
        setup.announce(setup.data_workers, notes(settings, setup.global_batch, on_gpu))
        settings = replace(setup.settings, dtype=_network_dtype(used.dtype))
        if settings.dtype == "float16":
            os.environ.setdefault("MXNET_SAFE_ACCUMULATION", "1")  # sums in float32, as the original advises
        targets = _targets(settings, _teacher(settings, setup.contexts))
        net, trainer = _network_and_trainer(settings, setup, len(batches))
        official = batches.images == IMAGENET_TRAINING_IMAGES
        versions = setup.versions(official, batches.classes, settings.classes)
        with open_session(setup, versions, settings.logging_file, "%(message)s") as session:
            training = Training(net, trainer, targets, setup.contexts, session.stop, cluster)
            return _run_epochs(training, settings, batches, validation, session, setup.checkpoint)


def _network_dtype(dtype: str) -> str:
    """Type of the parameters; for bfloat16 they stay float32, and MXNet casts within its operators from now on."""
    if dtype != "bfloat16":
        return dtype
    from mxnet.contrib import amp

    amp.init(target_dtype="bfloat16")
    return "float32"


def _training_data(setup: Setup[ImageNetSettings]) -> ImageNetBatches:
    settings = setup.settings
    shape = (setup.local_batch, int(settings.seed or 0), settings.input_size)
    if settings.use_rec:
        files = (settings.rec_train, settings.rec_train_idx)
        return record_batches(*files, *shape, setup.data_workers, settings.classes, setup.share)
    return folder_batches(
        settings.data_dir, *shape, settings.auto_aug, setup.data_workers, settings.classes, setup.share
    )


def _validation_data(setup: Setup[ImageNetSettings]) -> ValidationData:
    settings = setup.settings
    shape = (settings.input_size, setup.local_batch, settings.num_workers, settings.crop_ratio, setup.share)
    if settings.use_rec:
        return record_validation(settings.rec_val, settings.rec_val_idx, *shape)
    return folder_validation(settings.data_dir, *shape)


def _check_labels(settings: ImageNetSettings, batches: ImageNetBatches, validation: ValidationData) -> None:
    if validation.folders and batches.folders != validation.folders:
        different = sorted(set(batches.folders) ^ set(validation.folders))
        raise InputError(
            f"{settings.data_dir}: train and val have different class folders ({', '.join(different[:5])}), so their "
            "labels would not be the same: add what is missing"
        )
    classes = max(batches.classes, validation.classes)
    if classes > settings.classes:
        raise InputError(f"the data has {classes} classes, and the network {settings.classes} outputs: raise --classes")


def _network_and_trainer(
    settings: ImageNetSettings, setup: Setup[ImageNetSettings], steps: int
) -> Tuple[HybridBlock, gluon.Trainer]:
    """Fresh, or as --resume-params and --resume-states have them, unless a checkpoint will."""
    contexts, checkpoint = setup.contexts, setup.checkpoint
    with mx.name.NameManager():  # names as in a fresh process: states are numbered in the names' order
        net = build_network(settings, **setup.norm(settings.dtype))
    net.cast(settings.dtype)
    mx.random.seed(settings.seed)
    net.initialize(mx.init.MSRAPrelu(), ctx=contexts)
    if settings.resume_params and not checkpoint:
        load_parameters(net, settings.resume_params, contexts)
    side = settings.input_size
    with refusing_small_images(side):
        infer_shapes(net, (settings.batch_size, 3, side, side), contexts[0], settings.dtype)
    net.hybridize(settings.hybrid, static_alloc=True, static_shape=True)
    if settings.no_wd:
        exempt_from_decay(net)
    cuts = decay_epochs(settings.lr_decay_epoch, settings.lr_decay_period, settings.num_epochs, settings.warmup_epochs)
    schedule = warmup_schedule(
        settings.lr_mode, settings.lr, settings.warmup_epochs, settings.num_epochs, steps, cuts, settings.lr_decay
    )
    options = {"lr_scheduler": schedule, "wd": settings.wd, "momentum": settings.momentum}
    if settings.dtype != "float32":
        options["multi_precision"] = True
    trainer = make_trainer(net.collect_params(), settings.optimizer, options, setup.cluster)
    if settings.resume_states and not checkpoint:
        load_states(trainer, settings.resume_states)
    set_updates(trainer, settings.resume_epoch * steps)  # the schedule goes with the epochs, whatever the states say
    return net, trainer


def _teacher(settings: ImageNetSettings, contexts: List[mx.Context]) -> Optional[Teacher]:
    if not settings.teacher:
        return None
    if not settings.teacher_params:
        raise InputError(f"--teacher {settings.teacher}: name its weights with --teacher-params")
    if settings.teacher.lower() in MODELS:
        net = get_model(settings.teacher, settings.classes)
    else:
        net = _gluoncv_network(settings.teacher, settings.classes)
    net.cast(settings.dtype)
    load_parameters(net, settings.teacher_params, contexts)
    net.hybridize(static_alloc=True)
    return Teacher(net, settings.temperature, settings.hard_weight)


def _gluoncv_network(name: str, classes: int) -> HybridBlock:
    from gluoncv.model_zoo import get_model as gluoncv_model

    try:
        return gluoncv_model(name, classes=classes, pretrained=False)
    except ValueError:
        raise InputError(f"--teacher {name}: neither GluonCV nor this package has a network of that name") from None
    # GluonCV's detectors and the like ask for other arguments, or for a backbone from the network
    except Exception as error:
        raise InputError(f"--teacher {name}: GluonCV cannot build it ({last_line(error)}); name a classifier") from None


def _targets(settings: ImageNetSettings, teacher: Optional[Teacher]) -> Targets:
    smoothing = SMOOTHING if settings.label_smoothing else 0.0
    return Targets(settings.classes, smoothing, settings.mixup, settings.dtype, teacher)


def _run_epochs(
    training: Training,
    settings: ImageNetSettings,
    batches: ImageNetBatches,
    validation: ValidationData,
    session: Session,
    checkpoint: Optional[Checkpoint],
) -> ImageNetRun:
    net, contexts, cluster, log = training.net, training.contexts, training.cluster, session.log
    global_batch = settings.batch_size * len(contexts) * cluster.size
    validated = network_to_validate(lambda: build_network(settings), contexts, settings.dtype, settings.hybrid)
    best, earlier_params = best_error(settings)
    if earlier_params and not checkpoint and not cluster.rank:
        print(f"best so far: {best} in {earlier_params}", file=sys.stderr)
    state = begin(session, training, checkpoint, RunState(settings.resume_epoch, best))
    for epoch in range(state.epoch, settings.num_epochs):
        weights = mixup_weights(settings, epoch, len(batches))
        done = state.begun.steps
        observer = _speed_lines(session, settings, global_batch, epoch, done)
        unseen = batches.epoch(epoch, done)
        try:
            begun = train_epoch(training, unseen, weights, epoch, state.begun, observer)
        except TrainingError as stop:
            kept = state.params or earlier_params or "no weights yet"
            raise TrainingError(f"{stop}. Kept: {kept}, {settings.logging_file}") from None
        if begun.steps < len(batches):
            keep(session, training, replace(state, begun=begun))
        start = time.monotonic()
        if begun.steps > done:  # else it was said before the run stopped while it validated
            log.info(training_line(epoch, _metric_name(settings), begun.metric))
        state = replace(state, begun=begun)
        if not cluster.rank and _periodic(settings, epoch):
            _save(net, training.trainer, settings, periodic_stem(settings, epoch))
        copy_parameters(net, validated)
        images = unless_stopped(validation.batches, session.stop)
        try:
            figures = evaluate(validated, images, contexts, settings.classes, validation.images)
        except StopRequestedError:
            keep(session, training, state)
        top1, top5 = _over_workers(figures, cluster)
        error = 1 - top1
        speed = global_batch * len(batches) / begun.seconds
        log.info(speed_line(epoch, speed, begun.seconds + time.monotonic() - start))
        log.info(validation_line(epoch, error, 1 - top5))
        if error < state.best:
            stem = best_stem(settings, error, epoch)
            params = None if cluster.rank else _save(net, training.trainer, settings, stem)
            if settings.keep_one_best and state.params not in (None, params):
                _remove(str(state.params))
            state = replace(state, best=error, params=params)
        state = replace(state, epoch=epoch + 1, begun=NOT_BEGUN)
        keep(session, training, state)
    return ImageNetRun(state.best, state.params or earlier_params, settings.logging_file, cluster.rank)


def _over_workers(figures: Evaluation, cluster: Cluster) -> Tuple[float, float]:
    """Top-1 and top-5 accuracy on the images of all workers."""
    counts = [round(figures.top1 * figures.images), round(figures.top5 * figures.images), figures.images]
    top1, top5, images = cluster.total(mx.nd.array(counts)).asnumpy().tolist()
    return top1 / images, top5 / images


def _periodic(settings: ImageNetSettings, epoch: int) -> bool:
    """Whether weights are written behind `epoch`, however good they are."""
    every = settings.save_frequency
    return epoch == settings.num_epochs - 1 or (every > 0 and (epoch + 1) % every == 0)


def _speed_lines(
    session: Session, settings: ImageNetSettings, global_batch: int, epoch: int, done: int
) -> StepObserver:
    """Observer that logs a line every `log_interval` steps, `done` of which came before."""
    interval, metric_name = settings.log_interval, _metric_name(settings)
    last, last_step = time.monotonic(), done - 1

    def observe(step: int, metric: float, rate: float) -> None:
        nonlocal last, last_step
        if interval and (step + 1) % interval == 0:
            now = time.monotonic()
            speed = global_batch * (step - last_step) / (now - last)
            session.log.info(batch_line(epoch, step, speed, metric_name, metric, rate))
            last, last_step = now, step

    return observe


def _metric_name(settings: ImageNetSettings) -> str:
    return "rmse" if settings.mixup else "accuracy"


def best_error(settings: ImageNetSettings) -> Tuple[float, Optional[str]]:
    """Lowest error, and its file, among the best weights of epochs before `resume_epoch`; 1 and None if none."""
    name = re.compile(rf"([01]\.\d{{4}})-imagenet-{re.escape(run_name(settings))}-(\d+)-best\.params")
    paths = glob.glob(os.path.join(glob.escape(settings.save_dir), "*-best.params"))
    named = ((name.fullmatch(os.path.basename(path)), path) for path in paths)
    earlier = ((float(found[1]), path) for found, path in named if found and int(found[2]) < settings.resume_epoch)
    return min(earlier, default=(1.0, None))


def _saves(settings: ImageNetSettings) -> bool:
    return bool(settings.save_dir and settings.save_frequency)


def _save(net: HybridBlock, trainer: gluon.Trainer, settings: ImageNetSettings, stem: str) -> Optional[str]:
    """Write `{stem}.params` and `.states`; return the first's path, None if the settings want none."""
    if not _saves(settings):
        return None
    save_states(trainer, f"{stem}.states")  # first: weights without states would count as the best so far
    save_parameters(net, f"{stem}.params")
    return f"{stem}.params"


def _remove(params: str) -> None:
    for path in (params, f"{params[: -len('.params')]}.states"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
