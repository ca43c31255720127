"""Stopping a run as a signal does, at a chosen step."""

import os
import signal

from gluon_aff.gluon.learner import GluonLearner


def stop_at(monkeypatch, count, number=signal.SIGTERM):
    """Send the process a signal once so many training steps are under way."""
    original, steps = GluonLearner.step, []

    def counted(*arguments):
        steps.append(1)
        if len(steps) == count:
            os.kill(os.getpid(), number)
        return original(*arguments)

    monkeypatch.setattr(GluonLearner, "step", counted)
