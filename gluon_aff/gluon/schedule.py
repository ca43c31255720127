"""Adapt a learning-rate schedule to MXNet's trainer."""

from __future__ import annotations

from mxnet import lr_scheduler

from gluon_aff.schedule import Schedule


class Scheduler(lr_scheduler.LRScheduler):
    """Return the learning rate of a schedule by the number of the update."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule

    def __call__(self, num_update: int) -> float:
        """Return the learning rate of the update with that number."""
        return self.schedule.rate(num_update)
