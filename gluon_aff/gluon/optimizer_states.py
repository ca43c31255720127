"""Write a Gluon Trainer's optimizer states as MXNet does, and load them without running anything in the file."""

from __future__ import annotations

from typing import Any

from mxnet import gluon

from gluon_aff.gluon.schedule import Scheduler
from gluon_aff.gluon.trainer_states import filled, fresh_states, replace_states, set_up, set_updates, updaters
from gluon_aff.weights.optimizer_states import fitting_states, gluoncv_scheduler, kind_of
from gluon_aff.weights.states_format import write_states


def save_states(trainer: gluon.Trainer, path: str) -> None:
    """Write the optimizer states of `trainer` to `path` as `trainer.save_states` does, whole or not at all.

    In the file, a `Scheduler` becomes GluonCV's, as in the original's files, so that the original can load it.

    Raises:
        GluonAFFError: the file cannot be written.
    """
    set_up(trainer)
    optimizer = trainer.optimizer
    attributes = optimizer.__getstate__()
    if isinstance(optimizer.lr_scheduler, Scheduler):
        attributes["lr_scheduler"] = gluoncv_scheduler(optimizer.lr_scheduler.schedule, optimizer.num_update)
    states = {index: _as_numpy(state) for index, state in updaters(trainer)[0].states.items()}
    write_states(path, type(optimizer).__name__, states, attributes)


def load_states(trainer: gluon.Trainer, path: str) -> int:
    """Load momentum, float32 weights and update counts from the states file at `path`; return the number of updates.

    Nothing in the file is run. Schedule, learning rate, weight decay and momentum factor stay those of the trainer.

    Args:
        trainer: a trainer with the optimizer NAG or SGD. Its parameters are initialised, and any weights are already
            loaded.
        path: file that `save_states` or any Gluon Trainer of MXNet 1.x wrote.

    Raises:
        InputError: the file is missing or damaged, is not a states file, or belongs to another network or optimizer.
            The trainer does not change then.
    """
    fresh = fresh_states(trainer)
    expected = {index: (trainer._params[index].name, kind_of(state)) for index, state in fresh[0].items()}
    saved = fitting_states(path, type(trainer.optimizer).__name__, expected)
    states = [{index: filled(one[index], state) for index, state in saved.states.items()} for one in fresh]
    replace_states(trainer, states)
    set_updates(trainer, saved.updates, saved.counts)
    return saved.updates


def _as_numpy(state: Any) -> Any:
    """Return the state with NumPy arrays."""
    if isinstance(state, tuple):
        return tuple(map(_as_numpy, state))
    return None if state is None else state.asnumpy()
