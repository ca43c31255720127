"""Report which MXNet is installed, and test whether it trains."""

from __future__ import annotations

import time
from typing import Any, Dict

import mxnet as mx

from gluon_aff.engines import Devices
from gluon_aff.gluon.devices import contexts_of


def about() -> Dict[str, Any]:
    """Describe the installed MXNet, as `gluon_aff.engines.MXNetEngine.about` says."""
    features = [feature.name for feature in mx.runtime.Features().values() if feature.enabled]
    return {"version": mx.__version__, "features": features, "library": mx.libinfo.find_lib_path()[0]}


def try_step(devices: Devices) -> Dict[str, float]:
    """Train a small network for one step, as `gluon_aff.engines.Engine.try_step` says."""
    context = contexts_of(devices)[0]
    start = time.perf_counter()
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(4, 3, activation="relu"), mx.gluon.nn.Dense(2))
    net.initialize(mx.init.Constant(0.1), ctx=context)
    trainer = mx.gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.001, "momentum": 0.9})
    images = mx.nd.arange(2 * 3 * 8 * 8, ctx=context).reshape((2, 3, 8, 8)) / 384
    labels = mx.nd.array([0, 1], ctx=context)
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    with mx.autograd.record():
        before = loss(net(images), labels).mean()
    before.backward()
    trainer.step(1)
    after = loss(net(images), labels).mean().asscalar()
    return {"before": float(before.asscalar()), "after": float(after), "seconds": time.perf_counter() - start}
