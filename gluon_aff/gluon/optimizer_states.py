"""Optimizer states of a Gluon Trainer: written as MXNet does, loaded without running what the file says."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from gluon_aff.errors import InputError
from gluon_aff.files import replacing
from gluon_aff.gluon.gluoncv import torch_out_of_sight
from gluon_aff.gluon.schedule import Scheduler
from gluon_aff.gluon.trainer_states import fresh_state, replace_states, set_up, set_updates, state_contexts
from gluon_aff.weights.params import not_finite
from gluon_aff.weights.states_format import REMEDY, read_states


def save_states(trainer: gluon.Trainer, path: str) -> None:
    """Write the optimizer states of `trainer` to `path`, whole or not at all, as `trainer.save_states` does.

    A `Scheduler` is GluonCV's in the file, as the original's is, which can load it.

    Raises:
        GluonAFFError: if that cannot be written.
    """
    optimizer, schedule = trainer.optimizer, trainer.optimizer.lr_scheduler
    if isinstance(schedule, Scheduler):
        optimizer.lr_scheduler = schedule.gluoncv(optimizer.num_update)
    try:
        with replacing(path) as partial, torch_out_of_sight():  # pickle imports GluonCV, if something has dropped it
            trainer.save_states(partial)
    finally:
        optimizer.lr_scheduler = schedule


def load_states(trainer: gluon.Trainer, path: str) -> int:
    """Give `trainer` the momentum, float32 weights and update counts of the states file at `path`; return the updates.

    Nothing the file says is run. Schedule, learning rate, weight decay and momentum factor stay the trainer's.

    Args:
        trainer: its parameters initialised, with weights loaded before; optimizer NAG or SGD.
        path: file that `save_states`, or any Gluon Trainer of MXNet 1.x, wrote.

    Raises:
        InputError: if the file is missing, damaged, something else, or of another network or optimizer. The trainer is
            then as it was.
    """
    saved = read_states(path)
    optimizer = type(trainer.optimizer).__name__
    if saved.optimizer != optimizer:
        raise InputError(f"{path} has states of {saved.optimizer}, this run's optimizer is {optimizer}: {REMEDY}")
    set_up(trainer)
    updating = {index: each for index, each in enumerate(trainer._params) if each.grad_req != "null"}
    begun = saved.updates > 0 or len(saved.states) > 0
    if begun and set(saved.states) != set(updating):
        raise InputError(
            f"{path} has states of {len(saved.states)} parameters, not of the {len(updating)} trained here: {REMEDY}"
        )
    loaded = [
        {
            index: _filled(path, each.name, saved.states[index], fresh_state(trainer, index, context))
            for index, each in updating.items()
            if begun
        }
        for context in state_contexts(trainer)
    ]
    replace_states(trainer, loaded)
    set_updates(trainer, saved.updates, saved.counts)
    return saved.updates


def _filled(path: str, name: str, saved: Any, fresh: Any) -> Any:
    """The `fresh` state of the parameter called `name`, with the arrays of the `saved` one."""
    if isinstance(fresh, tuple) and isinstance(saved, tuple) and len(fresh) == len(saved):
        return tuple(_filled(path, name, *pair) for pair in zip(saved, fresh))
    if fresh is None and saved is None:
        return None
    if not isinstance(fresh, mx.nd.NDArray) or not isinstance(saved, np.ndarray):
        raise InputError(
            f"{path} has for {name} {_described(saved)}, this run needs {_described(fresh)}: "
            "give --momentum and --dtype as in the run that wrote it, or leave --resume-states out"
        )
    if fresh.shape != saved.shape or np.dtype(fresh.dtype) != saved.dtype:
        raise InputError(f"{path} has for {name} {_described(saved)}, this network needs {_described(fresh)}: {REMEDY}")
    if not_finite({name: saved}):
        raise InputError(
            f"{path} has NaN or infinity for {name}: take states from before that, or leave --resume-states out"
        )
    fresh[:] = np.array(saved)  # a copy, aligned
    return fresh


def _described(state: Any) -> str:
    if state is None:
        return "nothing"
    if isinstance(state, tuple):
        return f"({', '.join(map(_described, state))})"
    return f"{np.dtype(state.dtype).name} {'x'.join(map(str, state.shape))}"
