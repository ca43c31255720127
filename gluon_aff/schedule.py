"""Learning-rate schedules of the original commands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Sequence, Tuple

from gluon_aff.errors import InputError


def decay_epochs(listed: str, period: int, num_epochs: int, warmup_epochs: int) -> List[int]:
    """Epochs at which the rate is cut: `listed` (comma-separated), or every `period` epochs if that is not 0.

    All are shifted by -warmup_epochs, as the original does even where there is no warm-up (train_cifar.py 130-135):
    300 means 290 by default, and the published logs show it.

    Raises:
        InputError: if `listed` is no list of integers.
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
    """`base` times `factor` for each cut up to `epoch`; the same cut twice counts once, as in the original."""
    return base * factor ** sum(cut <= epoch for cut in set(cuts))


@dataclass(frozen=True)
class Schedule:
    """Learning rate of each update: linear from 0 to `base` over the warm-up, then by `mode`.

    To the last bit what GluonCV's LRSequential of two LRSchedulers gives, which the original trained with.

    Attributes:
        mode: cosine (a half cosine to 0), poly (to 0 by `power`), linear (straight to 0), step (times `factor` at each
            cut) or constant.
        base: learning rate after the warm-up.
        warmup_epochs: length of the warm-up.
        num_epochs: length of both parts.
        steps_per_epoch: batches in an epoch.
        cuts: epochs of `step`, counted from the end of the warm-up.
        factor: of `step`.
        power: of `poly`.
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
        """Updates of the warm-up."""
        return max(self.warmup_epochs, 0) * self.steps_per_epoch

    @property
    def steps_after(self) -> int:
        """Updates after the warm-up."""
        return max(self.num_epochs - self.warmup_epochs, 0) * self.steps_per_epoch

    def rate(self, update: int) -> float:
        """Learning rate of the update of that number, from 0; after the last one it stays."""
        update = min(update, self.warmup_steps + self.steps_after - 1)
        if update >= self.warmup_steps:
            return self._after_warm_up(update - self.warmup_steps)
        if self.warmup_steps == 1:  # which has no slope
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
