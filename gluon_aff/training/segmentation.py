"""The paper's segmentation run, on StopSign, from settings to files."""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, List, Optional

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.gluon import HybridBlock

from gluon_aff.data.loading import Share, usable_workers
from gluon_aff.data.mask_batches import MaskBatches
from gluon_aff.data.stop_signs import load_stop_signs
from gluon_aff.distributed.cluster import Cluster, make_trainer
from gluon_aff.distributed.sync_bn import norm_arguments
from gluon_aff.errors import TrainingError
from gluon_aff.inspection.summary import count_layers, format_counts
from gluon_aff.networks.zoo import HOSTS, SEGMENTATION_HOST
from gluon_aff.training.checkpoint import Checkpoint, RunState, checkpoint_folder, restore, same_run
from gluon_aff.training.common import (
    infer_shapes,
    network_to_validate,
    reseeding,
    save_best,
    versions_line,
)
from gluon_aff.training.devices import training_contexts
from gluon_aff.training.logbook import check_directory, draw_curve, epoch_line
from gluon_aff.training.loop import NOT_BEGUN, Training, copy_parameters, train_epoch
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
from gluon_aff.training.session import Session, begin, chosen_checkpoint, keep, meet, open_session
from gluon_aff.training.stopping import StopRequestedError, unless_stopped

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
    return HOSTS[SEGMENTATION_HOST](
        settings.askc_type,
        settings.blocks,
        settings.channel_times,
        r=settings.r,
        scale=settings.scale,
        context=settings.context,
        decoder_width=settings.decoder_width,
        fuse_order=settings.fuse_order,
        stem=settings.stem,
        **norm,
    )


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
    seed_given = settings.seed is not None
    settings = resolve(settings)
    device_note = f"devices: {contexts}"
    if contexts is None:
        contexts, device_note = training_contexts(settings.gpus)
    cluster, settings, contexts = meet(settings, contexts)
    devices = len(contexts) * cluster.size
    name = run_name(settings)
    folder = checkpoint_folder(settings.save_dir, name) if settings.save_dir and settings.checkpoint_every else None
    checkpoint = chosen_checkpoint(settings.resume, folder, cluster)
    if checkpoint:
        settings = same_run(checkpoint, settings, devices, seed_given, MAY_DIFFER)
    net = _initialised(settings, contexts)
    if not cluster.rank:
        print(f"reading the annotations in {data_folder(settings)}", file=sys.stderr)  # COCO's take a while
    training, validation = (load_stop_signs(data_folder(settings), train, settings.min_area) for train in (True, False))
    for path, flag in (
        (settings.save_dir, "--save-dir"),
        (settings.logging_dir, "--logging-dir"),
        (settings.save_plot_dir, "--save-plot-dir"),
    ):
        check_directory(path, flag)
    global_batch = settings.batch_size * devices
    workers = usable_workers(settings.num_workers, cluster.local_size)
    if not cluster.rank:
        lines = notes(settings, (len(training), len(validation)), global_batch)
        if settings.sync_bn and len(contexts) == 1:
            lines.append("--sync-bn has no effect on one device")
        print("\n".join([f"{device_note}; {workers} data workers", *lines]), file=sys.stderr)
    with MaskBatches(
        training,
        validation,
        global_batch // cluster.size,
        settings.base_size,
        settings.crop_size,
        int(settings.seed or 0),
        workers,
        Share(cluster.rank, cluster.size),
    ) as batches, open_session(
        folder,
        checkpoint,
        asdict(settings),
        devices,
        versions_line(contexts, cluster.size, global_batch, training.official, 2, 1),
        os.path.join(settings.logging_dir, f"train_{name}.log"),
        logging.BASIC_FORMAT,
        cluster,
    ) as session:
        trainer = _make_trainer(net, settings, len(batches), cluster)
        if checkpoint:
            restore(checkpoint, net, trainer, contexts)
        learner = Training(net, trainer, Masks(), contexts, session.stop, cluster)
        return _run_epochs(learner, settings, batches, name, session, checkpoint)


def _initialised(settings: SegmentationSettings, contexts: List[mx.Context]) -> HybridBlock:
    net = build_network(settings, **(norm_arguments(contexts) if settings.sync_bn else {}))
    mx.random.seed(settings.seed)
    net.initialize(mx.init.MSRAPrelu(), ctx=contexts)
    infer_shapes(net, (settings.batch_size, 3, settings.crop_size, settings.crop_size), contexts[0])
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


def _run_epochs(
    training: Training,
    settings: SegmentationSettings,
    batches: MaskBatches,
    name: str,
    session: Session,
    checkpoint: Optional[Checkpoint],
) -> SegmentationRun:
    net, contexts, cluster = training.net, training.contexts, training.cluster
    curve = os.path.join(settings.save_plot_dir, f"{name}_history.png")
    validated = network_to_validate(lambda: build_network(settings), contexts, "float32", hybridize=True)
    state = checkpoint.state if checkpoint else RunState(0, best=0.0)
    if not checkpoint:
        begin(session, training, state)
    elif state.errors and not cluster.rank:
        draw_curve(state.errors, curve)
    for epoch in range(state.epoch, settings.num_epochs):
        unseen = batches.epoch(epoch, state.begun.steps)
        seeded = reseeding(unseen, int(settings.seed or 0), epoch, state.begun.steps)
        try:
            begun = train_epoch(training, seeded, np.ones(len(batches)), epoch, state.begun)
        except TrainingError as error:
            raise TrainingError(f"{error}. Kept: {state.params or 'no weights yet'}, {session.log.path}") from None
        state = replace(state, begun=begun)
        if begun.steps < len(batches):
            keep(session, training, state)
        start = time.perf_counter()
        copy_parameters(net, validated)
        try:
            iou, niou = iou_and_niou(validated, unless_stopped(batches.validation(), session.stop), contexts, cluster)
        except StopRequestedError:
            keep(session, training, state)
        if iou > state.best:
            params = None
            if settings.save_dir and not cluster.rank:
                params = save_best(net, settings.save_dir, name, iou, state.params if settings.keep_one_best else None)
            state = replace(state, best=iou, params=params)
        seconds = begun.seconds + time.perf_counter() - start
        rate = training.trainer.learning_rate
        session.log.info(epoch_line(epoch, begun.metric, iou, begun.loss, rate, seconds, niou))
        state = replace(
            state,
            epoch=epoch + 1,
            begun=NOT_BEGUN,
            best_niou=max(niou, state.best_niou),
            errors=(*state.errors, (1 - begun.metric, 1 - iou)),
        )
        keep(session, training, state)
        if not cluster.rank:
            draw_curve(state.errors, curve)
    return SegmentationRun(state.best, state.best_niou, state.params, session.log.path, curve, cluster.rank)
