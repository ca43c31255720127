"""Read and write pickles of optimizer states without running code from them and without importing their classes.

A pickle is a program whose instructions can call any function. This reader follows only the few instructions that
occur in the states of a Gluon Trainer, and calls nothing: it represents an object by the name of its class, its
arguments and its state.
"""

from __future__ import annotations

import mmap
import pickle
import pickletools
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Callable, Dict, Iterable, List, Tuple

import numpy as np

from gluon_aff.errors import InputError
from gluon_aff.weights.params_format import CPU, DEFAULT_VERSION, record_head

ARRAY = "mxnet.ndarray.ndarray NDArray"
BYTES = "builtins bytearray"
OPTIMIZERS = {"NAG", "SGD"}
OPTIMIZER_MODULE = "mxnet.optimizer.optimizer"
SCHEDULER = "gluoncv.utils.lr_scheduler LRScheduler"
SCHEDULERS_IN_TURN = "gluoncv.utils.lr_scheduler LRSequential"
SCHEDULERS = {
    SCHEDULER,
    SCHEDULERS_IN_TURN,
    "mxnet.lr_scheduler LRScheduler",
    "mxnet.lr_scheduler FactorScheduler",
    "mxnet.lr_scheduler MultiFactorScheduler",
    "mxnet.lr_scheduler PolyScheduler",
    "mxnet.lr_scheduler CosineScheduler",
}
NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
TEXTS = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
BYTE_STRINGS = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
PROTOCOL = 3  # readable by every Python 3
NAME_LENGTH_IN_MESSAGE = 80
REMEDY = "name a .states file of this network's training, or leave --resume-states out"


@dataclass(frozen=True)
class _Class:
    """Stands for a class that a pickle names; `name` is the module and the class, separated by a space."""

    name: str


@dataclass
class Object:
    """Stands for an object in a pickle, by the name of its class, its arguments and its state; it is not created."""

    name: str
    arguments: Tuple[Any, ...]
    state: Any = None


# Types of the arguments that objects of each class are created with
CLASSES: Dict[str, Tuple[type, ...]] = {
    ARRAY: (type(None),),
    BYTES: (bytes,),
    "numpy dtype": (str, bool, bool),
    "numpy.core.multiarray scalar": (Object, bytes),
    **{f"{OPTIMIZER_MODULE} {name}": () for name in OPTIMIZERS},
    **{name: () for name in SCHEDULERS},
}


def read_pickle(path: str, data: mmap.mmap) -> Any:
    """Return the content of the mapped file at `path`, with an `Object` for each object; no code from it is run.

    Raises:
        InputError: the file is damaged, or has an instruction or a class that optimizer states do not need.
    """
    try:
        return _Pickle(path, data).content()
    except InputError:
        raise
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise damaged(path, f"byte {data.tell()}: {short(error)}") from None


def write_pickle(path: str, file: BinaryIO, content: Any) -> None:
    """Write `content` to `file`.

    Arrays are written as MXNet's arrays on the CPU. A list, a dictionary or an object that occurs several times is
    written once.

    Args:
        path: what a message calls the file.
        file: open file to write to.
        content: numbers, texts, None, tuples, lists, dictionaries, arrays and `Object`s, nested in any way.
    """
    writer = _Writer(path, file)
    file.write(pickle.PROTO + bytes([PROTOCOL]))
    writer.write(content)
    file.write(pickle.STOP)


class _Writer:
    """Writes the pickle instructions that create a value."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.memo: Dict[int, bytes] = {}  # pickle number of each written value, by the value's id()

    def write(self, value: Any) -> None:
        """Write a value of any kind."""
        if value is None:
            self.file.write(pickle.NONE)
        elif isinstance(value, bool):
            self.file.write(pickle.NEWTRUE if value else pickle.NEWFALSE)
        elif isinstance(value, int):
            self.file.write(pickle.BININT + struct.pack("<i", value))
        elif isinstance(value, float):
            self.file.write(pickle.BINFLOAT + struct.pack(">d", value))
        elif isinstance(value, str):
            self.file.write(pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode())
        elif isinstance(value, np.ndarray):
            self.write_array(value)
        elif isinstance(value, tuple):
            self.write_marked(value, pickle.TUPLE)
        elif id(value) in self.memo:
            self.file.write(pickle.LONG_BINGET + self.memo[id(value)])
        else:
            self.write_once(value)

    def write_once(self, value: Any) -> None:
        """Write a list, a dictionary or an object, and remember its number."""
        if isinstance(value, Object):
            self.write_class(value.name)
            self.write(value.arguments)
            self.file.write(pickle.NEWOBJ)
        else:
            self.file.write(pickle.EMPTY_LIST if isinstance(value, list) else pickle.EMPTY_DICT)
        self.memo[id(value)] = struct.pack("<I", len(self.memo))
        self.file.write(pickle.LONG_BINPUT + self.memo[id(value)])
        if isinstance(value, Object):
            self.write(value.state)
            self.file.write(pickle.BUILD)
        elif isinstance(value, list):
            self.write_marked(value, pickle.APPENDS)
        else:
            self.write_marked([each for pair in value.items() for each in pair], pickle.SETITEMS)

    def write_marked(self, values: Iterable[Any], instruction: bytes) -> None:
        """Write a mark, the values, and the instruction that takes all values since the mark."""
        self.file.write(pickle.MARK)
        for value in values:
            self.write(value)
        self.file.write(instruction)

    def write_array(self, array: np.ndarray) -> None:
        """Write an array as an NDArray of MXNet."""
        head = record_head(self.path, "optimizer state", array, DEFAULT_VERSION, CPU)
        values = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        self.write_class(ARRAY)
        self.write((None,))
        self.file.write(pickle.REDUCE + pickle.EMPTY_DICT)
        self.write("handle")
        self.write_class(BYTES)
        self.file.write(pickle.BINBYTES + struct.pack("<I", len(head) + values.nbytes) + head)
        self.file.write(values.data)
        self.file.write(pickle.TUPLE1 + pickle.REDUCE + pickle.SETITEM + pickle.BUILD)

    def write_class(self, name: str) -> None:
        """Write a reference to one of the `CLASSES`."""
        self.file.write(pickle.GLOBAL + name.replace(" ", "\n").encode() + b"\n")


class _Pickle:
    """Reads a pickle of states: follows the instructions that create data, and refuses all others."""

    def __init__(self, path: str, data: mmap.mmap) -> None:
        self.path = path
        self.data: BinaryIO = data  # type: ignore[assignment]
        self.stack: List[Any] = []
        self.below: List[List[Any]] = []  # stacks that MARK has set aside
        self.memo: Dict[int, Any] = {}

    def content(self) -> Any:
        """Return the object in the file.

        Raises:
            InputError: the file has an instruction or a class that optimizer states do not need.
            ValueError: the file is damaged, or goes on after the object.
        """
        while True:
            code = self.data.read(1).decode("latin-1")
            known = OPCODES.get(code)
            if known is None:
                raise ValueError(f"{code!r} is not a pickle instruction" if code else "it ends too early")
            if known.name == "STOP":
                break
            if known.name not in INSTRUCTIONS:
                raise self.refused(f"the pickle instruction {known.name}")
            INSTRUCTIONS[known.name](self, self.argument(known))
        (content,) = self.stack
        if self.below or self.data.read(1):
            raise ValueError("it does not end where it should")
        return content

    def argument(self, opcode: pickletools.OpcodeInfo) -> Any:
        """Read the argument that follows an instruction in the file."""
        if opcode.name == "GLOBAL":  # the standard library's reader warns of unusual characters here
            return f"{self.read_line()} {self.read_line()}"
        return opcode.arg.reader(self.data) if opcode.arg else None

    def read_line(self) -> str:
        """Read the text up to the end of the line."""
        line = self.data.readline()
        if not line.endswith(b"\n"):
            raise ValueError("it ends in a name")
        return line[:-1].decode()

    def refused(self, what: str) -> InputError:
        """Return the error for an instruction, class or call that optimizer states do not need."""
        return InputError(f"{self.path} contains {what}, which no optimizer states need; nothing was run: {REMEDY}")

    def pop_marked(self) -> List[Any]:
        """Remove and return the values since the last MARK."""
        marked = self.stack
        self.stack = self.below.pop()
        return marked

    def push_tuple(self, length: int) -> None:
        """Replace the last `length` values by a tuple of them."""
        if length > len(self.stack):
            raise ValueError("values are missing")
        start = len(self.stack) - length
        self.stack[start:] = [tuple(self.stack[start:])]

    def push_marked_tuple(self) -> None:
        """Push a tuple of the values since the last MARK."""
        marked = self.pop_marked()
        self.stack.append(tuple(marked))

    def mark(self) -> None:
        """Set the stack aside and start a new one."""
        self.below.append(self.stack)
        self.stack = []

    def extend(self, values: List[Any]) -> None:
        """Append `values` to the list on top."""
        if not isinstance(self.stack[-1], list):
            raise ValueError("there is no list to extend")
        self.stack[-1].extend(values)

    def set_items(self, pairs: List[Any]) -> None:
        """Put `pairs`, which alternate between keys and values, into the dictionary on top."""
        keys = pairs[::2]
        if not isinstance(self.stack[-1], dict) or len(pairs) % 2 or not {type(key) for key in keys} <= {int, str}:
            raise ValueError("there is no dictionary of names or numbers to fill")
        self.stack[-1].update(zip(keys, pairs[1::2]))

    def push_class(self, module: Any, name: Any) -> None:
        """Push one of the `CLASSES`."""
        if f"{module} {name}" not in CLASSES:
            raise self.refused(short(f"{module}.{name}"))
        self.stack.append(_Class(f"{module} {name}"))

    def make(self) -> None:
        """Replace a class and its arguments on the stack by an `Object`, without calling anything."""
        arguments, made = self.stack.pop(), self.stack.pop()
        if not isinstance(made, _Class):
            raise self.refused("a call of something that is not a class")
        if not isinstance(arguments, tuple) or tuple(map(type, arguments)) != CLASSES[made.name]:
            raise self.refused(f"{made.name.replace(' ', '.')} with other arguments than in states")
        self.stack.append(arguments[0] if made.name == BYTES else Object(made.name, arguments))

    def build(self) -> None:
        """Remove the state on top of the stack and give it to the object below."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Object) or target.state is not None:
            raise self.refused("a state for something that takes none")
        target.state = state


def _push(machine: _Pickle, value: Any) -> None:
    machine.stack.append(value)


def _remember(machine: _Pickle, number: int) -> None:
    machine.memo[number] = machine.stack[-1]


def _check_protocol(machine: _Pickle, protocol: int) -> None:
    if protocol > pickle.HIGHEST_PROTOCOL:
        raise ValueError(f"there is no protocol {protocol}")


def _names(machine: _Pickle) -> List[Any]:
    """Remove module and name of a class from the stack, and return them."""
    machine.push_tuple(2)
    return [name if isinstance(name, str) else "?" for name in machine.stack.pop()]


# Function for each instruction that creates data; it takes the argument that follows the instruction in the file
INSTRUCTIONS: Dict[str, Callable[[_Pickle, Any], None]] = {
    **dict.fromkeys(NUMBERS | TEXTS | BYTE_STRINGS, _push),
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


def damaged(path: str, what: str) -> InputError:
    """Return the error that says what is wrong with the file at `path`."""
    return InputError(f"{path} is damaged ({what}): {REMEDY}")


def short(what: object) -> str:
    """Return `what` as one line of at most `NAME_LENGTH_IN_MESSAGE` characters, and dots if it was cut."""
    text = str(what).encode("unicode_escape").decode()
    return text if len(text) <= NAME_LENGTH_IN_MESSAGE else f"{text[:NAME_LENGTH_IN_MESSAGE]}..."
