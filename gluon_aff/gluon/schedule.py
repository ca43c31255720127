"""A learning-rate schedule as MXNet's trainer takes it."""

from __future__ import annotations

from typing import Any

from mxnet import lr_scheduler

from gluon_aff.gluon.gluoncv import import_gluoncv
from gluon_aff.schedule import Schedule


class Scheduler(lr_scheduler.LRScheduler):
    """Learning rate by the number of the update."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = schedule

    def __call__(self, num_update: int) -> float:
        """Learning rate of the update of that number."""
        return self._schedule.rate(num_update)

    def gluoncv(self, num_update: int) -> Any:
        """The original's objects for the same schedule, as they are after that many updates."""
        scheduler = gluoncv_scheduler(self._schedule)
        for update in (max(0, min(num_update, self._schedule.warmup_steps - 1)), num_update):
            scheduler(update)  # each part keeps its last rate
        return scheduler


def gluoncv_scheduler(schedule: Schedule) -> Any:
    """The same schedule as the original's objects of GluonCV."""
    scheduler = import_gluoncv("gluoncv.utils.lr_scheduler")

    def part(mode: str, steps: int, **settings: Any) -> Any:
        # GluonCV divides by steps - 1
        return scheduler.LRScheduler("constant" if steps == 1 else mode, niters=steps, **settings)

    after = part(
        schedule.mode,
        schedule.steps_after,
        base_lr=schedule.base,
        target_lr=0,
        power=schedule.power,
        step_iter=[cut * schedule.steps_per_epoch for cut in schedule.cuts],
        step_factor=schedule.factor,
    )
    return scheduler.LRSequential([part("linear", schedule.warmup_steps, base_lr=0, target_lr=schedule.base), after])
