"""One training epoch and one validation, on one or several devices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, List, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import HybridBlock
from tqdm import tqdm

from gluon_aff.data.mixup import dense_labels, mixup
from gluon_aff.errors import TrainingError
from gluon_aff.iteration import one_behind

Batch = Tuple[mx.nd.NDArray, mx.nd.NDArray]
StepObserver = Callable[[int, float, float], None]
LossFunction = Callable[[mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray], mx.nd.NDArray]


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
    """What the loss compares with.

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


def train_epoch(
    net: HybridBlock,
    trainer: gluon.Trainer,
    batches: Iterable[Batch],
    targets: Targets,
    mixup_weights: np.ndarray,
    contexts: List[mx.Context],
    epoch: int,
    on_step: Optional[StepObserver] = None,
) -> Tuple[float, float]:
    """Train on `batches`; return the training metric and the mean loss per image.

    Args:
        net: initialised network.
        trainer: its trainer.
        batches: images (N, 3, H, W) and labels (N,), N a multiple of the devices.
        targets: what the loss compares with.
        mixup_weights: (batches,), weight of each batch against its reverse, in 0..1.
        contexts: devices; each takes an equal slice, mixed within itself, as in the original.
        epoch: number shown and reported.
        on_step: told after each step its number, the mean metric so far and the learning rate.

    The metric is the original's: with mixup the RMSE between softmax and mixed labels, averaged over slices;
    without, where the original crashed, the accuracy.

    Raises:
        TrainingError: if a loss or, at the end, a parameter is not finite.
    """
    loss_function = _loss_function(targets)
    progress = tqdm(batches, f"epoch {epoch}", len(mixup_weights), leave=False, disable=None, unit="batch")
    steps = (
        (_train_step(net, trainer, loss_function, batch, targets, weight, contexts), trainer.learning_rate)
        for batch, weight in zip(progress, mixup_weights)
    )
    metric = loss = 0.0
    for step, (figures, rate) in enumerate(one_behind(steps)):
        step_metric, step_loss = figures.asnumpy().tolist()
        if not math.isfinite(step_loss):
            raise TrainingError(f"the loss is {step_loss} at epoch {epoch}, step {step}; a lower --lr may help")
        metric += step_metric
        loss += step_loss
        progress.set_postfix(loss=f"{step_loss:.4f}", refresh=False)
        if on_step:
            on_step(step, metric / (step + 1), rate)
    _check_finite(net, epoch, len(mixup_weights) - 1)
    return metric / len(mixup_weights), loss / len(mixup_weights)


def validate(net: HybridBlock, batches: Iterable[Batch], contexts: List[mx.Context]) -> float:
    """Top-1 accuracy of `net` on `batches`, in 0..1, each image counted once."""
    correct, total = [], 0
    for images, labels in batches:
        total += len(images)
        for x, y in _slices(images, labels, contexts):
            correct.append((net(x).argmax(axis=1) == y).sum().as_in_context(mx.cpu()))
    return float(mx.nd.concat(*correct, dim=0).sum().asscalar()) / total


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


def _train_step(
    net: HybridBlock,
    trainer: gluon.Trainer,
    loss_function: LossFunction,
    batch: Batch,
    targets: Targets,
    weight: float,
    contexts: List[mx.Context],
) -> mx.nd.NDArray:
    """Update once; return (metric, mean loss), not waited for."""
    images, labels = batch
    losses, figures = [], []
    for x, y in _slices(images, labels, contexts):
        target = dense_labels(y, targets.classes, targets.smoothing) if targets.dense else y
        if targets.mixup and weight < 1:
            x, target = mixup(x, weight), mixup(target, weight)
        x, target = x.astype(targets.dtype, copy=False), target.astype(targets.dtype, copy=False)
        with autograd.record():
            output = net(x)
            loss = loss_function(output, target, x)
        losses.append(loss)
        output, target, loss = (array.astype("float32", copy=False) for array in (output, target, loss))
        metric = _rmse(output, target) if targets.mixup else (output.argmax(axis=1) == y).mean()
        figures.append(mx.nd.concat(metric, loss.mean(), dim=0).as_in_context(mx.cpu()))
    autograd.backward(losses)
    trainer.step(len(images))
    return mx.nd.add_n(*figures) / len(figures)


def _loss_function(targets: Targets) -> LossFunction:
    """Loss per image of (outputs, targets, images): cross-entropy, or GluonCV's distillation loss."""
    teacher = targets.teacher
    if teacher is None:
        cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=not targets.dense)
        return lambda output, target, x: cross_entropy(output, target)
    from gluoncv.loss import DistillationSoftmaxCrossEntropyLoss

    distillation = DistillationSoftmaxCrossEntropyLoss(teacher.temperature, teacher.hard_weight, not targets.dense)

    def loss(output: mx.nd.NDArray, target: mx.nd.NDArray, x: mx.nd.NDArray) -> mx.nd.NDArray:
        with autograd.pause(train_mode=False):
            soft_target = (teacher.net(x) / teacher.temperature).softmax()
        return distillation(output, target, soft_target)

    return loss


def _rmse(output: mx.nd.NDArray, target: mx.nd.NDArray) -> mx.nd.NDArray:
    return (output.softmax() - target).square().mean().sqrt()


def _slices(images: mx.nd.NDArray, labels: mx.nd.NDArray, contexts: List[mx.Context]) -> Iterator[Batch]:
    used = contexts[: len(images)]
    return zip(*(gluon.utils.split_and_load(array, used, even_split=False) for array in (images, labels)))
