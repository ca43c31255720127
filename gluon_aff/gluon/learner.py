"""Train networks with MXNet (`gluon_aff.engines.Learner`)."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Callable, Dict, List, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.contrib import amp
from mxnet.gluon import HybridBlock, nn

from gluon_aff.engines import Devices, LearnerSettings, LearnerState, Network, Optimizer, StepFigures
from gluon_aff.errors import InputError
from gluon_aff.gluon.cluster import Cluster, average_running_statistics, make_trainer
from gluon_aff.gluon.devices import contexts_of, load_slices
from gluon_aff.gluon.inspection.summary import refusing_small_images
from gluon_aff.gluon.network import GluonNetwork
from gluon_aff.gluon.networks.zoo import build
from gluon_aff.gluon.objectives import Task, task_of
from gluon_aff.gluon.optimizer_states import load_states, save_states
from gluon_aff.gluon.parameters import load_arrays, load_parameters, parameter_arrays
from gluon_aff.gluon.schedule import Scheduler
from gluon_aff.gluon.sync_bn import norm_arguments
from gluon_aff.gluon.trainer_states import set_state_arrays, set_updates, state_arrays
from gluon_aff.schedule import Schedule

INITIALIZERS = {"xavier": mx.init.Xavier, "msraprelu": mx.init.MSRAPrelu}
SMALLEST_SCALE = 32  # no network divides height and width by more


def learner(settings: LearnerSettings, devices: Devices, cluster: Cluster) -> GluonLearner:
    """Build a network to train.

    Raises:
        InputError: the settings contradict each other, or a file cannot be used.
    """
    if settings.amp == "float16":
        raise InputError("--amp float16: MXNet has float16 only as --dtype of ImageNet runs; take --engine torch")
    settings = replace(settings, dtype=settings.amp or settings.dtype)
    if settings.dtype == "bfloat16" and devices.kind == "gpu":
        raise InputError("MXNet has bfloat16 on CPUs only: take --dtype float16 on a GPU, --engine torch, or the CPU")
    if settings.dtype == "float16":
        os.environ.setdefault("MXNET_SAFE_ACCUMULATION", "1")  # sums in float32, as the original advises
    if settings.dtype == "float64" and cluster.size > 1:
        raise InputError("--dtype float64: several workers exchange float32 and float16 only; train in one process")
    dtype = _network_dtype(settings.dtype)
    contexts = contexts_of(devices)
    task = task_of(settings, dtype, contexts)
    net = _initialised(settings, dtype, contexts)
    trainer = _make_trainer(net, settings.optimizer, dtype, cluster)
    if settings.start.states:
        load_states(trainer, settings.start.states)
    if settings.start.updates is not None:
        set_updates(trainer, settings.start.updates)
    return GluonLearner(net, trainer, task, contexts, cluster, _network_to_validate(settings, dtype, contexts))


class GluonLearner:
    """Train a network on the devices of this process.

    Args:
        net: initialised network whose shapes are known.
        trainer: trainer of its parameters.
        task: targets, loss and metric.
        contexts: devices. Each takes an equal slice of a batch and applies mixup within it, as in the original.
        cluster: the workers. Each has its share of every batch, and figures are means over them.
        validation_net: the same network for validation, which gets the parameters of `net`. `net` itself never infers:
            on CPUs, oneDNN would reorder its weights, which would randomly change the rounding of later updates.
    """

    notes: Sequence[str] = ()
    takes_pixels = False

    def __init__(
        self,
        net: HybridBlock,
        trainer: gluon.Trainer,
        task: Task,
        contexts: List[mx.Context],
        cluster: Cluster,
        validation_net: HybridBlock,
    ) -> None:
        self.net = net
        self.trainer = trainer
        self.task = task
        self.contexts = contexts
        self._cluster = cluster
        self.validation_net = validation_net
        self._loss = task.loss_function()

    @property
    def learning_rate(self) -> float:
        """Return the learning rate of the last step."""
        return float(self.trainer.learning_rate)

    def set_learning_rate(self, rate: float) -> None:
        """Train with the learning rate `rate` from now on; not allowed if there is a schedule."""
        self.trainer.set_learning_rate(rate)

    def seed(self, seed: int) -> None:
        """Seed MXNet's random numbers, which dropout draws from."""
        mx.random.seed(seed)

    def step(
        self, images: np.ndarray, labels: np.ndarray, mixup_weight: float, asked_to_stop: bool
    ) -> Callable[[], StepFigures]:
        """Update the weights once, and return a function that waits for the figures."""
        losses, figures = [], []
        for x, y in zip(*(load_slices(array, self.contexts) for array in (images, labels))):
            x, target = self.task.pair(x, y, mixup_weight)
            with autograd.record():
                output = self.net(x)
                loss = self._loss(output, target, x)
            losses.append(loss)
            output, target, loss = (array.astype("float32", copy=False) for array in (output, target, loss))
            metric = self.task.metric(output, target, y)
            figures.append(mx.nd.concat(metric, loss.mean(), dim=0).as_in_context(mx.cpu()))
        autograd.backward(losses)
        self.trainer.step(len(images) * self._cluster.size)
        mean = mx.nd.add_n(*figures) / len(figures)
        sums = self._cluster.total(mx.nd.concat(mean, mx.nd.array([asked_to_stop]), dim=0))
        return lambda: _figures(sums.asnumpy() / self._cluster.size)

    def end_epoch(self) -> bool:
        """Give all workers the mean of their running statistics, and return whether all weights are finite."""
        arrays = [parameter.list_data()[0] for parameter in self.net.collect_params().values()]
        finite = mx.nd.concat(*(mx.nd.all_finite(array) for array in arrays), dim=0).min().asscalar()
        average_running_statistics(self.net, self._cluster)
        return bool(finite)

    def validated(self) -> Network:
        """Return a network for validation that has the current parameters."""
        copy_parameters(self.net, self.validation_net)
        return GluonNetwork(self.validation_net, self.contexts)

    def parameters(self) -> Dict[str, np.ndarray]:
        """Return the current parameters by name, averaged over the devices."""
        mx.nd.waitall()  # with static memory, MXNet does not wait for running statistics that are being computed
        return parameter_arrays(self.net)

    def state(self) -> LearnerState:
        """Return everything that a checkpoint needs."""
        return LearnerState(
            self.parameters(),
            _running_statistics(self.net, self.contexts) if len(self.contexts) > 1 else {},
            state_arrays(self.trainer, self.net),
            int(self.trainer.optimizer.num_update),
        )

    def restore(self, state: LearnerState, source: str) -> None:
        """Continue from a `state` that `state()` returned; call this before the first step.

        Args:
            state: the state.
            source: name of the checkpoint for error messages.

        Raises:
            InputError: the state does not fit the network.
            KeyError: an array that the optimizer needs is missing.
        """
        load_arrays(self.net, state.parameters, source, self.contexts)
        set_state_arrays(self.trainer, self.net, state.optimizer)
        # This has to come last: the trainer's first act is to give all devices the parameters of the first one
        parameters = self.net._collect_params_with_prefix()
        for key, array in state.device_statistics.items():
            device, name = key.split(":")
            parameters[name].data(self.contexts[int(device)])[:] = np.array(array)
        set_updates(self.trainer, state.updates)

    def save_states(self, path: str) -> None:
        """Write the `.states` file, whole or not at all.

        Raises:
            GluonAFFError: the file cannot be written.
        """
        save_states(self.trainer, path)


def copy_parameters(source: HybridBlock, target: HybridBlock) -> None:
    """Copy the parameters of `source` to `target`, of the same structure and initialised on the same devices."""
    originals = source._collect_params_with_prefix()
    for name, parameter in target._collect_params_with_prefix().items():
        if parameter._deferred_init:
            parameter.shape = originals[name].shape
            parameter._finish_deferred_init()
        for context in parameter.list_ctx():
            parameter.data(context)[:] = originals[name].data(context)


def infer_shapes(net: HybridBlock, shape: Tuple[int, ...]) -> None:
    """Allocate all parameters of deferred shape without a forward pass, for which an image may be too small.

    Args:
        net: initialised network.
        shape: (N, 3, H, W) of a batch.
    """
    net.infer_shape(mx.nd.zeros(shape))
    for parameter in net.collect_params().values():
        parameter._finish_deferred_init()


def _network_dtype(dtype: str) -> str:
    """Return the type of the parameters.

    With bfloat16 the parameters stay float32, and from now on MXNet casts within its operators.
    """
    if dtype != "bfloat16":
        return dtype
    amp.init(target_dtype="bfloat16")
    return "float32"


def _initialised(settings: LearnerSettings, dtype: str, contexts: List[mx.Context]) -> HybridBlock:
    norm = norm_arguments(contexts, dtype) if settings.sync_bn else {}
    with mx.name.NameManager():  # names as in a fresh process, since states are numbered by the order of the names
        net = build(settings.architecture, **norm)
    if settings.batch_shape[-1] % SMALLEST_SCALE == 0:
        net.apply(_silence_average_pool)
    net.cast(dtype)
    mx.random.seed(settings.seed)
    net.initialize(INITIALIZERS[settings.initializer](), ctx=contexts)
    if settings.start.params:
        load_parameters(net, settings.start.params, contexts, ignore_extra=settings.start.ignore_extra)
    with refusing_small_images(settings.batch_shape[-1]):
        infer_shapes(net, settings.batch_shape)
    _compile(net, settings)
    return net


def _silence_average_pool(block: HybridBlock) -> None:
    """Let an average pool whose windows fit its input count padding, of which there is none: the values are the same.

    While it trains on a CPU, MXNet prints "MKLDNN Pooling: training with prop_kind is forward_scoring" for every pool
    that excludes padding, and has no level of logging that leaves this out.
    """
    if isinstance(block, nn.AvgPool2D) and not any(block._kwargs["pad"]):
        block._kwargs["count_include_pad"] = True


def _compile(net: HybridBlock, settings: LearnerSettings) -> None:
    net.hybridize(settings.compiled, **({"static_alloc": True, "static_shape": True} if settings.static else {}))


def _network_to_validate(settings: LearnerSettings, dtype: str, contexts: List[mx.Context]) -> HybridBlock:
    net = build(settings.architecture)
    net.cast(dtype)
    net.initialize(ctx=contexts)
    net.hybridize(settings.compiled)
    return net


def _make_trainer(net: HybridBlock, optimizer: Optimizer, dtype: str, cluster: Cluster) -> gluon.Trainer:
    options = {"wd": optimizer.wd}
    if isinstance(optimizer.rate, Schedule):
        options["lr_scheduler"] = Scheduler(optimizer.rate)
    else:
        options["learning_rate"] = optimizer.rate
    if optimizer.momentum is not None:
        options["momentum"] = optimizer.momentum
    if dtype != "float32":
        options["multi_precision"] = True
    if optimizer.no_wd:
        for parameter in net.collect_params(".*beta|.*gamma|.*bias").values():
            parameter.wd_mult = 0.0
    return make_trainer(net.collect_params(), optimizer.name, options, cluster)


def _figures(means: np.ndarray) -> StepFigures:
    metric, loss, asked_to_stop = means.tolist()
    return StepFigures(metric, loss, asked_to_stop > 0)


def _running_statistics(net: HybridBlock, contexts: List[mx.Context]) -> Dict[str, np.ndarray]:
    """Return the parameters without gradients, which differ between devices, by device and name."""
    return {
        f"{device}:{name}": parameter.data(context).asnumpy()
        for name, parameter in net._collect_params_with_prefix().items()
        if parameter.grad_req == "null"
        for device, context in enumerate(contexts)
    }
