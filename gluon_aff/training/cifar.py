"""The original's CIFAR training run, from settings to files."""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import asdict, dataclass
from typing import List, Optional, Tuple

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import HybridBlock

from gluon_aff.data.autoaugment import cifar_augmenter
from gluon_aff.data.cifar import LabelledImages, load_cifar
from gluon_aff.data.loading import TrainBatches, usable_workers, validation_batches
from gluon_aff.errors import InputError, TrainingError
from gluon_aff.inspection.summary import count_layers, format_counts
from gluon_aff.networks.zoo import HOSTS, cifar_cardinality
from gluon_aff.training.cifar_options import CIFARSettings, notes, resolve, run_name
from gluon_aff.training.common import (
    SMOOTHING,
    exempt_from_decay,
    mixup_weights,
    network_to_validate,
    versions_line,
)
from gluon_aff.training.devices import training_contexts
from gluon_aff.training.logbook import (
    append_best_accuracy,
    check_directory,
    draw_curve,
    epoch_line,
    open_log,
    settings_line,
)
from gluon_aff.training.loop import Targets, copy_parameters, train_epoch, validate
from gluon_aff.training.schedule import decay_epochs, step_rate, warmup_schedule
from gluon_aff.weights import load_parameters, save_parameters


@dataclass(frozen=True)
class CIFARRun:
    """What a run left: best validation accuracy (0..1), and paths of weights (None if not saved), log and curve."""

    best_accuracy: float
    params: Optional[str]
    log: str
    curve: str


def build_network(settings: CIFARSettings) -> HybridBlock:
    """Network of resolved `settings`, not initialised."""
    return HOSTS[f"cifar_{settings.model}"](
        settings.askc_type,
        settings.blocks,
        settings.channel_times,
        settings.start_layer,
        settings.head_classes,
        deep_stem=settings.deep_stem,
    )


def summarise_cifar(settings: CIFARSettings) -> str:
    """Layers, parameters and multiply-adds of the network of `settings`."""
    net = build_network(resolve(settings))
    net.initialize()
    return format_counts(count_layers(net, 32), as_original=False)


def train_cifar(settings: CIFARSettings, contexts: Optional[List[mx.Context]] = None) -> CIFARRun:
    """Train as the original's `train_cifar.py` does.

    Args:
        settings: the command line's options.
        contexts: devices; those of `settings.gpus` if None.

    Raises:
        InputError: before anything is written, if the settings, the data, the weights or a directory are unusable.
        TrainingError: if the loss is not finite.
    """
    settings = resolve(settings)
    device_note = f"devices: {contexts}"
    if contexts is None:
        contexts, device_note = training_contexts(settings.gpus)
    training, validation = _load_data(settings)
    net = _initialised(settings, contexts)
    name = run_name(settings, cifar_cardinality(settings.channel_times))
    for path, flag in (
        (settings.save_dir, "--save-dir"),
        (settings.logging_dir, "--logging-dir"),
        (settings.save_plot_dir, "--save-plot-dir"),
        ("", "working directory"),
    ):
        check_directory(path, flag)
    global_batch = settings.batch_size * len(contexts)
    workers = usable_workers(settings.num_workers) if settings.auto_aug else 0  # crop and flip outrun any worker
    lines = [f"{device_note}; {workers} data workers", *notes(settings, global_batch)]
    if settings.auto_aug:
        lines.append(f"AutoAugment: {cifar_augmenter()[1]}'s")
    if not training.official:
        lines.append("data: not the official set (there is a SHA1SUMS file beside it)")
    print("\n".join(lines), file=sys.stderr)
    log_path = os.path.join(settings.logging_dir, f"train_{name}.log")
    with TrainBatches(training, global_batch, int(settings.seed or 0), settings.auto_aug, workers) as batches, open_log(
        log_path
    ) as log:
        log.info(settings_line(asdict(settings)))
        log.info(versions_line(contexts, global_batch, training.official, training.classes, settings.head_classes))
        return _run_epochs(net, settings, contexts, batches, validation, name, log_path, log)


def _load_data(settings: CIFARSettings) -> Tuple[LabelledImages, LabelledImages]:
    training, validation = (
        load_cifar(settings.dataset, train, settings.fine_label, settings.data_dir) for train in (True, False)
    )
    if settings.head_classes < training.classes:
        raise InputError(
            f"--classes {settings.head_classes} is too small for labels 0..{training.classes - 1} of {settings.dataset}"
        )
    return training, validation


def _initialised(settings: CIFARSettings, contexts: List[mx.Context]) -> HybridBlock:
    net = build_network(settings)
    mx.random.seed(settings.seed)
    initializer = mx.init.Xavier() if settings.init == "xavier" else mx.init.MSRAPrelu()
    net.initialize(initializer, ctx=contexts)
    if settings.resume_from:
        load_parameters(net, settings.resume_from, contexts, ignore_extra=True)
    net.hybridize(settings.mode == "hybrid")
    return net


def _make_trainer(net: HybridBlock, settings: CIFARSettings, steps_per_epoch: int) -> gluon.Trainer:
    rate = {"learning_rate": settings.lr}
    if settings.cosine:
        rate = {
            "lr_scheduler": warmup_schedule(
                "cosine", settings.lr, settings.warmup_epochs, settings.num_epochs, steps_per_epoch
            )
        }
        if settings.no_wd:
            exempt_from_decay(net)
    return gluon.Trainer(net.collect_params(), "nag", {**rate, "wd": settings.wd, "momentum": settings.momentum})


def _run_epochs(
    net: HybridBlock,
    settings: CIFARSettings,
    contexts: List[mx.Context],
    batches: TrainBatches,
    validation: LabelledImages,
    name: str,
    log_path: str,
    log: logging.Logger,
) -> CIFARRun:
    trainer = _make_trainer(net, settings, len(batches))
    cuts = decay_epochs(settings.lr_decay_epoch, settings.lr_decay_period, settings.num_epochs, settings.warmup_epochs)
    targets = Targets(settings.head_classes, SMOOTHING if settings.label_smoothing else 0.0, settings.mixup)
    curve = os.path.join(settings.save_plot_dir, f"{name}_history.png")
    validated = network_to_validate(lambda: build_network(settings), contexts, "float32", settings.mode == "hybrid")
    best, params = 0.0, None
    training_errors, validation_errors = [], []
    for epoch in range(settings.num_epochs):
        start = time.perf_counter()
        if not settings.cosine:
            trainer.set_learning_rate(step_rate(settings.lr, settings.lr_decay, cuts, epoch))
        weights = mixup_weights(settings, epoch, len(batches))
        try:
            metric, loss = train_epoch(net, trainer, batches.epoch(epoch), targets, weights, contexts, epoch)
        except TrainingError as error:
            raise TrainingError(f"{error}. Kept: {params or 'no weights yet'}, {log_path}") from None
        copy_parameters(net, validated)
        accuracy = validate(validated, validation_batches(validation, settings.batch_size * len(contexts)), contexts)
        if accuracy > best:
            best, params = accuracy, _save_best(net, settings, name, accuracy, params)
        seconds = time.perf_counter() - start
        log.info(epoch_line(epoch, metric, accuracy, loss, trainer.learning_rate, seconds))
        training_errors.append(metric if settings.mixup else 1 - metric)
        validation_errors.append(1 - accuracy)
        draw_curve(training_errors, validation_errors, curve)
    append_best_accuracy(settings.dataset, settings.gpus, best)
    return CIFARRun(best, params, log_path, curve)


def _save_best(
    net: HybridBlock, settings: CIFARSettings, name: str, accuracy: float, previous: Optional[str]
) -> Optional[str]:
    """Write `{save_dir}/{accuracy:.4f}-{name}-best.params`; return its path, None if the settings want none."""
    if not (settings.save_dir and settings.save_period):
        return None
    path = os.path.join(settings.save_dir, f"{accuracy:.4f}-{name}-best.params")
    save_parameters(net, path)
    if settings.keep_one_best and previous not in (None, path):
        os.remove(str(previous))
    return path
