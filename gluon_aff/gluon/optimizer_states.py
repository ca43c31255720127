"""Optimizer states of a Gluon Trainer: written as MXNet does, loaded without running what the file says."""

from __future__ import annotations

from typing import Any

from mxnet import gluon

from gluon_aff.gluon.schedule import Scheduler
from gluon_aff.gluon.trainer_states import filled, fresh_states, replace_states, set_up, set_updates, updaters
from gluon_aff.weights.optimizer_states import fitting_states, gluoncv_scheduler, kind_of
from gluon_aff.weights.states_format import write_states


def save_states(trainer: gluon.Trainer, path: str) -> None:
    """Write the optimizer states of `trainer` to `path`, whole or not at all, as `trainer.save_states` does.

    A `Scheduler` is GluonCV's in the file, as the original's is, which can load it.

    Raises:
        GluonAFFError: if that cannot be written.
    """
    set_up(trainer)
    optimizer = trainer.optimizer
    attributes = optimizer.__getstate__()
    if isinstance(optimizer.lr_scheduler, Scheduler):
        attributes["lr_scheduler"] = gluoncv_scheduler(optimizer.lr_scheduler.schedule, optimizer.num_update)
    states = {index: _as_numpy(state) for index, state in updaters(trainer)[0].states.items()}
    write_states(path, type(optimizer).__name__, states, attributes)


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
    fresh = fresh_states(trainer)
    expected = {index: (trainer._params[index].name, kind_of(state)) for index, state in fresh[0].items()}
    saved = fitting_states(path, type(trainer.optimizer).__name__, expected)
    states = [{index: filled(one[index], state) for index, state in saved.states.items()} for one in fresh]
    replace_states(trainer, states)
    set_updates(trainer, saved.updates, saved.counts)
    return saved.updates


def _as_numpy(state: Any) -> Any:
    """The state with NumPy's arrays."""
    if isinstance(state, tuple):
        return tuple(map(_as_numpy, state))
    return None if state is None else state.asnumpy()
