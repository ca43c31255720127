"""Read and write the `.states` files of a Gluon Trainer, which hold optimizer states, without MXNet.

A `.states` file is a pickle of the parameters' states by index and the optimizer. Loading a pickle can run any code,
and MXNet's loader for the arrays in it ends the process if they are damaged. This reader does neither. It returns the
momentum, the float32 copies of the weights and the update counts.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

import numpy as np

from gluon_aff.errors import InputError
from gluon_aff.files import replacing
from gluon_aff.weights.params_format import LIST_MAGIC, RECORD_MAGICS, RecordReader, read_record, read_version
from gluon_aff.weights.states_pickle import (
    ARRAY,
    OPTIMIZER_MODULE,
    REMEDY,
    Object,
    damaged,
    read_pickle,
    write_pickle,
)

MAX_UPDATES = 2**31 - 1


@dataclass(frozen=True)
class SavedStates:
    """Holds the content of a `.states` file.

    Attributes:
        optimizer: name of the optimizer's class in MXNet.
        states: None, an array, or a tuple of these, by the parameter's index in the trainer.
        counts: number of updates of each parameter by its index; the largest where devices differ.
        updates: number of updates of the network.
    """

    optimizer: str
    states: Mapping[int, Any]
    counts: Dict[int, int]
    updates: int


def read_states(path: str) -> SavedStates:
    """Read and check the `.states` file at `path`, without running code from it.

    Raises:
        InputError: the file is missing or damaged, or is not a `.states` file.
    """
    with _mapped(path) as data:
        if data[:8] == struct.pack("<Q", LIST_MAGIC):
            raise InputError(f"{path} is a .params file: name the .states file next to it with --resume-states")
        content = read_pickle(path, data)
    if not isinstance(content, tuple) or len(content) != 2:
        raise InputError(f"{path} does not hold states and their optimizer: {REMEDY}")
    states, optimizer = content
    if not isinstance(optimizer, Object) or not optimizer.name.startswith(OPTIMIZER_MODULE):
        raise InputError(f"{path} does not hold an optimizer after the states: {REMEDY}")
    if not isinstance(states, dict) or not all(type(index) is int for index in states):
        raise damaged(path, "the states are not numbered")
    counts, updates = _counts(path, optimizer.state, states)
    return SavedStates(
        optimizer=optimizer.name.split()[1],
        states={index: _state(path, f"state {index}", state) for index, state in states.items()},
        counts=counts,
        updates=updates,
    )


def write_states(path: str, optimizer: str, states: Mapping[int, Any], settings: Mapping[str, Any]) -> None:
    """Write a `.states` file that `read_states` and the `load_states` of a Gluon Trainer can read.

    The file appears complete or not at all.

    Args:
        path: file to write.
        optimizer: name of the optimizer's class in MXNet.
        states: None, an array, or a tuple of these, by the parameter's index in the trainer.
        settings: attributes of the optimizer in MXNet.

    Raises:
        GluonAFFError: the file cannot be written.
    """
    with replacing(path) as partial, open(partial, "wb") as file:
        write_pickle(path, file, (dict(states), Object(f"{OPTIMIZER_MODULE} {optimizer}", (), dict(settings))))


def _mapped(path: str) -> mmap.mmap:
    """Map the file at `path` into memory, read-only."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path} is not a regular file: {REMEDY}")
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise InputError(f"{path} is empty: {REMEDY}")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {REMEDY}") from None


def _state(path: str, part: str, state: Any, nested: bool = False) -> Any:
    """Return the state of a parameter: None, an array, or a tuple of these."""
    if state is None:
        return None
    if isinstance(state, tuple) and not nested:
        return tuple(_state(path, part, each, nested=True) for each in state)
    if isinstance(state, Object) and state.name == ARRAY:
        return _array(path, part, state.state)
    raise damaged(path, f"{part} is not an array")


def _array(path: str, part: str, state: Any) -> np.ndarray:
    """Return a view of the array in a record of MXNet's format, after checking all sizes in it."""
    record = state.get("handle") if isinstance(state, dict) else None
    if not isinstance(record, (bytes, bytearray)):
        raise damaged(path, f"{part} has no record")
    if int.from_bytes(record[:4], "little") not in RECORD_MAGICS.values():
        raise damaged(path, f"{part} does not start like an array")
    reader = RecordReader(path, record, part)  # type: ignore[arg-type]
    array, _ = read_record(reader, read_version(reader))
    if reader.offset != len(record):
        raise damaged(path, f"{part}: {len(record) - reader.offset} bytes too many")
    return array


def _counts(path: str, state: Any, states: Mapping[int, Any]) -> Tuple[Dict[int, int], int]:
    """Return the updates of each parameter, the largest number where devices differ, and those of the network."""
    fields = state if isinstance(state, dict) else {}
    updates: Any = fields.get("num_update")
    devices = fields.get("_all_index_update_counts")
    if devices is None:  # written by an older MXNet, which does not count by device
        devices = {0: fields.get("_index_update_count")}
    if not _is_count(updates) or not isinstance(devices, dict):
        raise damaged(path, "the optimizer has no count of updates")
    counts: Dict[int, int] = {}
    for device in devices.values():
        if not isinstance(device, dict) or not all(map(_is_count, device.values())) or not set(device) <= set(states):
            raise damaged(path, "the optimizer counts updates of parameters that have no state")
        for index, count in device.items():
            counts[index] = max(count, counts.get(index, 0))
    if max(counts.values(), default=updates) != updates:
        raise damaged(path, f"the optimizer counts {updates} updates, but its parameters had {max(counts.values())}")
    return counts, updates


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_UPDATES
