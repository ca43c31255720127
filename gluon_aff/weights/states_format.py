"""Optimizer states (`.states` files of a Gluon Trainer), read without MXNet and without running what they say.

A `.states` file is a pickle of (state of each parameter by its index, optimizer). A pickle is a program whose
instructions may call anything, and MXNet's own loader of the arrays in it ends the process where they are damaged. Here
the few instructions that such files consist of are followed without calling anything: an object is a class's name, its
arguments and its state. From these come the momentum arrays, the weights' float32 copies and the update counts.
"""

from __future__ import annotations

import mmap
import os
import pickle
import pickletools
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Callable, Dict, List, Mapping, Tuple

import numpy as np

from gluon_aff.errors import InputError
from gluon_aff.weights.params_format import LIST_MAGIC, RECORD_MAGICS, RecordReader, read_record, read_version

ARRAY = "mxnet.ndarray.ndarray NDArray"
BYTES = "builtins bytearray"
OPTIMIZERS = ("NAG", "SGD")
OPTIMIZER_MODULE = "mxnet.optimizer.optimizer"
SCHEDULERS = (
    "gluoncv.utils.lr_scheduler LRScheduler",
    "gluoncv.utils.lr_scheduler LRSequential",
    "mxnet.lr_scheduler LRScheduler",
    "mxnet.lr_scheduler FactorScheduler",
    "mxnet.lr_scheduler MultiFactorScheduler",
    "mxnet.lr_scheduler PolyScheduler",
    "mxnet.lr_scheduler CosineScheduler",
)
CONSTANTS = (
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
MAX_UPDATES = 2**31 - 1
NAME_LENGTH_IN_MESSAGE = 80
REMEDY = "name a .states file of this network's training, or leave --resume-states out"


@dataclass(frozen=True)
class _Class:
    """A class that a pickle names; `name` is its module and its name."""

    name: str


@dataclass
class _Object:
    """What a pickle says of an object, which is not made: its class's name, what it is made from, its state."""

    name: str
    arguments: Tuple[Any, ...]
    state: Any = None


# Types of the arguments that objects are made from
CLASSES: Dict[str, Tuple[type, ...]] = {
    ARRAY: (type(None),),
    BYTES: (bytes,),
    "numpy dtype": (str, bool, bool),
    "numpy.core.multiarray scalar": (_Object, bytes),
    **{f"{OPTIMIZER_MODULE} {name}": () for name in OPTIMIZERS},
    **{name: () for name in SCHEDULERS},
}


@dataclass(frozen=True)
class SavedStates:
    """What a `.states` file holds.

    Attributes:
        optimizer: its class's name.
        states: None, an array, or a tuple of these, by the parameter's index in the trainer.
        counts: updates of each parameter by its index, the most of any device.
        updates: updates of the network.
    """

    optimizer: str
    states: Mapping[int, Any]
    counts: Dict[int, int]
    updates: int


def read_states(path: str) -> SavedStates:
    """What the `.states` file at `path` says, checked; nothing it says is run.

    Raises:
        InputError: if the file is missing, damaged or something else.
    """
    with _mapped(path) as data:
        if data[:8] == struct.pack("<Q", LIST_MAGIC):
            raise InputError(f"{path} is a .params file: name the .states file beside it with --resume-states")
        try:
            content = _Pickle(path, data).content()
        except InputError:
            raise
        except (ValueError, IndexError, KeyError, OverflowError) as error:
            raise _damaged(path, f"byte {data.tell()}: {_short(error)}") from None
    if not isinstance(content, tuple) or len(content) != 2:
        raise InputError(f"{path} does not hold states and their optimizer: {REMEDY}")
    states, optimizer = content
    if not isinstance(optimizer, _Object) or not optimizer.name.startswith(OPTIMIZER_MODULE):
        raise InputError(f"{path} does not hold an optimizer behind the states: {REMEDY}")
    if not isinstance(states, dict) or not all(type(index) is int for index in states):
        raise _damaged(path, "the states are not numbered")
    counts, updates = _counts(path, optimizer.state, states)
    return SavedStates(
        optimizer=optimizer.name.split()[1],
        states={index: _state(path, f"state {index}", state) for index, state in states.items()},
        counts=counts,
        updates=updates,
    )


def _mapped(path: str) -> mmap.mmap:
    """Map the file at `path`, to read only."""
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
    """State of a parameter: None, an array, or a tuple of these."""
    if state is None:
        return None
    if isinstance(state, tuple) and not nested:
        return tuple(_state(path, part, each, nested=True) for each in state)
    if isinstance(state, _Object) and state.name == ARRAY:
        return _array(path, part, state.state)
    raise _damaged(path, f"{part} is no array")


def _array(path: str, part: str, state: Any) -> np.ndarray:
    """View of an array in its record of MXNet's format, no length in which is believed."""
    record = state.get("handle") if isinstance(state, dict) else None
    if not isinstance(record, (bytes, bytearray)):
        raise _damaged(path, f"{part} has no record")
    if int.from_bytes(record[:4], "little") not in RECORD_MAGICS.values():
        raise _damaged(path, f"{part} does not start as an array")
    reader = RecordReader(path, record, part)  # type: ignore[arg-type]
    array, _ = read_record(reader, read_version(reader))
    if reader.offset != len(record):
        raise _damaged(path, f"{part}: {len(record) - reader.offset} bytes too many")
    return array


def _counts(path: str, state: Any, states: Mapping[int, Any]) -> Tuple[Dict[int, int], int]:
    """Updates of each parameter that has a state, the most of any device, and of the network."""
    fields = state if isinstance(state, dict) else {}
    updates, devices = fields.get("num_update", -1), fields.get("_all_index_update_counts")
    if devices is None:  # MXNet before it counted by device
        devices = {0: fields.get("_index_update_count")}
    if not _is_count(updates) or not isinstance(devices, dict):
        raise _damaged(path, "the optimizer has no count of updates")
    counts: Dict[int, int] = {}
    for device in devices.values():
        if not isinstance(device, dict) or not all(map(_is_count, device.values())) or not set(device) <= set(states):
            raise _damaged(path, "the optimizer's counts of updates are not those of the states")
        for index, count in device.items():
            counts[index] = max(count, counts.get(index, 0))
    if max(counts.values(), default=updates) != updates:
        raise _damaged(path, f"{updates} updates, of which the parameters had {max(counts.values())}")
    return counts, updates


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_UPDATES


class _Pickle:
    """Reads a pickle of states: follows the instructions that make data, and refuses all others."""

    def __init__(self, path: str, data: mmap.mmap) -> None:
        self.path = path
        self.data: BinaryIO = data  # type: ignore[assignment]
        self.stack: List[Any] = []
        self.below: List[List[Any]] = []  # stacks put aside by MARK
        self.memo: Dict[int, Any] = {}

    def content(self) -> Any:
        """The object in the file, which has to end with it."""
        while True:
            code = self.data.read(1).decode("latin-1")
            known = OPCODES.get(code)
            if known is None:
                raise ValueError(f"{code!r} is no instruction of a pickle" if code else "it ends too early")
            if known.name == "STOP":
                break
            if known.name not in INSTRUCTIONS:
                raise self.refused(f"the pickle instruction {known.name}")
            argument = known.arg.reader(self.data) if known.arg else None
            INSTRUCTIONS[known.name](self, argument)
        (content,) = self.stack
        if self.below or self.data.read(1):
            raise ValueError("it does not end where it should")
        return content

    def refused(self, what: str) -> InputError:
        """Error for what states do not need."""
        return InputError(f"{self.path} asks for {what}, which no optimizer states need; nothing was run: {REMEDY}")

    def pop_marked(self) -> List[Any]:
        """Take what came since the last MARK."""
        marked = self.stack
        self.stack = self.below.pop()
        return marked

    def push_tuple(self, length: int) -> None:
        """Put the last values into a tuple."""
        if length > len(self.stack):
            raise ValueError("values are missing")
        start = len(self.stack) - length
        self.stack[start:] = [tuple(self.stack[start:])]

    def push_marked_tuple(self) -> None:
        """Put what came since the last MARK into a tuple."""
        marked = self.pop_marked()
        self.stack.append(tuple(marked))

    def mark(self) -> None:
        """Put the stack aside."""
        self.below.append(self.stack)
        self.stack = []

    def extend(self, values: List[Any]) -> None:
        """Append `values` to the list on top."""
        if not isinstance(self.stack[-1], list):
            raise ValueError("there is no list to extend")
        self.stack[-1].extend(values)

    def set_items(self, pairs: List[Any]) -> None:
        """Put keys and values, in turn, into the dictionary on top."""
        keys = pairs[::2]
        if not isinstance(self.stack[-1], dict) or len(pairs) % 2 or not {type(key) for key in keys} <= {int, str}:
            raise ValueError("there is no dictionary of names or numbers to fill")
        self.stack[-1].update(zip(keys, pairs[1::2]))

    def push_class(self, module: Any, name: Any) -> None:
        """Push one of the `CLASSES`."""
        if f"{module} {name}" not in CLASSES:
            raise self.refused(_short(f"{module}.{name}"))
        self.stack.append(_Class(f"{module} {name}"))

    def make(self) -> None:
        """Put an object in place of its class and arguments, with nothing called."""
        arguments, made = self.stack.pop(), self.stack.pop()
        if not isinstance(made, _Class):
            raise self.refused("a call of what is no class")
        if not isinstance(arguments, tuple) or tuple(map(type, arguments)) != CLASSES[made.name]:
            raise self.refused(f"{made.name.replace(' ', '.')} made from something else than states are")
        self.stack.append(arguments[0] if made.name == BYTES else _Object(made.name, arguments))

    def build(self) -> None:
        """Give the object on top its state."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Object) or target.state is not None:
            raise self.refused("a state for what has none")
        target.state = state


def _push(machine: _Pickle, value: Any) -> None:
    machine.stack.append(value)


def _remember(machine: _Pickle, number: int) -> None:
    machine.memo[number] = machine.stack[-1]


def _check_protocol(machine: _Pickle, protocol: int) -> None:
    if protocol > pickle.HIGHEST_PROTOCOL:
        raise ValueError(f"there is no protocol {protocol}")


def _names(machine: _Pickle) -> List[Any]:
    """Module and name of a class, taken from the stack."""
    machine.push_tuple(2)
    return [name if isinstance(name, str) else "?" for name in machine.stack.pop()]


# What each of the instructions that data consists of does, given the argument that follows it in the file
INSTRUCTIONS: Dict[str, Callable[[_Pickle, Any], None]] = {
    **dict.fromkeys(CONSTANTS, _push),
    "NONE": _push,
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "MARK": lambda machine, _: machine.mark(),
    "TUPLE": lambda machine, _: machine.push_marked_tuple(),
    "TUPLE1": lambda machine, _: machine.push_tuple(1),
    "TUPLE2": lambda machine, _: machine.push_tuple(2),
    "TUPLE3": lambda machine, _: machine.push_tuple(3),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_marked()),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(), machine.stack.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_marked()),
    "MEMOIZE": lambda machine, _: _remember(machine, len(machine.memo)),
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "BINGET": lambda machine, number: machine.stack.append(machine.memo[number]),
    "LONG_BINGET": lambda machine, number: machine.stack.append(machine.memo[number]),
    "GLOBAL": lambda machine, names: machine.push_class(*names.partition(" ")[::2]),
    "STACK_GLOBAL": lambda machine, _: machine.push_class(*_names(machine)),
    "REDUCE": lambda machine, _: machine.make(),
    "NEWOBJ": lambda machine, _: machine.make(),
    "BUILD": lambda machine, _: machine.build(),
    "PROTO": _check_protocol,
    "FRAME": lambda machine, _: None,
}


def _damaged(path: str, what: str) -> InputError:
    return InputError(f"{path} is damaged ({what}): {REMEDY}")


def _short(what: object) -> str:
    """`what` in a line of its own, at most so long."""
    text = str(what).encode("unicode_escape").decode()
    return text if len(text) <= NAME_LENGTH_IN_MESSAGE else f"{text[:NAME_LENGTH_IN_MESSAGE]}..."
