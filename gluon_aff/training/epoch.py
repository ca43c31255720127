"""Train for one epoch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Callable, Iterable, Iterator, Optional, Tuple

import numpy as np
from tqdm import tqdm

from gluon_aff.data.batches import TrainingBatch
from gluon_aff.engines import Learner, StepFigures
from gluon_aff.errors import TrainingError
from gluon_aff.iteration import one_behind
from gluon_aff.training.stopping import StopRequest

StepObserver = Callable[[int, float, float], None]


@dataclass(frozen=True)
class EpochProgress:
    """Progress within an epoch.

    Attributes:
        steps: number of steps done so far.
        metric_sum: sum of the metrics of these steps.
        loss_sum: sum of the losses of these steps.
        seconds: time that they took.
    """

    steps: int = 0
    metric_sum: float = 0.0
    loss_sum: float = 0.0
    seconds: float = 0.0

    @property
    def metric(self) -> float:
        """Return the mean of the metric over the steps so far."""
        return self.metric_sum / self.steps

    @property
    def loss(self) -> float:
        """Return the mean loss per image over the steps so far."""
        return self.loss_sum / self.steps

    def after(self, figures: StepFigures) -> EpochProgress:
        """Return the progress after one more step with these `figures`."""
        return replace(
            self,
            steps=self.steps + 1,
            metric_sum=self.metric_sum + figures.metric,
            loss_sum=self.loss_sum + figures.loss,
        )


NOT_BEGUN = EpochProgress()


def train_epoch(
    learner: Learner,
    batches: Iterable[TrainingBatch],
    mixup_weights: np.ndarray,
    epoch: int,
    stop: StopRequest,
    begun: EpochProgress = NOT_BEGUN,
    on_step: Optional[StepObserver] = None,
) -> EpochProgress:
    """Train on `batches` until the epoch ends or the run is asked to stop, and return the progress.

    Args:
        learner: the network to train.
        batches: batches that are left in the epoch: images (N, 3, H, W), or `Pixels` if the learner takes them, and
            labels (N,) or masks (N, 1, H, W); N is a multiple of the number of devices.
        mixup_weights: (steps of the epoch,), share in 0..1 of each batch in its mix with its reverse.
        epoch: number of the epoch, for the progress bar and messages.
        stop: request to stop, which is checked after each step.
        begun: progress that an earlier process made in this epoch.
        on_step: function that is called after each step with its number, the mean metric so far and the learning rate.

    Raises:
        TrainingError: a loss or, after the last step, a weight is not finite.
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
    if not learner.end_epoch():  # no loss has shown yet whether the last update went wrong
        raise TrainingError(f"weights are not finite after epoch {epoch}, step {done.steps - 1}; a lower --lr may help")
    return replace(done, seconds=begun.seconds + time.perf_counter() - start)


def _steps(
    learner: Learner,
    batches: Iterable[TrainingBatch],
    mixup_weights: Iterable[float],
    stop: StopRequest,
) -> Iterator[Tuple[Callable[[], StepFigures], float]]:
    """Yield a function that waits for the figures, and the learning rate, of each step until the run is to stop."""
    for (images, labels), weight in zip(batches, mixup_weights):
        yield learner.step(images, labels, weight, stop.signal != 0), learner.learning_rate
        if stop():
            return
