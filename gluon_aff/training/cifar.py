"""The original's CIFAR training run, from settings to files."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, List, Optional, Tuple

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import HybridBlock

from gluon_aff.data.autoaugment import cifar_augmenter
from gluon_aff.data.cifar import LabelledImages, load_cifar
from gluon_aff.data.loading import TrainBatches, validation_batches
from gluon_aff.distributed.cluster import Cluster, make_trainer
from gluon_aff.errors import InputError
from gluon_aff.files import check_directories
from gluon_aff.gluon.devices import contexts_of, find_devices
from gluon_aff.gluon.networks.zoo import build
from gluon_aff.inspection.summary import count_layers, format_counts
from gluon_aff.models import CIFAR_HOSTS, CIFAR_SIZE
from gluon_aff.training.architectures import cifar_architecture
from gluon_aff.training.cifar_options import MAY_DIFFER, CIFARSettings, notes, resolve, run_name
from gluon_aff.training.common import (
    SMOOTHING,
    exempt_from_decay,
    infer_shapes,
    mixup_weights,
    network_to_validate,
)
from gluon_aff.training.epochs import Plan, run_epochs
from gluon_aff.training.logbook import append_best_accuracy
from gluon_aff.training.loop import Targets, Training, validate
from gluon_aff.training.schedule import decay_epochs, step_rate, warmup_schedule
from gluon_aff.training.session import Setup, open_session, set_up
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
    if norm and settings.named:
        raise InputError(f"--sync-bn goes with --model {', '.join(CIFAR_HOSTS)}, not with {settings.model}")
    return build(cifar_architecture(settings), **norm)


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
    given, settings = settings, resolve(settings)
    name = run_name(settings)
    save_dir = settings.save_dir if settings.save_period else ""
    found, note = find_devices(settings.gpus)
    devices = (contexts, f"devices: {contexts}") if contexts is not None else (contexts_of(found), note)
    setup = set_up(settings, given.seed is not None, *devices, name if save_dir else None, MAY_DIFFER)
    settings, cluster = setup.settings, setup.cluster
    training, validation = _load_data(settings)
    net = _initialised(settings, setup)
    places = {"--save-dir": settings.save_dir, "--logging-dir": settings.logging_dir}
    check_directories({**places, "--save-plot-dir": settings.save_plot_dir, "working directory": ""})
    workers = setup.data_workers if settings.auto_aug else 0  # else outrun
    setup.announce(workers, [*notes(settings, setup.global_batch), *_data_notes(settings, training)])
    versions = setup.versions(training.official, training.classes, settings.head_classes)
    log = os.path.join(settings.logging_dir, f"train_{name}.log")
    seed = int(settings.seed or 0)
    with TrainBatches(
        training, setup.local_batch, seed, settings.auto_aug, workers, setup.share
    ) as batches, open_session(setup, versions, log, logging.BASIC_FORMAT) as session:
        trainer = _make_trainer(net, settings, len(batches), cluster)
        targets = Targets(settings.head_classes, SMOOTHING if settings.label_smoothing else 0.0, settings.mixup)
        hybrid = settings.mode == "hybrid"
        plan = Plan(
            epochs=settings.num_epochs,
            batches=batches.epoch,
            mixup_weights=lambda epoch: mixup_weights(settings, epoch, len(batches)),
            validated=network_to_validate(lambda: build_network(settings), setup.contexts, "float32", hybrid),
            validation=lambda: validation_batches(validation, setup.local_batch, setup.share),
            score=lambda net, images: (validate(net, images, setup.contexts, cluster), None),
            name=name,
            curve=os.path.join(settings.save_plot_dir, f"{name}_history.png"),
            save_dir=save_dir,
            keep_one_best=settings.keep_one_best,
            rate=None if settings.cosine else _rate(settings),
        )
        training_run = Training(net, trainer, targets, setup.contexts, session.stop, cluster)
        state = run_epochs(training_run, plan, session, setup.checkpoint)
        if not cluster.rank and not (setup.checkpoint and setup.checkpoint.finished):
            append_best_accuracy(settings.dataset, settings.gpus, state.best)
    return CIFARRun(state.best, state.params, session.log.path, plan.curve, cluster.rank)


def _data_notes(settings: CIFARSettings, training: LabelledImages) -> List[str]:
    said_if = {
        f"AutoAugment: {cifar_augmenter()[1]}'s": settings.auto_aug,
        "data: not the official set (there is a SHA1SUMS file beside it)": not training.official,
    }
    return [line for line, said in said_if.items() if said]


def _load_data(settings: CIFARSettings) -> Tuple[LabelledImages, LabelledImages]:
    training, validation = (
        load_cifar(settings.dataset, train, settings.fine_label, settings.data_dir) for train in (True, False)
    )
    if settings.head_classes < training.classes:
        raise InputError(
            f"--classes {settings.head_classes} is too small for labels 0..{training.classes - 1} of {settings.dataset}"
        )
    return training, validation


def _initialised(settings: CIFARSettings, setup: Setup[CIFARSettings]) -> HybridBlock:
    net = build_network(settings, **setup.norm())
    mx.random.seed(settings.seed)
    initializer = mx.init.Xavier() if settings.init == "xavier" else mx.init.MSRAPrelu()
    net.initialize(initializer, ctx=setup.contexts)
    if settings.resume_from and not setup.checkpoint:
        load_parameters(net, settings.resume_from, setup.contexts, ignore_extra=True)
    infer_shapes(net, (settings.batch_size, 3, CIFAR_SIZE, CIFAR_SIZE), setup.contexts[0])
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


def _rate(settings: CIFARSettings) -> Callable[[int], float]:
    cuts = decay_epochs(settings.lr_decay_epoch, settings.lr_decay_period, settings.num_epochs, settings.warmup_epochs)
    return partial(step_rate, settings.lr, settings.lr_decay, cuts)
