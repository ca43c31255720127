"""Draw the random numbers of a run that do not concern its data: mixup's weights, and seeds for the framework."""

from __future__ import annotations

import itertools
from typing import Iterable, Iterator, TypeVar

import numpy as np

from gluon_aff.data.mixup import draw_mixup_weights
from gluon_aff.data.randomness import Purpose, stream
from gluon_aff.engines import Learner
from gluon_aff.settings.shared import ClassifierSettings

Item = TypeVar("Item")


def mixup_weights(settings: ClassifierSettings, epoch: int, steps: int) -> np.ndarray:
    """Return the share of each batch of `epoch` in its mix with its reverse: (steps,), in 0..1, and 1 without mixup."""
    if not settings.mixup or epoch >= settings.num_epochs - settings.mixup_off_epoch:
        return np.ones(steps)
    return draw_mixup_weights(settings.mixup_alpha, settings.drawn_seed, epoch, steps)


def reseeding(learner: Learner, batches: Iterable[Item], seed: int, epoch: int, first: int) -> Iterator[Item]:
    """Yield batches, and seed the framework's random numbers before each.

    A checkpoint cannot hold the state of these numbers; because of the seeds, a resumed run has the same dropout.

    Args:
        learner: learner whose framework is seeded.
        batches: batches of an epoch from number `first` on.
        seed: seed of the run.
        epoch: number of the epoch.
        first: number of the first of the `batches` in the epoch.
    """
    seeds = stream(seed, epoch, Purpose.FRAMEWORK)
    numbers = (int(seeds.integers(2**31)) for _ in itertools.count())
    for batch, number in zip(batches, itertools.islice(numbers, first, None)):
        learner.seed(number)
        yield batch
