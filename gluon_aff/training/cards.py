"""Write a run's weights together with a card that describes them."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Mapping, Optional, Protocol

import numpy as np

from gluon_aff.engines import LearnerSettings
from gluon_aff.run_names import name_of
from gluon_aff.training.setup import DataFacts, Setup
from gluon_aff.weights.card import Card, names_of_outputs
from gluon_aff.weights.card_file import write_with_card
from gluon_aff.weights.identify import name_of_network


class WriteWeights(Protocol):
    """Function that writes weights of a run: `write_with_card` with the network and the card filled in."""

    def __call__(
        self, path: str, arrays: Mapping[str, np.ndarray], *, write_states: Optional[Callable[[str], None]] = None
    ) -> None:
        """Write `arrays` to `path`, the card next to it, and the optimizer's states if `write_states` is given."""


def weights_writer(setup: Setup[Any], learner: LearnerSettings, data: DataFacts) -> WriteWeights:
    """Return the function that writes a run's `.params` files with their cards.

    Args:
        setup: setup of the run.
        learner: settings of the network that the run trains.
        data: facts about the data that it trains on.
    """
    card = Card(
        network=name_of_network(name_of(setup.settings), learner.architecture, data.outputs, setup.engine),
        for_cifar=data.dataset.startswith("cifar"),
        input_size=learner.batch_shape[-1],
        outputs=data.outputs,
        git_blob_sha1="",
        dataset=data.dataset,
        labels=data.labels,
        names=names_of_outputs(data.names, data.outputs) if data.names else (),
        base_size=data.base_size,
        engine=f"{setup.engine.NAME} {setup.engine.VERSION}",
        versions=setup.versions(data),
    )
    return partial(write_with_card, architecture=learner.architecture, card=card)
