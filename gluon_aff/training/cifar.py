"""The original's CIFAR training run, from settings to files."""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, List, Optional, Tuple

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import HybridBlock

from gluon_aff.data.autoaugment import cifar_augmenter
from gluon_aff.data.cifar import CIFAR_SIZE, LabelledImages, load_cifar
from gluon_aff.data.loading import Share, TrainBatches, usable_workers, validation_batches
from gluon_aff.distributed.cluster import Cluster, make_trainer
from gluon_aff.distributed.sync_bn import norm_arguments
from gluon_aff.errors import InputError, TrainingError
from gluon_aff.inspection.summary import count_layers, format_counts
from gluon_aff.networks.zoo import HOSTS, cifar_cardinality, get_model
from gluon_aff.training.checkpoint import Checkpoint, RunState, checkpoint_folder, restore, same_run
from gluon_aff.training.cifar_options import MAY_DIFFER, MODELS, CIFARSettings, notes, resolve, run_name
from gluon_aff.training.common import (
    SMOOTHING,
    exempt_from_decay,
    infer_shapes,
    mixup_weights,
    network_to_validate,
    reseed,
    save_best,
    versions_line,
)
from gluon_aff.training.devices import training_contexts
from gluon_aff.training.logbook import (
    append_best_accuracy,
    check_directory,
    draw_curve,
    epoch_line,
)
from gluon_aff.training.loop import NOT_BEGUN, Targets, Training, copy_parameters, train_epoch, validate
from gluon_aff.training.schedule import decay_epochs, step_rate, warmup_schedule
from gluon_aff.training.session import Session, begin, chosen_checkpoint, keep, meet, open_session
from gluon_aff.training.stopping import StopRequestedError, unless_stopped
from gluon_aff.weights import load_parameters


@dataclass(frozen=True)
class CIFARRun:
    """What a run left: best validation accuracy (0..1), and paths of weights (None if not saved), log and curve.

    Of several workers, 0 has written them; `rank` is this one's.
    """

    best_accuracy: float
    params: Optional[str]
    log: str
    curve: str
    rank: int = 0


def build_network(settings: CIFARSettings, **norm: Any) -> HybridBlock:
    """Network of resolved `settings`, not initialised; `norm`: the hosts' norm_layer and norm_kwargs."""
    if settings.named:
        if norm:
            raise InputError(f"--sync-bn goes with --model {', '.join(MODELS)}, not with {settings.model}")
        return get_model(settings.model, settings.head_classes)
    arguments: Dict[str, Any] = {"r": settings.r, "scale": settings.scale, "context": settings.context}
    if settings.model == "inception":
        arguments["inner"] = settings.inner
    else:
        arguments.update(start_layer=settings.start_layer, deep_stem=settings.deep_stem)
    if settings.model == "resnet":
        arguments["avg_down"] = settings.shortcut == "pool"
    given = {name: value for name, value in arguments.items() if value is not None}
    return HOSTS[f"cifar_{settings.model}"](
        settings.askc_type, settings.blocks, settings.channel_times, classes=settings.head_classes, **given, **norm
    )


def summarise_cifar(settings: CIFARSettings) -> str:
    """Layers, parameters and multiply-adds of the network of `settings`."""
    net = build_network(resolve(settings))
    net.initialize()
    return format_counts(count_layers(net, 32))


def train_cifar(settings: CIFARSettings, contexts: Optional[List[mx.Context]] = None) -> CIFARRun:
    """Train as the original's `train_cifar.py` does.

    Args:
        settings: the command line's options.
        contexts: devices; those of `settings.gpus` if None.

    Raises:
        InputError: before anything is written, if the settings, the data, the weights or a directory are unusable.
        TrainingError: if the loss is not finite.
        Stopped: if a signal ended it; what it did is in a checkpoint.
    """
    seed_given = settings.seed is not None
    settings = resolve(settings)
    device_note = f"devices: {contexts}"
    if contexts is None:
        contexts, device_note = training_contexts(settings.gpus)
    cluster, settings, contexts = meet(settings, contexts)
    devices = len(contexts) * cluster.size
    name = run_name(settings, cifar_cardinality(settings.channel_times))
    folder = checkpoint_folder(settings.save_dir, name) if _saves(settings) and settings.checkpoint_every else None
    checkpoint = chosen_checkpoint(settings.resume, folder, cluster)
    if checkpoint:
        settings = same_run(checkpoint, settings, devices, seed_given, MAY_DIFFER)
    training, validation = _load_data(settings)
    net = _initialised(settings, contexts, checkpoint)
    for path, flag in (
        (settings.save_dir, "--save-dir"),
        (settings.logging_dir, "--logging-dir"),
        (settings.save_plot_dir, "--save-plot-dir"),
        ("", "working directory"),
    ):
        check_directory(path, flag)
    global_batch = settings.batch_size * devices
    workers = usable_workers(settings.num_workers, cluster.local_size) if settings.auto_aug else 0  # else outrun
    lines = [f"{device_note}; {workers} data workers", *notes(settings, global_batch)]
    if settings.auto_aug:
        lines.append(f"AutoAugment: {cifar_augmenter()[1]}'s")
    if not training.official:
        lines.append("data: not the official set (there is a SHA1SUMS file beside it)")
    if settings.sync_bn and len(contexts) == 1:
        lines.append("--sync-bn has no effect on one device")
    if not cluster.rank:
        print("\n".join(lines), file=sys.stderr)
    log_path = os.path.join(settings.logging_dir, f"train_{name}.log")
    share = Share(cluster.rank, cluster.size)
    versions = versions_line(
        contexts, cluster.size, global_batch, training.official, training.classes, settings.head_classes
    )
    with TrainBatches(
        training, global_batch // cluster.size, int(settings.seed or 0), settings.auto_aug, workers, share
    ) as batches, open_session(
        folder, checkpoint, asdict(settings), devices, versions, log_path, logging.BASIC_FORMAT, cluster
    ) as session:
        trainer = _make_trainer(net, settings, len(batches), cluster)
        if checkpoint:
            restore(checkpoint, net, trainer, contexts)
        targets = Targets(settings.head_classes, SMOOTHING if settings.label_smoothing else 0.0, settings.mixup)
        learner = Training(net, trainer, targets, contexts, session.stop, cluster)
        return _run_epochs(learner, settings, batches, validation, name, session, checkpoint)


def _load_data(settings: CIFARSettings) -> Tuple[LabelledImages, LabelledImages]:
    training, validation = (
        load_cifar(settings.dataset, train, settings.fine_label, settings.data_dir) for train in (True, False)
    )
    if settings.head_classes < training.classes:
        raise InputError(
            f"--classes {settings.head_classes} is too small for labels 0..{training.classes - 1} of {settings.dataset}"
        )
    return training, validation


def _initialised(settings: CIFARSettings, contexts: List[mx.Context], checkpoint: Optional[Checkpoint]) -> HybridBlock:
    net = build_network(settings, **(norm_arguments(contexts) if settings.sync_bn else {}))
    mx.random.seed(settings.seed)
    initializer = mx.init.Xavier() if settings.init == "xavier" else mx.init.MSRAPrelu()
    net.initialize(initializer, ctx=contexts)
    if settings.resume_from and not checkpoint:
        load_parameters(net, settings.resume_from, contexts, ignore_extra=True)
    infer_shapes(net, (settings.batch_size, 3, CIFAR_SIZE, CIFAR_SIZE), contexts[0])
    net.hybridize(settings.mode == "hybrid")
    return net


def _make_trainer(net: HybridBlock, settings: CIFARSettings, steps_per_epoch: int, cluster: Cluster) -> gluon.Trainer:
    rate = {"learning_rate": settings.lr}
    if settings.cosine:
        rate = {
            "lr_scheduler": warmup_schedule(
                "cosine", settings.lr, settings.warmup_epochs, settings.num_epochs, steps_per_epoch
            )
        }
        if settings.no_wd:
            exempt_from_decay(net)
    return make_trainer(
        net.collect_params(), settings.optimizer, {**rate, "wd": settings.wd, "momentum": settings.momentum}, cluster
    )


def _run_epochs(
    training: Training,
    settings: CIFARSettings,
    batches: TrainBatches,
    validation: LabelledImages,
    name: str,
    session: Session,
    checkpoint: Optional[Checkpoint],
) -> CIFARRun:
    net, trainer, contexts, cluster = training.net, training.trainer, training.contexts, training.cluster
    share = Share(cluster.rank, cluster.size)
    cuts = decay_epochs(settings.lr_decay_epoch, settings.lr_decay_period, settings.num_epochs, settings.warmup_epochs)
    curve = os.path.join(settings.save_plot_dir, f"{name}_history.png")
    validated = network_to_validate(lambda: build_network(settings), contexts, "float32", settings.mode == "hybrid")
    state = checkpoint.state if checkpoint else RunState(0, best=0.0)
    if not checkpoint:
        begin(session, training, state)
    elif state.errors and not cluster.rank:
        draw_curve(state.errors, curve)
    for epoch in range(state.epoch, settings.num_epochs):
        reseed(int(settings.seed or 0), epoch)
        if not settings.cosine:
            trainer.set_learning_rate(step_rate(settings.lr, settings.lr_decay, cuts, epoch))
        weights = mixup_weights(settings, epoch, len(batches))
        try:
            begun = train_epoch(training, batches.epoch(epoch, state.begun.steps), weights, epoch, state.begun)
        except TrainingError as error:
            raise TrainingError(f"{error}. Kept: {state.params or 'no weights yet'}, {session.log.path}") from None
        state = replace(state, begun=begun)
        if begun.steps < len(batches):
            keep(session, training, state)
        start = time.perf_counter()
        copy_parameters(net, validated)
        images = validation_batches(validation, settings.batch_size * len(contexts), share)
        try:
            accuracy = validate(validated, unless_stopped(images, session.stop), contexts, cluster)
        except StopRequestedError:
            keep(session, training, state)
        if accuracy > state.best:
            params = None
            if _saves(settings) and not cluster.rank:
                superseded = state.params if settings.keep_one_best else None
                params = save_best(net, settings.save_dir, name, accuracy, superseded)
            state = replace(state, best=accuracy, params=params)
        seconds = begun.seconds + time.perf_counter() - start
        session.log.info(epoch_line(epoch, begun.metric, accuracy, begun.loss, trainer.learning_rate, seconds))
        errors = begun.metric if settings.mixup else 1 - begun.metric, 1 - accuracy
        state = replace(state, epoch=epoch + 1, begun=NOT_BEGUN, errors=(*state.errors, errors))
        keep(session, training, state)
        if cluster.rank:
            continue
        if state.epoch == settings.num_epochs:
            append_best_accuracy(settings.dataset, settings.gpus, state.best)
        draw_curve(state.errors, curve)
    return CIFARRun(state.best, state.params, session.log.path, curve, cluster.rank)


def _saves(settings: CIFARSettings) -> bool:
    return bool(settings.save_dir and settings.save_period)
