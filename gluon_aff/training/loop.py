"""One training epoch and one validation, on one or several devices."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Callable, Iterable, Iterator, List, Optional, Protocol, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import HybridBlock
from tqdm import tqdm

from gluon_aff.data.loading import Batch
from gluon_aff.data.mixup import dense_labels, mixup
from gluon_aff.distributed.cluster import Cluster, average_running_statistics
from gluon_aff.errors import TrainingError
from gluon_aff.iteration import one_behind
from gluon_aff.training.stopping import StopRequest

ALONE = Cluster()
StepObserver = Callable[[int, float, float], None]
LossFunction = Callable[[mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray], mx.nd.NDArray]
Count = Callable[[mx.nd.NDArray, mx.nd.NDArray], mx.nd.NDArray]


class Task(Protocol):
    """What a network is trained for."""

    def pair(self, x: mx.nd.NDArray, y: mx.nd.NDArray, weight: float) -> Batch:
        """Input and target of a device's slice; `weight` is that of the slice against its reverse."""

    def loss_function(self) -> LossFunction:
        """Loss, per image or of the slice, of (outputs, targets, inputs)."""

    def metric(self, output: mx.nd.NDArray, target: mx.nd.NDArray, y: mx.nd.NDArray) -> mx.nd.NDArray:
        """The slice's metric, (1,), of float32 outputs and targets."""

    def error(self, metric: float) -> float:
        """What the curve shows of an epoch whose mean metric is `metric`, 0..1."""


@dataclass(frozen=True)
class Teacher:
    """A network whose outputs the trained one imitates.

    Attributes:
        net: initialised network with the same classes.
        temperature: both networks' logits are divided by it where they are compared.
        hard_weight: share of the loss on the labels, 0..1; the rest is on the teacher's outputs.
    """

    net: HybridBlock
    temperature: float
    hard_weight: float


@dataclass(frozen=True)
class Targets:
    """Classification: what the loss compares with.

    Attributes:
        classes: outputs of the network, K.
        smoothing: eta; a label is 1 - eta + eta/K, the others eta/K.
        mixup: batches are mixed with their reverse; labels too.
        dtype: the network's floating-point type; images and dense labels are cast to it once they are mixed.
        teacher: for distillation.
    """

    classes: int
    smoothing: float
    mixup: bool
    dtype: str = "float32"
    teacher: Optional[Teacher] = None

    @property
    def dense(self) -> bool:
        """Whether a target is a distribution over the classes instead of a class."""
        return self.mixup or self.smoothing > 0

    def pair(self, x: mx.nd.NDArray, y: mx.nd.NDArray, weight: float) -> Batch:
        """Images and labels or distributions, mixed with their reverse, in the network's type."""
        target = dense_labels(y, self.classes, self.smoothing) if self.dense else y
        if self.mixup and weight < 1:
            x, target = mixup(x, weight), mixup(target, weight)
        # Classes stay float32: float16 has no odd numbers above 2048
        return x.astype(self.dtype, copy=False), target.astype(self.dtype, copy=False) if self.dense else target

    def loss_function(self) -> LossFunction:
        """Loss per image: cross-entropy, or GluonCV's distillation loss."""
        teacher = self.teacher
        if teacher is None:
            cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=not self.dense)
            return lambda output, target, x: cross_entropy(output, target)
        from gluoncv.loss import DistillationSoftmaxCrossEntropyLoss

        distillation = DistillationSoftmaxCrossEntropyLoss(teacher.temperature, teacher.hard_weight, not self.dense)

        def loss(output: mx.nd.NDArray, target: mx.nd.NDArray, x: mx.nd.NDArray) -> mx.nd.NDArray:
            with autograd.pause(train_mode=False):
                soft_target = (teacher.net(x) / teacher.temperature).softmax()
            return distillation(output, target, soft_target)

        return loss

    def metric(self, output: mx.nd.NDArray, target: mx.nd.NDArray, y: mx.nd.NDArray) -> mx.nd.NDArray:
        """The original's: with mixup the RMSE between softmax and mixed labels; without, where it crashed, accuracy."""
        if self.mixup:
            return (output.softmax() - target).square().mean().sqrt()
        return (output.argmax(axis=1) == y).mean()

    def error(self, metric: float) -> float:
        """With mixup the RMSE, as in the original."""
        return metric if self.mixup else 1 - metric


@dataclass(frozen=True)
class Training:
    """What every epoch of a run trains with.

    Attributes:
        net: initialised network.
        trainer: its trainer.
        targets: what the loss compares with, and how.
        contexts: devices; each takes an equal slice of a batch, mixed within itself, as in the original.
        stop: looked at after each step.
        cluster: the workers, each with its share of every batch; metric and loss are means over them.
    """

    net: HybridBlock
    trainer: gluon.Trainer
    targets: Task
    contexts: List[mx.Context]
    stop: StopRequest = field(default_factory=StopRequest)
    cluster: Cluster = ALONE


@dataclass(frozen=True)
class EpochProgress:
    """How far an epoch is.

    Attributes:
        steps: done so far.
        metric_sum: of their metrics.
        loss_sum: of their losses.
        seconds: what they took.
    """

    steps: int = 0
    metric_sum: float = 0.0
    loss_sum: float = 0.0
    seconds: float = 0.0

    @property
    def metric(self) -> float:
        """Mean metric of a step."""
        return self.metric_sum / self.steps

    @property
    def loss(self) -> float:
        """Mean loss of an image."""
        return self.loss_sum / self.steps


NOT_BEGUN = EpochProgress()


def train_epoch(
    training: Training,
    batches: Iterable[Batch],
    mixup_weights: np.ndarray,
    epoch: int,
    begun: EpochProgress = NOT_BEGUN,
    on_step: Optional[StepObserver] = None,
) -> EpochProgress:
    """Train on `batches`, to the end of the epoch or until the run is to stop.

    Args:
        training: network and what trains it.
        batches: those not done yet: images (N, 3, H, W) and labels (N,) or what the task takes, N a multiple of the
            devices.
        mixup_weights: (steps of the epoch,), weight of each batch against its reverse, in 0..1.
        epoch: number shown and reported.
        begun: what was done of the epoch before.
        on_step: told after each step its number, the mean metric so far and the learning rate.

    The metric is the task's, averaged over slices.

    Raises:
        TrainingError: if a loss or, at the end, a parameter is not finite.
    """
    start, total = time.perf_counter(), len(mixup_weights)
    done = begun
    with tqdm(desc=f"epoch {epoch}", total=total, initial=done.steps, leave=False, disable=None, unit="batch") as bar:
        for figures, rate in one_behind(_steps(training, batches, mixup_weights[done.steps :])):
            metric, loss, asked_to_stop = (figures.asnumpy() / training.cluster.size).tolist()
            if asked_to_stop:
                training.stop.agree()
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is {loss} at epoch {epoch}, step {done.steps}; a lower --lr may help")
            sums = {"metric_sum": done.metric_sum + metric, "loss_sum": done.loss_sum + loss}
            done = replace(done, steps=done.steps + 1, **sums)
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()
            if on_step:
                on_step(done.steps - 1, done.metric, rate)
    _check_finite(training.net, epoch, done.steps - 1)
    average_running_statistics(training.net, training.cluster)
    return replace(done, seconds=begun.seconds + time.perf_counter() - start)


def _steps(
    training: Training, batches: Iterable[Batch], mixup_weights: Iterable[float]
) -> Iterator[Tuple[mx.nd.NDArray, float]]:
    """Figures, not waited for, and learning rate of each step, until the run is to stop."""
    loss_function = training.targets.loss_function()
    for batch, weight in zip(batches, mixup_weights):
        yield _train_step(training, loss_function, batch, weight), training.trainer.learning_rate
        if training.stop():
            return


def validate(net: HybridBlock, batches: Iterable[Batch], contexts: List[mx.Context], cluster: Cluster = ALONE) -> float:
    """Top-1 accuracy of `net` on the `batches` of all workers, in 0..1, each image counted once."""
    correct, total = sums(net, batches, contexts, _count_correct, 2, cluster)
    return correct / total


def sums(
    net: HybridBlock,
    batches: Iterable[Batch],
    contexts: List[mx.Context],
    count: Count,
    figures: int,
    cluster: Cluster = ALONE,
) -> List[float]:
    """Sums over the `batches` of all workers of the `figures` figures that `count` takes of outputs and labels."""
    counts = [mx.nd.zeros(figures)]
    for images, labels in batches:
        counts += [count(net(x), y).as_in_context(mx.cpu()) for x, y in _slices(images, labels, contexts)]
    return cluster.total(mx.nd.add_n(*counts)).asnumpy().tolist()


def _count_correct(output: mx.nd.NDArray, labels: mx.nd.NDArray) -> mx.nd.NDArray:
    """Correct ones, and all."""
    right = (output.argmax(axis=1) == labels).sum()
    return mx.nd.concat(right.astype("float32"), mx.nd.array([len(labels)], ctx=right.context), dim=0)


def _check_finite(net: HybridBlock, epoch: int, step: int) -> None:
    """Raise TrainingError if the last update, which no loss has shown yet, left weights that are not finite."""
    arrays = [parameter.list_data()[0] for parameter in net.collect_params().values()]
    finite = mx.nd.concat(*(mx.nd.all_finite(array) for array in arrays), dim=0)
    if not finite.min().asscalar():
        raise TrainingError(f"weights are not finite after epoch {epoch}, step {step}; a lower --lr may help")


def copy_parameters(source: HybridBlock, target: HybridBlock) -> None:
    """Give `target`, of the same structure and initialised on the same devices, the parameters of `source`."""
    originals = source._collect_params_with_prefix()
    for name, parameter in target._collect_params_with_prefix().items():
        if parameter._deferred_init:
            parameter.shape = originals[name].shape
            parameter._finish_deferred_init()
        for context in parameter.list_ctx():
            parameter.data(context)[:] = originals[name].data(context)


def _train_step(training: Training, loss_function: LossFunction, batch: Batch, weight: float) -> mx.nd.NDArray:
    """Update once; return (metric, mean loss, 1 if this worker is asked to stop) over the workers, not waited for."""
    images, labels = batch
    losses, figures = [], []
    for x, y in _slices(images, labels, training.contexts):
        x, target = training.targets.pair(x, y, weight)
        with autograd.record():
            output = training.net(x)
            loss = loss_function(output, target, x)
        losses.append(loss)
        output, target, loss = (array.astype("float32", copy=False) for array in (output, target, loss))
        metric = training.targets.metric(output, target, y)
        figures.append(mx.nd.concat(metric, loss.mean(), dim=0).as_in_context(mx.cpu()))
    autograd.backward(losses)
    training.trainer.step(len(images) * training.cluster.size)
    mean = mx.nd.add_n(*figures) / len(figures)
    return training.cluster.total(mx.nd.concat(mean, mx.nd.array([training.stop.signal != 0]), dim=0))


def _slices(images: mx.nd.NDArray, labels: mx.nd.NDArray, contexts: List[mx.Context]) -> Iterator[Batch]:
    used = contexts[: len(images)]
    return zip(*(gluon.utils.split_and_load(array, used, even_split=False) for array in (images, labels)))
