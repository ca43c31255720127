"""What a Gluon trainer holds besides the weights: momentum, the weights' float32 copies, update counts."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.gluon import HybridBlock


def set_up(trainer: gluon.Trainer) -> None:
    """What `Trainer.load_states` does first: decide where updates happen, which needs the weights."""
    if not trainer._kv_initialized:
        trainer._init_kvstore()
    if trainer._params_to_init:
        trainer._init_params()


def state_contexts(trainer: gluon.Trainer) -> List[mx.Context]:
    """Where the states of each updater go; MXNet moves them to its weights at the first update."""
    return trainer._contexts[: len(_updaters(trainer))]


def fresh_state(trainer: gluon.Trainer, index: int, context: mx.Context) -> Any:
    """State that the trainer's parameter of that index starts with: None, an array or a tuple of these."""
    weight = trainer._params[index].data(context)
    return trainer.optimizer.create_state_multi_precision(index, weight)


def replace_states(trainer: gluon.Trainer, states: Sequence[Mapping[int, Any]]) -> None:
    """Give the trainer the states of each of its `state_contexts`, by the parameters' index."""
    for updater, one in zip(_updaters(trainer), states):
        updater.states = dict(one)
        updater.states_synced = dict.fromkeys(one, False)


def set_updates(trainer: gluon.Trainer, updates: int, counts: Optional[Mapping[int, int]] = None) -> None:
    """Let the schedule of `trainer` go on after `updates` steps.

    Args:
        trainer: before its first step.
        updates: in 0..2**31 - 1.
        counts: updates of each parameter by its index; `updates` where it says nothing.
    """
    optimizer = trainer.optimizer
    devices = {0, *(context.device_id for context in trainer._contexts)}  # also those that it has not seen
    optimizer.begin_num_update = optimizer.num_update = updates
    optimizer._all_index_update_counts = {device: dict(counts or {}) for device in sorted(devices)}
    optimizer._index_update_count = optimizer._all_index_update_counts[0]


def state_arrays(trainer: gluon.Trainer, net: HybridBlock) -> Dict[str, np.ndarray]:
    """The states of all parameters that have had an update, as arrays by the parameters' names in `net`."""
    names = _names(trainer, net)
    states = _updaters(trainer)[0].states.items()
    return {key: array.asnumpy() for index, state in states for key, array in _flat(names[index], state).items()}


def set_state_arrays(trainer: gluon.Trainer, net: HybridBlock, arrays: Mapping[str, np.ndarray]) -> None:
    """Give the trainer the states that `state_arrays` returned.

    Raises:
        KeyError: one that the network needs is not among them.
    """
    set_up(trainer)
    if arrays:
        names = _names(trainer, net)
        updating = [index for index, parameter in enumerate(trainer._params) if parameter.grad_req != "null"]
        replace_states(
            trainer,
            [
                {index: _filled(names[index], fresh_state(trainer, index, context), arrays) for index in updating}
                for context in state_contexts(trainer)
            ],
        )


def _updaters(trainer: gluon.Trainer) -> List[Any]:
    return [trainer._kvstore._updater] if trainer._update_on_kvstore else trainer._updaters


def _names(trainer: gluon.Trainer, net: HybridBlock) -> List[str]:
    """Names in `net` of the trainer's parameters, by index."""
    structural = {id(parameter): name for name, parameter in net._collect_params_with_prefix().items()}
    return [structural[id(parameter)] for parameter in trainer._params]


def _flat(name: str, state: Any) -> Dict[str, mx.nd.NDArray]:
    """The arrays of a state by `name`, with their places in tuples behind it."""
    if state is None:
        return {}
    if isinstance(state, tuple):
        return {key: array for i, part in enumerate(state) for key, array in _flat(f"{name}:{i}", part).items()}
    return {name: state}


def _filled(name: str, fresh: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The `fresh` state with the arrays that `_flat` named."""
    for key, array in _flat(name, fresh).items():
        array[:] = np.array(arrays[key])  # a copy, aligned
    return fresh
