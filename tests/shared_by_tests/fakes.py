"""A learner, a network and clusters in NumPy, for tests of what leads them."""

import numpy as np

from gluon_aff.engines import LearnerState, StepFigures


class FakeLearner:
    """A learner whose weights depend on all that it was given, in its order; there may be several devices.

    Attributes:
        events: starts of steps, and when their figures were asked for.
    """

    def __init__(self, devices=1, rate=0.1):
        self.rate = rate
        self.weights, self.momentum = np.linspace(-1, 1, 6, dtype=np.float32), np.zeros(6, np.float32)
        self.statistics = {f"{device}:mean": np.full(3, device, np.float32) for device in range(devices)}
        self.updates = 0
        self.events = []

    @property
    def learning_rate(self):
        return self.rate * 0.5 ** (self.updates - 1)

    def set_learning_rate(self, rate):
        self.rate = rate

    def seed(self, seed):
        self.events.append(f"seed {seed}")

    def step(self, images, labels, mixup_weight, asked_to_stop):
        number = self.updates
        self.events.append(f"start {number}")
        metric, loss = float(labels.mean()), float(np.square(images - self.weights.mean()).mean())
        self.momentum = 0.9 * self.momentum + mixup_weight * images.ravel()[:6]
        self.weights = self.weights - self.rate * self.momentum
        self.updates += 1

        def awaited():
            self.events.append(f"await {number}")
            return StepFigures(metric, loss, asked_to_stop)

        return awaited

    def end_epoch(self):
        return bool(np.isfinite(self.weights).all())

    def parameters(self):
        return {"weights": self.weights}

    def state(self):
        statistics = self.statistics if len(self.statistics) > 1 else {}
        return LearnerState(self.parameters(), statistics, {"weights": self.momentum}, self.updates)

    def restore(self, state, source):
        self.restored_from = source
        self.weights, self.momentum = state.parameters["weights"], state.optimizer["weights"]
        self.statistics.update(state.device_statistics)
        self.updates = state.updates


class Itself:
    """A network whose outputs are its input."""

    def infer(self, images):
        return lambda: images


class Worker:
    """One of the workers of a cluster, alone unless it is told what the `others` have."""

    def __init__(self, others=()):
        self.others = others
        self.own = None

    def sum(self, figures):
        self.own = figures
        return np.sum([figures, *self.others], axis=0).tolist()
