"""Get and set what a Gluon trainer holds besides the weights: momentum, float32 copies and update counts."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
from mxnet import gluon
from mxnet.gluon import HybridBlock

from gluon_aff.weights.optimizer_states import named_arrays, state_of


def set_up(trainer: gluon.Trainer) -> None:
    """Decide where updates happen, which needs the weights; `Trainer.load_states` does this first too."""
    if not trainer._kv_initialized:
        trainer._init_kvstore()
    if trainer._params_to_init:
        trainer._init_params()


def updaters(trainer: gluon.Trainer) -> List[Any]:
    """Return the objects that hold the optimizer's states: one for each device, or one for all."""
    return [trainer._kvstore._updater] if trainer._update_on_kvstore else trainer._updaters


def fresh_states(trainer: gluon.Trainer) -> List[Dict[int, Any]]:
    """Return the initial states of the parameters with a gradient, by index, for each of the trainer's `updaters`.

    A state is None, an array or a tuple of states. MXNet moves states to the device of the weights at the first update.
    """
    set_up(trainer)
    updating = {index: each for index, each in enumerate(trainer._params) if each.grad_req != "null"}
    create = trainer.optimizer.create_state_multi_precision
    return [
        {index: create(index, each.data(context)) for index, each in updating.items()}
        for context in trainer._contexts[: len(updaters(trainer))]
    ]


def filled(fresh: Any, state: Any) -> Any:
    """Return the `fresh` state, filled with the values of `state`, which has NumPy arrays."""
    if isinstance(fresh, tuple):
        return tuple(map(filled, fresh, state))
    if fresh is not None:
        fresh[:] = np.array(state)  # np.array makes an aligned copy
    return fresh


def replace_states(trainer: gluon.Trainer, states: Sequence[Mapping[int, Any]]) -> None:
    """Give each of the trainer's `updaters` its states, by the parameters' indices."""
    for updater, one in zip(updaters(trainer), states):
        updater.states = dict(one)
        updater.states_synced = dict.fromkeys(one, False)


def set_updates(trainer: gluon.Trainer, updates: int, counts: Optional[Mapping[int, int]] = None) -> None:
    """Set the update count, so that the schedule continues after `updates` steps.

    Args:
        trainer: a trainer before its first step.
        updates: number of updates, 0..2**31 - 1.
        counts: number of updates of each parameter by its index. Parameters that are not listed have `updates`.
    """
    optimizer = trainer.optimizer
    # includes devices that the optimizer has not seen yet
    devices = {0, *(context.device_id for context in trainer._contexts)}
    optimizer.begin_num_update = optimizer.num_update = updates
    optimizer._all_index_update_counts = {device: dict(counts or {}) for device in sorted(devices)}
    optimizer._index_update_count = optimizer._all_index_update_counts[0]


def state_arrays(trainer: gluon.Trainer, net: HybridBlock) -> Dict[str, np.ndarray]:
    """Return the states of all parameters that have been updated, as arrays by the parameters' names in `net`."""
    names = _names(trainer, net)
    states = updaters(trainer)[0].states.items()
    return {key: array.asnumpy() for index, state in states for key, array in named_arrays(names[index], state).items()}


def set_state_arrays(trainer: gluon.Trainer, net: HybridBlock, arrays: Mapping[str, np.ndarray]) -> None:
    """Give the trainer the states that `state_arrays` returned.

    Raises:
        KeyError: a state that the network needs is missing.
    """
    set_up(trainer)
    if arrays:
        names = _names(trainer, net)
        states = [
            {index: filled(state, state_of(names[index], state, arrays)) for index, state in fresh.items()}
            for fresh in fresh_states(trainer)
        ]
        replace_states(trainer, states)


def _names(trainer: gluon.Trainer, net: HybridBlock) -> List[str]:
    """Return the names in `net` of the trainer's parameters, by index."""
    structural = {id(parameter): name for name, parameter in net._collect_params_with_prefix().items()}
    return [structural[id(parameter)] for parameter in trainer._params]
