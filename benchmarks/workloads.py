"""The measured work in MXNet: training steps, inference, input pipeline."""

from __future__ import annotations

import time
from typing import Any, Callable

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from benchmarks.literal import literal, literal_batch
from benchmarks.measure import Measure
from gluon_aff.data.cifar.augmentation import augment_batch, draw_epoch, normalise
from gluon_aff.export.onnx_file import onnx_model
from gluon_aff.gluon.inference import fused
from gluon_aff.gluon.inspection.memory import random_images, step_of
from gluon_aff.gluon.network import GluonNetwork
from gluon_aff.gluon.networks.zoo import get_model
from gluon_aff.models import CIFAR_SIZE, model_record
from gluon_aff.weights.card import Card

BATCH = 128  # images in a batch of the input pipeline, the original's default
BATCHES = 4


def seconds(work: Callable[[], Any]) -> float:
    """Return the seconds that `work` takes, including the work of MXNet's threads."""
    start = time.perf_counter()
    work()
    mx.nd.waitall()
    return time.perf_counter() - start


def milliseconds(work: Callable[[], Any]) -> Measure:
    """Return a function that measures `work` in milliseconds."""
    return lambda: 1000 * seconds(work)


def network(model: str, formulation: str) -> HybridBlock:
    """Return the initialised network called `model`, in the 'literal' formulation or in 'ours'."""
    net = get_model(model, ctx=mx.cpu())
    return literal(net) if formulation == "literal" else net


def training_step(model: str, batch: int, formulation: str) -> Callable[[], None]:
    """Return a training step of `model`: forward, backward, update; hybridized as in the training on its data set."""
    record = model_record(model)
    return step_of(
        network(model, formulation), record.architecture(), random_images(batch, record.input_size, mx.cpu())
    )


def inference(model: str, batch: int, formulation: str) -> Callable[[], Any]:
    """Return a function that infers a batch.

    Args:
        model: name of the network.
        batch: number of images.
        formulation: 'literal' for the hybridized network of the original; 'ours' or 'exported' for inference as in
            `gluon-aff predict`, in MXNet or in ONNX Runtime.
    """
    record = model_record(model)
    images = random_images(batch, record.input_size, mx.cpu())
    net = network(model, formulation)
    if formulation == "literal":
        net.hybridize()
        return lambda: net(images)
    net(images)  # determines the shapes of all parameters
    if formulation == "exported":
        card = Card(model, record.input_size == CIFAR_SIZE, record.input_size, record.classes, "", None, None)
        infer, pixels = onnx_model(GluonNetwork(net, [mx.cpu()]), card).infer, images.asnumpy()
        return lambda: infer(pixels)
    in_one_go = fused(net)
    return lambda: in_one_go(images)


def pipeline(auto_augment: bool, formulation: str) -> Measure:
    """Return a function that measures how many images per second one process prepares for training on CIFAR."""
    total = BATCH * BATCHES
    # Pictures of 8 x 8 squares, since AutoAugment has less to do on noise, whose contrast is already at its maximum.
    squares = np.random.default_rng(0).integers(32, 224, (total, 8, 8, 3), dtype=np.uint8)
    pictures = squares.repeat(4, axis=1).repeat(4, axis=2)
    batches = np.arange(total).reshape(BATCHES, BATCH)
    draws = draw_epoch(seed=0, epoch=0, samples=total)

    def ours() -> None:
        for rows in batches:
            mx.nd.array(normalise(augment_batch(pictures[rows], draws.take(rows), auto_augment)))

    in_mxnet = mx.nd.array(pictures, dtype="uint8")  # as in Gluon's data sets

    def literally() -> None:
        for rows in batches:
            literal_batch(in_mxnet[rows[0] : rows[-1] + 1], draws.take(rows), auto_augment)

    work = literally if formulation == "literal" else ours
    return lambda: total / seconds(work)
