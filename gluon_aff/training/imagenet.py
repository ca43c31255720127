"""The original's ImageNet training run, from settings to files."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import re
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import List, Optional, Tuple

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import HybridBlock

from gluon_aff.data.imagenet import ValidationData, folder_validation, record_validation
from gluon_aff.data.imagenet_training import ImageNetBatches, folder_batches, record_batches
from gluon_aff.data.loading import usable_workers
from gluon_aff.errors import InputError, TrainingError, last_line
from gluon_aff.evaluation.evaluate import evaluate
from gluon_aff.inspection.summary import count_layers, format_counts
from gluon_aff.networks.zoo import HOSTS, MODELS, get_model
from gluon_aff.training.common import SMOOTHING, exempt_from_decay, mixup_weights, network_to_validate, versions_line
from gluon_aff.training.devices import training_contexts
from gluon_aff.training.imagenet_options import (
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
    check_directory,
    open_log,
    settings_line,
    speed_line,
    training_line,
    validation_line,
)
from gluon_aff.training.loop import StepObserver, Targets, Teacher, copy_parameters, train_epoch
from gluon_aff.training.optimizer_states import load_states, save_states, set_updates
from gluon_aff.training.schedule import decay_epochs, warmup_schedule
from gluon_aff.weights import load_parameters, save_parameters

IMAGENET_TRAINING_IMAGES = 1_281_167


@dataclass(frozen=True)
class ImageNetRun:
    """What a run left: lowest top-1 error (0..1), paths of its weights (None if not saved) and of the log."""

    best_error: float
    params: Optional[str]
    log: str


def build_network(settings: ImageNetSettings) -> HybridBlock:
    """Network of resolved `settings`, not initialised."""
    own = {"last_gamma": settings.last_gamma} if settings.model == "resnet" else {"use_se": settings.use_se}
    return HOSTS[f"imagenet_{settings.model}"](
        settings.askc_type, settings.blocks, settings.start_layer, classes=settings.classes, r=settings.r, **own
    )


def summarise_imagenet(settings: ImageNetSettings) -> str:
    """Layers, parameters and multiply-adds of the network of `settings`."""
    settings = resolve(settings)
    net = build_network(settings)
    net.initialize()
    return format_counts(count_layers(net, settings.input_size), as_original=False)


def train_imagenet(settings: ImageNetSettings) -> ImageNetRun:
    """Train as the original's `train_imagenet.py` does.

    Raises:
        InputError: before anything is written, if the settings, the data, the weights or a directory are unusable.
        TrainingError: if the loss is not finite.
    """
    settings = resolve(settings)
    gpus = ",".join(map(str, range(settings.num_gpus)))
    contexts, device_note = training_contexts(gpus, settings.strict_devices)
    on_gpu = contexts[0].device_type == "gpu"
    dtype = used_dtype(settings, on_gpu)
    global_batch = settings.batch_size * len(contexts)
    for path, flag in ((settings.save_dir, "--save-dir"), (os.path.dirname(settings.logging_file), "--logging-file")):
        check_directory(path, flag)
    with _training_data(settings, global_batch) as batches:
        validation = _validation_data(settings, global_batch)
        _check_labels(settings, batches, validation)
        print("\n".join([device_note, *notes(settings, global_batch, on_gpu)]), file=sys.stderr)
        logged = replace(settings, dtype=dtype)
        settings = replace(settings, dtype=_network_dtype(dtype))
        if settings.dtype == "float16":
            os.environ.setdefault("MXNET_SAFE_ACCUMULATION", "1")  # sums in float32, as the original advises
        teacher = _teacher(settings, contexts)
        net, trainer = _start(settings, contexts, len(batches))
        with open_log(settings.logging_file, "%(message)s") as log:
            log.info(settings_line(asdict(logged)))
            official = batches.images == IMAGENET_TRAINING_IMAGES
            log.info(versions_line(contexts, global_batch, official, batches.classes, settings.classes))
            return _run_epochs(net, trainer, teacher, settings, contexts, batches, validation, log)


def _network_dtype(dtype: str) -> str:
    """Type of the parameters; for bfloat16 they stay float32, and MXNet casts within its operators from now on."""
    if dtype != "bfloat16":
        return dtype
    from mxnet.contrib import amp

    amp.init(target_dtype="bfloat16")
    return "float32"


def _training_data(settings: ImageNetSettings, global_batch: int) -> ImageNetBatches:
    workers = usable_workers(settings.num_workers)
    seed = int(settings.seed or 0)
    if settings.use_rec:
        return record_batches(
            settings.rec_train,
            settings.rec_train_idx,
            global_batch,
            seed,
            settings.input_size,
            workers,
            settings.classes,
        )
    return folder_batches(
        settings.data_dir, global_batch, seed, settings.input_size, settings.auto_aug, workers, settings.classes
    )


def _validation_data(settings: ImageNetSettings, batch_size: int) -> ValidationData:
    shape = (settings.input_size, batch_size, settings.num_workers, settings.crop_ratio)
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


def _start(settings: ImageNetSettings, contexts: List[mx.Context], steps: int) -> Tuple[HybridBlock, gluon.Trainer]:
    """Network and trainer, fresh or where a run stopped."""
    net = build_network(settings)
    net.cast(settings.dtype)
    mx.random.seed(settings.seed)
    net.initialize(mx.init.MSRAPrelu(), ctx=contexts)
    if settings.resume_params:
        load_parameters(net, settings.resume_params, contexts)
    _infer_shapes(net, settings, contexts)
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
    trainer = gluon.Trainer(net.collect_params(), "nag", options)
    if settings.resume_states:
        load_states(trainer, settings.resume_states)
    set_updates(trainer, settings.resume_epoch * steps)  # the schedule goes with the epochs, whatever the states say
    return net, trainer


def _infer_shapes(net: HybridBlock, settings: ImageNetSettings, contexts: List[mx.Context]) -> None:
    """Give all parameters their arrays, without a forward pass, which an image may be too small for."""
    side = settings.input_size
    try:
        net.infer_shape(mx.nd.zeros((settings.batch_size, 3, side, side), ctx=contexts[0], dtype=settings.dtype))
        for parameter in net.collect_params().values():
            parameter._finish_deferred_init()
    except (ValueError, mx.MXNetError):
        raise InputError(f"--input-size {side} is too small for this network: take 32 or more") from None


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


def _run_epochs(
    net: HybridBlock,
    trainer: gluon.Trainer,
    teacher: Optional[Teacher],
    settings: ImageNetSettings,
    contexts: List[mx.Context],
    batches: ImageNetBatches,
    validation: ValidationData,
    log: logging.Logger,
) -> ImageNetRun:
    smoothing = SMOOTHING if settings.label_smoothing else 0.0
    targets = Targets(settings.classes, smoothing, settings.mixup, settings.dtype, teacher)
    metric_name = "rmse" if settings.mixup else "accuracy"
    global_batch = settings.batch_size * len(contexts)
    validated = network_to_validate(lambda: build_network(settings), contexts, settings.dtype, settings.hybrid)
    best, params = best_error(settings)
    if params:
        print(f"best so far: {best} in {params}", file=sys.stderr)
    own_best: Optional[str] = None
    for epoch in range(settings.resume_epoch, settings.num_epochs):
        start = time.monotonic()
        weights = mixup_weights(settings, epoch, len(batches))
        observer = _speed_lines(log, settings.log_interval, global_batch, epoch, metric_name)
        try:
            metric, _ = train_epoch(net, trainer, batches.epoch(epoch), targets, weights, contexts, epoch, observer)
        except TrainingError as stop:
            raise TrainingError(f"{stop}. Kept: {params or 'no weights yet'}, {settings.logging_file}") from None
        trained = time.monotonic()
        log.info(training_line(epoch, metric_name, metric))
        last = epoch == settings.num_epochs - 1
        if last or (settings.save_frequency and (epoch + 1) % settings.save_frequency == 0):
            _save(net, trainer, settings, periodic_stem(settings, epoch))
        copy_parameters(net, validated)
        figures = evaluate(validated, validation.batches, contexts, settings.classes, validation.images)
        error = 1 - figures.top1
        speed = global_batch * len(batches) / (trained - start)
        log.info(speed_line(epoch, speed, time.monotonic() - start))
        log.info(validation_line(epoch, error, 1 - figures.top5))
        if error < best:
            previous, best = own_best, error
            params = own_best = _save(net, trainer, settings, best_stem(settings, error, epoch))
            if settings.keep_one_best and previous not in (None, params):
                _remove(str(previous))
    return ImageNetRun(best, params, settings.logging_file)


def _speed_lines(log: logging.Logger, interval: int, global_batch: int, epoch: int, metric_name: str) -> StepObserver:
    """Observer that logs a line every `interval` steps."""
    last = time.monotonic()

    def observe(step: int, metric: float, rate: float) -> None:
        nonlocal last
        if interval and (step + 1) % interval == 0:
            now = time.monotonic()
            log.info(batch_line(epoch, step, global_batch * interval / (now - last), metric_name, metric, rate))
            last = now

    return observe


def best_error(settings: ImageNetSettings) -> Tuple[float, Optional[str]]:
    """Lowest error, and its file, among the best weights of epochs before `resume_epoch`; 1 and None if none."""
    name = re.compile(rf"([01]\.\d{{4}})-imagenet-{re.escape(run_name(settings))}-(\d+)-best\.params")
    paths = glob.glob(os.path.join(glob.escape(settings.save_dir), "*-best.params"))
    named = ((name.fullmatch(os.path.basename(path)), path) for path in paths)
    earlier = ((float(found[1]), path) for found, path in named if found and int(found[2]) < settings.resume_epoch)
    return min(earlier, default=(1.0, None))


def _save(net: HybridBlock, trainer: gluon.Trainer, settings: ImageNetSettings, stem: str) -> Optional[str]:
    """Write `{stem}.params` and `.states`; return the first's path, None if the settings want none."""
    if not (settings.save_dir and settings.save_frequency):
        return None
    save_states(trainer, f"{stem}.states")  # first: weights without states would count as the best so far
    save_parameters(net, f"{stem}.params")
    return f"{stem}.params"


def _remove(params: str) -> None:
    for path in (params, f"{params[: -len('.params')]}.states"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
