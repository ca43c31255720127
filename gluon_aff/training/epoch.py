"""One epoch of training."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Callable, Iterable, Iterator, Optional, Tuple

import numpy as np
from tqdm import tqdm

from gluon_aff.data.batches import Batch
from gluon_aff.engines import Learner, StepFigures
from gluon_aff.errors import TrainingError
from gluon_aff.iteration import one_behind
from gluon_aff.training.stopping import StopRequest

StepObserver = Callable[[int, float, float], None]


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

    def after(self, figures: StepFigures) -> EpochProgress:
        """With one more step done."""
        return replace(
            self,
            steps=self.steps + 1,
            metric_sum=self.metric_sum + figures.metric,
            loss_sum=self.loss_sum + figures.loss,
        )


NOT_BEGUN = EpochProgress()


def train_epoch(
    learner: Learner,
    batches: Iterable[Batch],
    mixup_weights: np.ndarray,
    epoch: int,
    stop: StopRequest,
    begun: EpochProgress = NOT_BEGUN,
    on_step: Optional[StepObserver] = None,
) -> EpochProgress:
    """Train on `batches`, to the end of the epoch or until the run is to stop.

    Args:
        learner: what trains.
        batches: those not done yet: images (N, 3, H, W) and labels (N,) or masks, N a multiple of the devices.
        mixup_weights: (steps of the epoch,), weight of each batch against its reverse, in 0..1.
        epoch: number shown and reported.
        stop: looked at after each step.
        begun: what was done of the epoch before.
        on_step: told after each step its number, the mean metric so far and the learning rate.

    Raises:
        TrainingError: if a loss or, at the end, a weight is not finite.
    """
    start, total = time.perf_counter(), len(mixup_weights)
    done = begun
    with tqdm(desc=f"epoch {epoch}", total=total, initial=done.steps, leave=False, disable=None, unit="batch") as bar:
        for awaited, rate in one_behind(_steps(learner, batches, mixup_weights[done.steps :], stop)):
            figures = awaited()
            if figures.asked_to_stop:
                stop.agree()
            if not math.isfinite(figures.loss):
                raise TrainingError(
                    f"the loss is {figures.loss} at epoch {epoch}, step {done.steps}; a lower --lr may help"
                )
            done = done.after(figures)
            bar.set_postfix(loss=f"{figures.loss:.4f}", refresh=False)
            bar.update()
            if on_step:
                on_step(done.steps - 1, done.metric, rate)
    if not learner.end_epoch():  # the last update, which no loss has shown yet
        raise TrainingError(f"weights are not finite after epoch {epoch}, step {done.steps - 1}; a lower --lr may help")
    return replace(done, seconds=begun.seconds + time.perf_counter() - start)


def _steps(
    learner: Learner, batches: Iterable[Batch], mixup_weights: Iterable[float], stop: StopRequest
) -> Iterator[Tuple[Callable[[], StepFigures], float]]:
    """Figures, not waited for, and learning rate of each step, until the run is to stop."""
    for (images, labels), weight in zip(batches, mixup_weights):
        yield learner.step(images, labels, weight, stop.signal != 0), learner.learning_rate
        if stop():
            return
