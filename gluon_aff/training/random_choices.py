"""Random choices of a run that are not its data's."""

from __future__ import annotations

from typing import Iterable, Iterator, TypeVar

import numpy as np

from gluon_aff.data.mixup import draw_mixup_weights
from gluon_aff.data.randomness import Purpose, stream
from gluon_aff.engines import Learner
from gluon_aff.settings.shared import ClassifierSettings

Item = TypeVar("Item")


def mixup_weights(settings: ClassifierSettings, epoch: int, steps: int) -> np.ndarray:
    """Weight of each batch of `epoch` against its reverse, (steps,); 1 where nothing is mixed."""
    if not settings.mixup or epoch >= settings.num_epochs - settings.mixup_off_epoch:
        return np.ones(steps)
    return draw_mixup_weights(settings.mixup_alpha, settings.drawn_seed, epoch, steps)


def reseeding(learner: Learner, batches: Iterable[Item], seed: int, epoch: int, first: int) -> Iterator[Item]:
    """The batches of an epoch from the `first` on, the framework's random numbers seeded for each.

    Their state cannot be kept: a run that goes on has the same dropout because of this.
    """
    seeds = stream(seed, epoch, Purpose.FRAMEWORK)
    seeds.integers(2**31, size=first)
    for batch in batches:
        learner.seed(int(seeds.integers(2**31)))
        yield batch
