"""The paper's segmentation run, on StopSign, from settings to files."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from typing import Any, List, Optional

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.gluon import HybridBlock

from gluon_aff.data.mask_batches import MaskBatches
from gluon_aff.data.stop_signs import load_stop_signs
from gluon_aff.distributed.cluster import Cluster, make_trainer
from gluon_aff.files import check_directories
from gluon_aff.gluon.devices import contexts_of, find_devices
from gluon_aff.gluon.networks.zoo import build
from gluon_aff.inspection.summary import count_layers, format_counts
from gluon_aff.training.architectures import segmentation_architecture
from gluon_aff.training.common import infer_shapes, network_to_validate, reseeding
from gluon_aff.training.epochs import Plan, run_epochs
from gluon_aff.training.loop import Training
from gluon_aff.training.masks import Masks, iou_and_niou
from gluon_aff.training.schedule import warmup_schedule
from gluon_aff.training.segmentation_options import (
    MAY_DIFFER,
    SegmentationSettings,
    data_folder,
    notes,
    resolve,
    run_name,
)
from gluon_aff.training.session import Setup, open_session, set_up

POWER = 0.9


@dataclass(frozen=True)
class SegmentationRun:
    """What a run left: best validation IoU and nIoU (0..1), not always of one epoch, and paths of weights, log, curve.

    The weights are those of the best IoU, None if not saved. Of several workers, 0 has written the files; `rank` is
    this one's.
    """

    best_iou: float
    best_niou: float
    params: Optional[str]
    log: str
    curve: str
    rank: int = 0


def build_network(settings: SegmentationSettings, **norm: Any) -> HybridBlock:
    """Network of resolved `settings`, not initialised; `norm`: the host's norm_layer and norm_kwargs."""
    return build(segmentation_architecture(settings), **norm)


def summarise_segmentation(settings: SegmentationSettings) -> str:
    """Layers, parameters and multiply-adds of the network of `settings`."""
    net = build_network(resolve(settings))
    net.initialize()
    return format_counts(count_layers(net, settings.crop_size))


def train_segmentation(settings: SegmentationSettings, contexts: Optional[List[mx.Context]] = None) -> SegmentationRun:
    """Train on StopSign as the paper describes (Section 5.1, Table 2).

    Args:
        settings: the command line's options.
        contexts: devices; those of `settings.gpus` if None.

    Raises:
        InputError: before anything is written, if the settings, the data or a directory are unusable.
        TrainingError: if the loss is not finite.
        Stopped: if a signal ended it; what it did is in a checkpoint.
    """
    given, settings = settings, resolve(settings)
    name = run_name(settings)
    found, note = find_devices(settings.gpus)
    devices = (contexts, f"devices: {contexts}") if contexts is not None else (contexts_of(found), note)
    setup = set_up(settings, given.seed is not None, *devices, name if settings.save_dir else None, MAY_DIFFER)
    settings, cluster = setup.settings, setup.cluster
    net = _initialised(settings, setup)
    if not cluster.rank:
        print(f"reading the annotations in {data_folder(settings)}", file=sys.stderr)  # COCO's take a while
    training, validation = (load_stop_signs(data_folder(settings), train, settings.min_area) for train in (True, False))
    places = {"--save-dir": settings.save_dir, "--logging-dir": settings.logging_dir}
    check_directories({**places, "--save-plot-dir": settings.save_plot_dir})
    setup.announce(setup.data_workers, notes(settings, (len(training), len(validation)), setup.global_batch))
    versions = setup.versions(training.official, 2, 1)
    log = os.path.join(settings.logging_dir, f"train_{name}.log")
    sizes, seed = (settings.base_size, settings.crop_size), int(settings.seed or 0)
    with MaskBatches(
        training, validation, setup.local_batch, *sizes, seed, setup.data_workers, setup.share
    ) as batches, open_session(setup, versions, log, logging.BASIC_FORMAT) as session:
        plan = Plan(
            epochs=settings.num_epochs,
            batches=lambda epoch, first: reseeding(batches.epoch(epoch, first), seed, epoch, first),
            mixup_weights=lambda epoch: np.ones(len(batches)),
            validated=network_to_validate(lambda: build_network(settings), setup.contexts, "float32", hybridize=True),
            validation=batches.validation,
            score=lambda net, images: iou_and_niou(net, images, setup.contexts, cluster),
            name=name,
            curve=os.path.join(settings.save_plot_dir, f"{name}_history.png"),
            save_dir=settings.save_dir,
            keep_one_best=settings.keep_one_best,
        )
        trainer = _make_trainer(net, settings, len(batches), cluster)
        training_run = Training(net, trainer, Masks(), setup.contexts, session.stop, cluster)
        state = run_epochs(training_run, plan, session, setup.checkpoint)
    return SegmentationRun(state.best, state.best_niou, state.params, session.log.path, plan.curve, cluster.rank)


def _initialised(settings: SegmentationSettings, setup: Setup[SegmentationSettings]) -> HybridBlock:
    net = build_network(settings, **setup.norm())
    mx.random.seed(settings.seed)
    net.initialize(mx.init.MSRAPrelu(), ctx=setup.contexts)
    infer_shapes(net, (settings.batch_size, 3, settings.crop_size, settings.crop_size), setup.contexts[0])
    net.hybridize()
    return net


def _make_trainer(
    net: HybridBlock, settings: SegmentationSettings, steps_per_epoch: int, cluster: Cluster
) -> gluon.Trainer:
    rate = {"learning_rate": settings.lr}
    if settings.lr_mode == "poly":
        schedule = warmup_schedule("poly", settings.lr, 0, settings.num_epochs, steps_per_epoch, power=POWER)
        rate = {"lr_scheduler": schedule}
    return make_trainer(net.collect_params(), "adagrad", {**rate, "wd": settings.wd}, cluster)
