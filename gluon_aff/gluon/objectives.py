"""Compute the targets, losses and metrics of the objectives on NDArrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List, Optional, Protocol, Tuple

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import HybridBlock

from gluon_aff.engines import Classification, Distillation, LearnerSettings
from gluon_aff.errors import InputError, last_line
from gluon_aff.gluon.imports import import_gluoncv
from gluon_aff.gluon.mixup import dense_labels, mixup
from gluon_aff.gluon.networks.zoo import get_model
from gluon_aff.gluon.parameters import load_parameters
from gluon_aff.models import MODELS

SMOOTH = 1.0
LossFunction = Callable[[mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray], mx.nd.NDArray]


class Task(Protocol):
    """Compute targets, loss and metric for the slice of a batch that a device holds."""

    def pair(self, x: mx.nd.NDArray, y: mx.nd.NDArray, weight: float) -> Tuple[mx.nd.NDArray, mx.nd.NDArray]:
        """Return input and target of the slice, mixed with the slice's reverse: weight * x + (1 - weight) * x[::-1]."""

    def loss_function(self) -> LossFunction:
        """Return a function of (outputs, targets, inputs) that computes the loss of each image, or of the slice."""

    def metric(self, output: mx.nd.NDArray, target: mx.nd.NDArray, y: mx.nd.NDArray) -> mx.nd.NDArray:
        """Return the metric of the slice, (1,), from float32 outputs and targets."""


@dataclass(frozen=True)
class Classes:
    """Compare outputs with labels, or with distributions over the classes.

    Attributes:
        objective: number of classes, smoothing, mixup and distillation.
        dtype: the network's floating-point type. Images and dense labels are cast to it after mixing.
        teacher: initialised network with the same classes, for distillation.
    """

    objective: Classification
    dtype: str = "float32"
    teacher: Optional[HybridBlock] = None

    @property
    def dense(self) -> bool:
        """Return whether a target is a distribution over the classes, (N, K), instead of a class, (N,)."""
        return self.objective.mixup or self.objective.smoothing > 0

    def pair(self, x: mx.nd.NDArray, y: mx.nd.NDArray, weight: float) -> Tuple[mx.nd.NDArray, mx.nd.NDArray]:
        """Return images and labels or distributions, mixed with their reverse if mixup is on, in the network's type."""
        target = dense_labels(y, self.objective.classes, self.objective.smoothing) if self.dense else y
        if self.objective.mixup and weight < 1:
            x, target = mixup(x, weight), mixup(target, weight)
        # Classes stay float32, since float16 has no odd numbers above 2048
        return x.astype(self.dtype, copy=False), target.astype(self.dtype, copy=False) if self.dense else target

    def loss_function(self) -> LossFunction:
        """Return a function that computes the loss of each image: cross-entropy, or GluonCV's distillation loss."""
        distillation, teacher = self.objective.distillation, self.teacher
        if distillation is None or teacher is None:
            cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=not self.dense)
            return lambda output, target, x: cross_entropy(output, target)
        temperature = distillation.temperature
        distilled = import_gluoncv("gluoncv.loss").DistillationSoftmaxCrossEntropyLoss(
            temperature, distillation.hard_weight, not self.dense
        )

        def loss(output: mx.nd.NDArray, target: mx.nd.NDArray, x: mx.nd.NDArray) -> mx.nd.NDArray:
            with autograd.pause():
                soft_target = (teacher(x) / temperature).softmax()
            return distilled(output, target, soft_target)

        return loss

    def metric(self, output: mx.nd.NDArray, target: mx.nd.NDArray, y: mx.nd.NDArray) -> mx.nd.NDArray:
        """Return the RMSE between softmax and mixed labels with mixup, as in the original, otherwise the accuracy.

        Without mixup, the original crashed.
        """
        if self.objective.mixup:
            return (output.softmax() - target).square().mean().sqrt()
        return (output.argmax(axis=1) == y).mean()


class Masks:
    """Compare outputs with masks, (N, 1, H, W), of 0 and 1."""

    def pair(self, x: mx.nd.NDArray, y: mx.nd.NDArray, weight: float) -> Tuple[mx.nd.NDArray, mx.nd.NDArray]:
        """Return images and masks unchanged."""
        return x, y

    def loss_function(self) -> LossFunction:
        """Return a function that computes the soft IoU loss of the slice."""
        return lambda output, target, x: soft_iou_loss(output, target)

    def metric(self, output: mx.nd.NDArray, target: mx.nd.NDArray, y: mx.nd.NDArray) -> mx.nd.NDArray:
        """Return the IoU over all images of the slice. A pixel counts as predicted if its logit is above 0."""
        predicted = output > 0
        return (predicted * target).sum() / mx.nd.maximum(mx.nd.maximum(predicted, target).sum(), 1)


def soft_iou_loss(logits: mx.nd.NDArray, masks: mx.nd.NDArray) -> mx.nd.NDArray:
    """Return the soft IoU loss, (1,): 1 - (sum(p t) + 1) / (sum(p + t - p t) + 1), where p = sigmoid(logits).

    The sums run over all pixels of all images, as in the authors' sister project. A sign therefore counts in proportion
    to its size in the batch. The loss is 0 where p equals the mask t.
    """
    probabilities = logits.sigmoid()
    intersection = (probabilities * masks).sum()
    union = probabilities.sum() + masks.sum() - intersection
    return 1 - (intersection + SMOOTH) / (union + SMOOTH)


def task_of(settings: LearnerSettings, dtype: str, contexts: List[mx.Context]) -> Task:
    """Return the task for the settings' objective, with its teacher loaded if there is one.

    Raises:
        InputError: the teacher is unknown, or its weights cannot be loaded.
    """
    objective = settings.objective
    if not isinstance(objective, Classification):
        return Masks()
    if objective.distillation is None:
        return Classes(objective, dtype)
    return Classes(objective, dtype, _teacher(objective.distillation, objective.classes, dtype, contexts))


def _teacher(distillation: Distillation, classes: int, dtype: str, contexts: List[mx.Context]) -> HybridBlock:
    listed = distillation.teacher.lower() in MODELS
    net = (get_model if listed else _gluoncv_network)(distillation.teacher, classes)
    net.cast(dtype)
    load_parameters(net, distillation.params, contexts)
    net.hybridize(static_alloc=True)
    return net


def _gluoncv_network(name: str, classes: int) -> HybridBlock:
    try:
        return import_gluoncv("gluoncv.model_zoo").get_model(name, classes=classes)
    except ValueError:
        raise InputError(f"--teacher {name}: neither GluonCV nor this package has a network of that name") from None
    # GluonCV's detectors and similar networks need further arguments or a backbone network
    except Exception as error:
        raise InputError(f"--teacher {name}: GluonCV cannot build it ({last_line(error)}); name a classifier") from None
