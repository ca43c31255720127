"""Compute the targets, losses and metrics of the objectives on tensors, by the formulas of `gluon/objectives.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gluon_aff.engines import Classification, Distillation, Objective
from gluon_aff.errors import InputError
from gluon_aff.models import MODELS
from gluon_aff.pytorch.networks.zoo import get_model
from gluon_aff.pytorch.parameters import load_params

SMOOTH = 1.0


class Task(Protocol):
    """Compute targets, loss and metric for a batch."""

    def pair(self, x: Tensor, y: Tensor, weight: float) -> Tuple[Tensor, Tensor]:
        """Return the batch's input and target, mixed with the reversed batch: weight * x + (1 - weight) * reverse."""

    def loss(self, output: Tensor, target: Tensor, x: Tensor) -> Tensor:
        """Return the loss of each image, (N,), or of the batch, (1,), from float outputs, targets and inputs."""

    def metric(self, output: Tensor, target: Tensor, y: Tensor) -> Tensor:
        """Return the metric of the batch, ()."""


@dataclass(frozen=True)
class Classes:
    """Compare outputs with labels, or with distributions over the classes.

    Attributes:
        objective: number of classes, smoothing, mixup and distillation.
        teacher: network with the same classes in inference mode, for distillation.
    """

    objective: Classification
    teacher: Optional[nn.Module] = None

    @property
    def dense(self) -> bool:
        """Return whether a target is a distribution over the classes, (N, K), instead of a class, (N,)."""
        return self.objective.mixup or self.objective.smoothing > 0

    def pair(self, x: Tensor, y: Tensor, weight: float) -> Tuple[Tensor, Tensor]:
        """Return images and labels or distributions, mixed with their reverse if mixup is on."""
        target = dense_labels(y, self.objective.classes, self.objective.smoothing) if self.dense else y.long()
        if self.objective.mixup:
            x, target = mixup(x, weight), mixup(target, weight)
        return x, target

    def loss(self, output: Tensor, target: Tensor, x: Tensor) -> Tensor:
        """Return the loss of each image, (N,): cross-entropy, or GluonCV's distillation loss."""
        hard = F.cross_entropy(output, target, reduction="none")
        if self.teacher is None:
            return hard
        distillation = self.objective.distillation
        assert distillation is not None
        temperature = distillation.temperature
        with torch.no_grad():
            imitated = (self.teacher(x).to(output.dtype) / temperature).softmax(1)
        soft = temperature**2 * F.cross_entropy(output / temperature, imitated, reduction="none")
        return (1 - distillation.hard_weight) * soft + distillation.hard_weight * hard

    def metric(self, output: Tensor, target: Tensor, y: Tensor) -> Tensor:
        """Return the RMSE between softmax and mixed labels with mixup, as in the original, otherwise the accuracy.

        Without mixup, the original crashed.
        """
        if self.objective.mixup:
            return (output.softmax(1) - target).square().mean().sqrt()
        return (output.argmax(1) == y).to(output.dtype).mean()


class Masks:
    """Compare outputs with masks, (N, 1, H, W), of 0 and 1."""

    def pair(self, x: Tensor, y: Tensor, weight: float) -> Tuple[Tensor, Tensor]:
        """Return images and masks unchanged."""
        return x, y

    def loss(self, output: Tensor, target: Tensor, x: Tensor) -> Tensor:
        """Return the soft IoU loss of the batch, (1,)."""
        return soft_iou_loss(output, target)

    def metric(self, output: Tensor, target: Tensor, y: Tensor) -> Tensor:
        """Return the IoU over all images of the batch. A pixel counts as predicted if its logit is above 0."""
        predicted = (output > 0).to(target.dtype)
        return (predicted * target).sum() / torch.maximum(predicted, target).sum().clamp(min=1)


def dense_labels(labels: Tensor, classes: int, eta: float) -> Tensor:
    """Return a row of probabilities for each label, with label smoothing.

    Args:
        labels: (N,), values in 0..classes - 1.
        classes: K, the number of outputs of the network.
        eta: label smoothing, 0..1. The label gets 1 - eta + eta / K, every other class eta / K. 0 gives one-hot rows.

    Returns:
        (N, K), of the labels' type and on their device.
    """
    off = eta / classes
    rows = torch.full((len(labels), classes), off, dtype=labels.dtype, device=labels.device)
    return rows.scatter_(1, labels.long()[:, None], 1 - eta + off)


def mixup(batch: Tensor, weight: float) -> Tensor:
    """Mix a batch of images or dense labels with its reverse: weight * batch + (1 - weight) * reversed batch."""
    return weight * batch + (1 - weight) * batch.flip(0)


def soft_iou_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the soft IoU loss, (1,): 1 - (sum(p t) + 1) / (sum(p + t - p t) + 1), where p = sigmoid(logits).

    The sums run over all pixels of all images, as in the authors' sister project. A sign therefore counts in proportion
    to its size in the batch. The loss is 0 where p equals the mask t.
    """
    probabilities = logits.sigmoid()
    intersection = (probabilities * masks).sum()
    union = probabilities.sum() + masks.sum() - intersection
    return (1 - (intersection + SMOOTH) / (union + SMOOTH)).reshape(1)


def task_of(objective: Objective, device: torch.device, dtype: torch.dtype) -> Task:
    """Return the task for an objective, with its teacher loaded if there is one.

    Raises:
        InputError: the teacher is unknown, or its weights cannot be loaded.
    """
    if not isinstance(objective, Classification):
        return Masks()
    if objective.distillation is None:
        return Classes(objective)
    return Classes(objective, _teacher(objective.distillation, objective.classes).to(device, dtype))


def _teacher(distillation: Distillation, classes: int) -> nn.Module:
    if distillation.teacher.lower() not in MODELS:
        raise InputError(
            f"--teacher {distillation.teacher}: the teacher has to be one of `gluon-aff models`; GluonCV's "
            "networks need --engine mxnet"
        )
    net = get_model(distillation.teacher, classes).eval()
    load_params(net, distillation.params)
    return net
