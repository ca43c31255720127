"""Check and name optimizer states, and build the optimizer's attributes that MXNet stores in `.states` files.

The state of a parameter is None, an array (the momentum), or a tuple (momentum and the float32 copy of a float16
weight). Its index is the position of the parameter's Gluon name in the sorted list of all Gluon names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, Mapping, Tuple

import numpy as np

from gluon_aff.engines import Optimizer
from gluon_aff.errors import InputError
from gluon_aff.schedule import Schedule
from gluon_aff.weights.params import not_finite
from gluon_aff.weights.states_format import SavedStates, read_states
from gluon_aff.weights.states_pickle import REMEDY, SCHEDULER, SCHEDULERS_IN_TURN, Object

CLASSES = {"nag": "NAG", "sgd": "SGD"}  # MXNet's class for each name of `engines.Optimizer`
AGGREGATED = {"nag": 0, "sgd": 4}  # weights that MXNet updates in one call; 0 means one by one
SCHEDULER_DEFAULTS = {
    "base_lr": 0.01,
    "warmup_steps": 0,
    "warmup_final_lr": 0.01,
    "warmup_begin_lr": 0,
    "warmup_mode": "linear",
}


@dataclass(frozen=True)
class ArrayKind:
    """Describes an array by its shape and type."""

    shape: Tuple[int, ...]
    dtype: np.dtype

    def __str__(self) -> str:
        return f"{self.dtype.name} {'x'.join(map(str, self.shape))}"


def fitting_states(path: str, optimizer: str, expected: Mapping[int, Tuple[str, Any]]) -> SavedStates:
    """Read the states file at `path`, and check that it fits the optimizer and the parameters.

    Args:
        path: file written by a Gluon Trainer of MXNet 1.x or by `write_states`.
        optimizer: name of the optimizer's class in MXNet.
        expected: Gluon name and state of each parameter with a gradient, by its index; the state has an `ArrayKind` in
            place of each array.

    Returns:
        The states; none if the file was written before the first update.

    Raises:
        InputError: the file is missing or damaged, is not a `.states` file, or belongs to another network or optimizer.
    """
    saved = read_states(path)
    if saved.optimizer != optimizer:
        raise InputError(f"{path} has states of {saved.optimizer}, but this run's optimizer is {optimizer}: {REMEDY}")
    if not saved.updates and not saved.states:
        return saved
    if set(saved.states) != set(expected):
        raise InputError(
            f"{path} has states of {len(saved.states)} parameters, but this run trains {len(expected)}: {REMEDY}"
        )
    for index, (name, kind) in expected.items():
        _check(path, name, saved.states[index], kind)
    return saved


def _check(path: str, name: str, saved: Any, kind: Any) -> None:
    """Raise InputError unless the `saved` state of the parameter called `name` has the expected `kind`."""
    if isinstance(kind, tuple) and isinstance(saved, tuple) and len(kind) == len(saved):
        for pair in zip(saved, kind):
            _check(path, name, *pair)
        return
    if kind is None and saved is None:
        return
    found = kind_of(saved)
    if not isinstance(kind, ArrayKind) or not isinstance(found, ArrayKind):
        raise InputError(
            f"{path} has {_described(found)} for {name}, but this run needs {_described(kind)}: "
            "give --momentum and --dtype as in the run that wrote it, or leave --resume-states out"
        )
    if kind != found:
        raise InputError(f"{path} has {found} for {name}, but this network needs {kind}: {REMEDY}")
    if not_finite({name: saved}):
        raise InputError(
            f"{path} has NaN or infinity for {name}: use states from before they appeared, or leave --resume-states out"
        )


def kind_of(state: Any) -> Any:
    """Return the state with an `ArrayKind` in place of each array, which may be any object with `shape` and `dtype`."""
    if isinstance(state, tuple):
        return tuple(map(kind_of, state))
    return None if state is None else ArrayKind(state.shape, np.dtype(state.dtype))


def _described(kind: Any) -> str:
    if isinstance(kind, tuple):
        return f"({', '.join(map(_described, kind))})"
    return "nothing" if kind is None else str(kind)


def named_arrays(name: str, state: Any) -> Dict[str, Any]:
    """Return the arrays of a parameter's state by name: `NAME` for one array, `NAME:0`, `NAME:1` for a tuple."""
    if state is None:
        return {}
    if isinstance(state, tuple):
        return {key: array for i, part in enumerate(state) for key, array in named_arrays(f"{name}:{i}", part).items()}
    return {name: state}


def state_of(name: str, kind: Any, arrays: Mapping[str, Any]) -> Any:
    """Rebuild a state of the given `kind` from the arrays that `named_arrays` returned.

    Raises:
        KeyError: an array is missing.
    """
    if isinstance(kind, tuple):
        return tuple(state_of(f"{name}:{i}", part, arrays) for i, part in enumerate(kind))
    return None if kind is None else arrays[name]


def optimizer_attributes(
    optimizer: Optimizer, updates: int, indices: Iterable[int], batch: int, multi_precision: bool
) -> Dict[str, Any]:
    """Return the attributes that MXNet's NAG or SGD has in a Gluon Trainer.

    Args:
        optimizer: optimizer called nag or sgd.
        updates: number of updates so far.
        indices: indices of the parameters with a gradient.
        batch: images in an update, over all processes.
        multi_precision: True if float16 weights have float32 copies.
    """
    schedule = optimizer.rate if isinstance(optimizer.rate, Schedule) else None
    counts = dict.fromkeys(indices, updates) if updates else {}
    return {
        "rescale_grad": 1 / batch if updates else 1.0,
        "lr_scheduler": None if schedule is None else gluoncv_scheduler(schedule, updates),
        "lr": optimizer.rate if schedule is None else None,
        "wd": optimizer.wd,
        "lr_mult": {},
        "wd_mult": {},
        "begin_num_update": 0,
        "num_update": updates,
        "_all_index_update_counts": {0: counts},
        "_index_update_count": counts,
        "clip_gradient": None,
        "multi_precision": multi_precision,
        "aggregate_num": AGGREGATED[optimizer.name],
        "idx2name": {},
        "sym_info": (),
        "allow_np_array": False,
        "momentum": optimizer.momentum or 0.0,
        **({"lazy_update": True} if optimizer.name == "sgd" else {}),
    }


def gluoncv_scheduler(schedule: Schedule, updates: int) -> Object:
    """Return GluonCV's scheduler objects for `schedule` in their state after `updates` updates.

    Each part of the schedule keeps the last learning rate that it returned.
    """
    warmup, steps = schedule.warmup_steps, schedule.warmup_steps + schedule.steps_after
    first, last = min(1, steps - 1), min(updates, steps - 1)  # first and last update whose rate was computed
    warm_up = _scheduler("linear", warmup, 0, schedule.base)
    after = _scheduler(
        schedule.mode,
        schedule.steps_after,
        schedule.base,
        0,
        step=[cut * schedule.steps_per_epoch for cut in schedule.cuts],
        offset=warmup,
        power=schedule.power,
        step_factor=schedule.factor,
    )
    if updates and first < warmup:
        warm_up["learning_rate"] = schedule.rate(min(last, warmup - 1))
    if updates and last >= warmup:
        after["learning_rate"] = schedule.rate(last)
    in_turn = {
        **SCHEDULER_DEFAULTS,
        "update_sep": [warmup, steps],
        "count": steps,
        "learning_rate": schedule.rate(last) if updates else 0,
        "schedulers": [Object(SCHEDULER, (), part) for part in (warm_up, after)],
    }
    return Object(SCHEDULERS_IN_TURN, (), in_turn)


def _scheduler(mode: str, steps: int, base: float, target: float, **changes: Any) -> Dict[str, Any]:
    """Return the attributes of GluonCV's LRScheduler before it has computed a learning rate."""
    if steps == 1:  # GluonCV divides by steps - 1
        mode = "constant"
    return {
        **SCHEDULER_DEFAULTS,
        "base_lr": base,
        "mode": mode,
        "target_lr": base if mode == "constant" else target,
        "niters": steps,
        "step": None,
        "offset": 0,
        "power": 2,
        "step_factor": 0.1,
        **changes,
    }
