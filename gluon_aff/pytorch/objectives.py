"""What a network learns, as losses and metrics on tensors; the formulas are those of `gluon/objectives.py`."""

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
    """What the outputs for a batch are compared with."""

    def pair(self, x: Tensor, y: Tensor, weight: float) -> Tuple[Tensor, Tensor]:
        """Input and target of the batch; `weight` is that of the batch against its reverse."""

    def loss(self, output: Tensor, target: Tensor, x: Tensor) -> Tensor:
        """Loss of each image, (N,), or of the batch, (1,), of float outputs, targets and inputs."""

    def metric(self, output: Tensor, target: Tensor, y: Tensor) -> Tensor:
        """The batch's metric, ()."""


@dataclass(frozen=True)
class Classes:
    """Labels, or distributions over the classes.

    Attributes:
        objective: classes, smoothing, mixup, distillation.
        teacher: network with the same classes, in inference mode, for distillation.
    """

    objective: Classification
    teacher: Optional[nn.Module] = None

    @property
    def dense(self) -> bool:
        """Whether a target is a distribution over the classes instead of a class."""
        return self.objective.mixup or self.objective.smoothing > 0

    def pair(self, x: Tensor, y: Tensor, weight: float) -> Tuple[Tensor, Tensor]:
        """Images and labels or distributions, mixed with their reverse."""
        target = dense_labels(y, self.objective.classes, self.objective.smoothing) if self.dense else y.long()
        if self.objective.mixup and weight < 1:
            x, target = mixup(x, weight), mixup(target, weight)
        return x, target

    def loss(self, output: Tensor, target: Tensor, x: Tensor) -> Tensor:
        """Cross-entropy, or GluonCV's distillation loss."""
        distillation, teacher = self.objective.distillation, self.teacher
        hard = F.cross_entropy(output, target, reduction="none")
        if distillation is None or teacher is None:
            return hard
        temperature = distillation.temperature
        with torch.no_grad():
            imitated = (teacher(x).to(output.dtype) / temperature).softmax(1)
        soft = temperature**2 * F.cross_entropy(output / temperature, imitated, reduction="none")
        return (1 - distillation.hard_weight) * soft + distillation.hard_weight * hard

    def metric(self, output: Tensor, target: Tensor, y: Tensor) -> Tensor:
        """The original's: with mixup the RMSE between softmax and mixed labels; without, where it crashed, accuracy."""
        if self.objective.mixup:
            return (output.softmax(1) - target).square().mean().sqrt()
        return (output.argmax(1) == y).to(output.dtype).mean()


class Masks:
    """Masks (N, 1, H, W) of 0 and 1."""

    def pair(self, x: Tensor, y: Tensor, weight: float) -> Tuple[Tensor, Tensor]:
        """Images and masks as they are."""
        return x, y

    def loss(self, output: Tensor, target: Tensor, x: Tensor) -> Tensor:
        """Soft IoU loss."""
        return soft_iou_loss(output, target)

    def metric(self, output: Tensor, target: Tensor, y: Tensor) -> Tensor:
        """IoU over all images of the batch; a pixel is predicted where its logit is above 0."""
        predicted = (output > 0).to(target.dtype)
        return (predicted * target).sum() / torch.maximum(predicted, target).sum().clamp(min=1)


def dense_labels(labels: Tensor, classes: int, eta: float = 0.0) -> Tensor:
    """One row of probabilities per label: 1 - eta + eta / K for it, eta / K for every other class.

    Args:
        labels: (N,), values in 0..classes - 1.
        classes: K, the width of the network's output.
        eta: label smoothing, 0..1.

    Returns:
        (N, K), of the labels' type.
    """
    off = eta / classes
    rows = torch.full((len(labels), classes), off, dtype=labels.dtype, device=labels.device)
    return rows.scatter_(1, labels.long()[:, None], 1 - eta + off)


def mixup(batch: Tensor, weight: float) -> Tensor:
    """Mix a batch with its own reverse: weight * batch + (1 - weight) * reversed batch, for images and dense labels."""
    weight = round(float(weight), 12)  # as in Gluon, which cannot take smaller ones
    return weight * batch + (1 - weight) * batch.flip(0)


def soft_iou_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - (sum(p t) + 1) / (sum(p + t - p t) + 1), p = sigmoid(logits), over all pixels of all images: (1,)."""
    probabilities = logits.sigmoid()
    intersection = (probabilities * masks).sum()
    union = probabilities.sum() + masks.sum() - intersection
    return (1 - (intersection + SMOOTH) / (union + SMOOTH)).reshape(1)


def task_of(objective: Objective, device: torch.device, dtype: torch.dtype) -> Task:
    """What the objective compares with; a teacher is loaded.

    Raises:
        InputError: there is no such teacher, or its weights cannot be loaded.
    """
    if not isinstance(objective, Classification):
        return Masks()
    if objective.distillation is None:
        return Classes(objective)
    return Classes(objective, _teacher(objective.distillation, objective.classes).to(device, dtype))


def _teacher(distillation: Distillation, classes: int) -> nn.Module:
    if distillation.teacher.lower() not in MODELS:
        raise InputError(
            f"--teacher {distillation.teacher}: under PyTorch the teacher is one of `gluon-aff models`; GluonCV's "
            "networks need --engine mxnet"
        )
    net = get_model(distillation.teacher, classes).eval()
    load_params(net, distillation.params)
    return net
