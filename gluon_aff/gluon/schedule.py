"""A learning-rate schedule as MXNet's trainer takes it."""

from __future__ import annotations

from mxnet import lr_scheduler

from gluon_aff.schedule import Schedule


class Scheduler(lr_scheduler.LRScheduler):
    """Learning rate by the number of the update."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule

    def __call__(self, num_update: int) -> float:
        """Learning rate of the update of that number."""
        return self.schedule.rate(num_update)
