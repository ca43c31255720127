"""What a run writes weights with: the card beside them says what they are of."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from gluon_aff.engines import LearnerSettings
from gluon_aff.run_names import name_of
from gluon_aff.training.setup import Setup
from gluon_aff.weights.card import Card, names_of_outputs
from gluon_aff.weights.card_file import write_with_card
from gluon_aff.weights.identify import name_of_network

# Takes a path and arrays by name
WriteWeights = Callable[[str, Mapping[str, np.ndarray]], None]


def weights_writer(
    setup: Setup[Any],
    learner: LearnerSettings,
    versions: str,
    dataset: str,
    outputs: int,
    names: Sequence[str],
    **facts: Any,
) -> WriteWeights:
    """What writes `.params` files of a run, with their cards.

    Args:
        setup: of the run.
        learner: the network that it trains.
        versions: the line of its log about them.
        dataset: what it is trained on.
        outputs: of the network.
        names: of the classes, in the order of their labels; none if they are not known.
        **facts: what else a `Card` has.
    """
    card = Card(
        network=name_of_network(name_of(setup.settings), learner.architecture, outputs, setup.engine),
        for_cifar=dataset.startswith("cifar"),
        input_size=learner.batch_shape[-1],
        outputs=outputs,
        git_blob_sha1="",
        dataset=dataset,
        names=names_of_outputs(names, outputs) if names else (),
        engine=f"{setup.engine.NAME} {setup.engine.VERSION}",
        versions=versions,
        **{"labels": None, **facts},
    )
    return partial(write_with_card, architecture=learner.architecture, card=card)
