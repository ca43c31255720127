"""Compute the learning rates of the original's commands and of the paper's segmentation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Sequence, Tuple

from gluon_aff.errors import InputError


def decay_epochs(listed: str, period: int, num_epochs: int, warmup_epochs: int) -> List[int]:
    """Return the epochs at which the learning rate is cut.

    All cuts are shifted by -warmup_epochs, as in the original even without a warm-up (train_cifar.py, lines 130-135):
    by default 300 means 290, which the published logs show.

    Args:
        listed: comma-separated epochs.
        period: epochs between cuts, which replace the `listed` ones if this is above 0.
        num_epochs: number of epochs of the run.
        warmup_epochs: number of epochs by which the cuts come earlier.

    Raises:
        InputError: `listed` is not a list of integers.
    """
    if period > 0:
        epochs = list(range(period, num_epochs, period))
    else:
        try:
            epochs = [int(epoch) for epoch in listed.split(",") if epoch.strip()]
        except ValueError:
            raise InputError(f"--lr-decay-epoch {listed!r} is not a list of epochs such as 300,450") from None
    return [epoch - warmup_epochs for epoch in epochs]


def step_rate(base: float, factor: float, cuts: Sequence[int], epoch: int) -> float:
    """Return `base` times `factor` for each cut up to `epoch`; a repeated cut counts once, as in the original."""
    return base * factor ** sum(cut <= epoch for cut in set(cuts))


@dataclass(frozen=True)
class Schedule:
    """Learning rate of each update: linear from 0 to `base` over the warm-up, and then as `mode` says.

    The rates equal to the last bit those of GluonCV's LRSequential of two LRSchedulers, which the original uses.

    Attributes:
        mode: cosine (half a cosine to 0), poly (a power of a straight line to 0), linear (a straight line to 0), step
            (multiplied by `factor` at each cut) or constant.
        base: learning rate after the warm-up.
        warmup_epochs: number of epochs of the warm-up.
        num_epochs: number of epochs including the warm-up.
        steps_per_epoch: number of batches in an epoch.
        cuts: epochs of the cuts in mode step, counted from the end of the warm-up.
        factor: factor at each cut in mode step.
        power: exponent in mode poly.
    """

    mode: str
    base: float
    warmup_epochs: int
    num_epochs: int
    steps_per_epoch: int
    cuts: Tuple[int, ...] = ()
    factor: float = 0.1
    power: float = 2

    @property
    def warmup_steps(self) -> int:
        """Return the number of updates of the warm-up."""
        return max(self.warmup_epochs, 0) * self.steps_per_epoch

    @property
    def steps_after(self) -> int:
        """Return the number of updates after the warm-up."""
        return max(self.num_epochs - self.warmup_epochs, 0) * self.steps_per_epoch

    def rate(self, update: int) -> float:
        """Return the learning rate of an update, counted from 0; after the last update it stays the same."""
        update = min(update, self.warmup_steps + self.steps_after - 1)
        if update >= self.warmup_steps:
            return self._after_warm_up(update - self.warmup_steps)
        if self.warmup_steps == 1:  # a single step has no slope, by which the formula below divides
            return 0.0
        return self.base + (0 - self.base) * (1 - update / (self.warmup_steps - 1))

    def _after_warm_up(self, update: int) -> float:
        last = self.steps_after - 1
        if last == 0 or self.mode == "constant":
            return self.base
        if self.mode == "step":
            return self.base * self.factor ** sum(cut * self.steps_per_epoch <= update for cut in self.cuts)
        if self.mode == "linear":
            return self.base * (1 - update / last)
        if self.mode == "poly":
            return self.base * (1 - update / last) ** self.power
        return self.base * ((1 + math.cos(math.pi * update / last)) / 2)
