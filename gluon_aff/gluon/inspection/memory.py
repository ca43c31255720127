"""Measure the memory that training and inference take."""

from __future__ import annotations

from typing import Callable, Dict

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import HybridBlock

from gluon_aff.engines import Devices
from gluon_aff.gluon.devices import contexts_of
from gluon_aff.gluon.networks.zoo import build
from gluon_aff.machine.resources import MIB, peak_memory
from gluon_aff.models import CIFAR_SIZE, Architecture

STEPS = 2  # from the second step on, the optimizer's state exists while gradients are computed


def measure(architecture: Architecture, batch: int, training: bool, devices: Devices) -> Dict[str, object]:
    """Measure memory as `gluon_aff.engines.Engine.measure_memory` says.

    A GPU's peak is what all processes hold there at the end, because MXNet gives no memory back and reports nothing
    else.
    """
    context = contexts_of(devices)[0]
    images = random_images(batch, architecture.input_size, context)
    mx.nd.waitall()
    before = _held(context)
    net = build(architecture)
    net.initialize(mx.init.Xavier(), ctx=context)
    if training:
        take = step_of(net, architecture, images)
    else:
        net.hybridize(static_alloc=True)  # as gluon-aff evaluate does

        def take() -> None:
            net(images)

    for _ in range(STEPS):
        take()
        mx.nd.waitall()
    of = "a process" if context.device_type == "cpu" else "all processes"
    return {"device": str(context), "of": of, "before": before, "peak": _held(context)}


def random_images(batch: int, size: int, context: mx.Context) -> mx.nd.NDArray:
    """Return random images with mean 0 and variance 1, (batch, 3, size, size)."""
    values = np.random.default_rng(0).standard_normal((batch, 3, size, size), dtype=np.float32)
    return mx.nd.array(values, ctx=context)


def step_of(net: HybridBlock, architecture: Architecture, images: mx.nd.NDArray) -> Callable[[], None]:
    """Return a function that trains `net`, initialised, for a step on `images`.

    It is hybridized as in the training on its data set.
    """
    static = {} if architecture.input_size == CIFAR_SIZE else {"static_alloc": True, "static_shape": True}
    net.hybridize(**static)
    return step(net, images, mx.nd.arange(len(images), ctx=images.context) % architecture.settings["classes"])


def step(net: HybridBlock, images: mx.nd.NDArray, labels: mx.nd.NDArray) -> Callable[[], None]:
    """Return a function that trains `net`, initialised, for a step with the optimizer of the published runs."""
    loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.01, "momentum": 0.9, "wd": 1e-4})

    def take() -> None:
        with autograd.record():
            loss = loss_function(net(images), labels)
        loss.backward()
        trainer.step(len(images))

    return take


def _held(context: mx.Context) -> float:
    if context.device_type == "cpu":
        return peak_memory()
    free, total = mx.context.gpu_memory_info(context.device_id)
    return (total - free) / MIB
