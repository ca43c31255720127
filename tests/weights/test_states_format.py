"""The format of `.states` files: what is damaged or attacks is refused before anything is run."""

import io
import os
import pathlib
import pickle
import pickletools
import random
import struct

import numpy as np
import pytest

from gluon_aff.errors import InputError
from gluon_aff.weights.states_format import read_states, write_states
from gluon_aff.weights.states_pickle import read_pickle

RECORD = struct.pack("<Iii2q2ii", 0xF993FAC9, 0, 2, 2, 3, 1, 0, 0) + np.arange(6, dtype="f").tobytes()


class Pickler(pickle._Pickler):
    """Writes classes by their names, without a look at whether they are importable."""

    def save_global(self, named, name=None):
        if self.proto < 4:
            self.write(f"c{named.__module__}\n{named.__qualname__}\n".encode())
            return
        self.save(named.__module__)
        self.save(named.__qualname__)
        self.write(pickle.STACK_GLOBAL)


def pickled(content, protocol=4):
    file = io.BytesIO()
    Pickler(file, protocol).dump(content)
    return file.getvalue()


class NDArray:
    """Pickles as MXNet's array with that record."""

    def __init__(self, record=RECORD):
        self.record = record

    def __reduce__(self):
        return NDArray, (None,), {"handle": None if self.record is None else bytearray(self.record)}


class NAG:
    """Pickles as MXNet's optimizer behind six updates of two parameters."""

    def __init__(self):
        self.num_update = 6
        self._index_update_count = {0: 6, 2: 6}
        self._all_index_update_counts = {0: self._index_update_count}


NDArray.__module__, NAG.__module__ = "mxnet.ndarray.ndarray", "mxnet.optimizer.optimizer"


def content():
    return {0: NDArray(), 2: NDArray()}, NAG()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_what_is_in_a_file(protocol, tmp_path):
    (tmp_path / "a.states").write_bytes(pickled(content(), protocol))
    saved = read_states(str(tmp_path / "a.states"))
    assert (saved.optimizer, saved.updates, saved.counts) == ("NAG", 6, {0: 6, 2: 6})
    assert list(saved.states) == [0, 2]
    for array in saved.states.values():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.arange(6).reshape(2, 3))


VALUES = {
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "lists": [[], [1], [1, [2, 3]]],
    "by number": {0: None, 300: {}, -1: {"a": 1, 2: "b"}},
    "numbers": [0, 255, 256, 65535, 65536, -1, -(2**31), 2**31, 2**2100, 0.1, True, False],
    "texts": ["", "ä", "long" * 100, b"", b"\xff", b"long" * 100],
}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_values_are_those_that_python_reads(protocol):
    written = {**VALUES, "again": [VALUES["lists"]] * 300}
    found = read_pickle("a.states", io.BytesIO(pickle.dumps(written, protocol)))
    assert repr(found) == repr(written)
    assert all(each is found["lists"] for each in found["again"])


class Unpickler(pickle.Unpickler):
    """Python's, with the classes of this module for those that a file names."""

    def find_class(self, module, name):
        return {"bytearray": bytearray, "NDArray": Restored, "NAG": NAG}[name]


class Restored:
    """What becomes of an array, and of its record."""

    def __init__(self, handle):
        assert handle is None


def test_what_is_written_is_read_by_us_and_by_python(tmp_path):
    path = str(tmp_path / "a.states")
    arrays = [np.arange(6, dtype="f").reshape(2, 3), np.float16([1, 2]), np.array([[1.0], [2.0]]).T.astype(">f8")]
    counts, many = {0: 6, 5: 6, 9: 6}, {"a": 1, **{index: 6 for index in range(300)}}
    settings = {"num_update": 6, "_all_index_update_counts": {0: counts}, "_index_update_count": counts}
    settings.update(empty=(), none=None, rate=0.1, yes=True, no=False, text="ä", numbers=[1, -2, 2**31 - 1], many=many)
    write_states(path, "NAG", {0: arrays[0], 5: (None, arrays[1]), 9: arrays[2]}, settings)

    saved = read_states(path)
    assert (saved.optimizer, saved.updates, saved.counts) == ("NAG", 6, counts)
    found = [saved.states[0], saved.states[5][1], saved.states[9]]
    assert (len(saved.states), saved.states[5][0]) == (3, None)
    for one, other in zip(found, arrays):
        assert one.dtype == other.dtype.newbyteorder("<")
        np.testing.assert_array_equal(one, other)

    with open(path, "rb") as file:
        (_, protocol, _), *instructions = pickletools.genops(file)
    assert protocol == max(opcode.proto for opcode, _, _ in instructions)
    with open(path, "rb") as file:
        states, optimizer = Unpickler(file).load()
    assert vars(optimizer) == settings
    assert optimizer._index_update_count is optimizer._all_index_update_counts[0]
    assert states[5][0] is None
    assert (type(states[0]), type(states[0].handle), states[0].handle) == (Restored, bytearray, RECORD)


def test_the_count_of_updates_is_the_largest_of_the_devices(tmp_path):
    path = str(tmp_path / "a.states")
    most = 2**31 - 1
    devices = {0: {0: 0, 1: 2, 2: most}, 1: {0: 0, 1: most, 2: 2}}
    optimizer = {"num_update": most, "_all_index_update_counts": devices}
    write_states(path, "NAG", dict.fromkeys((0, 1, 2), np.zeros(2, "f")), optimizer)
    assert read_states(path).counts == {0: 0, 1: most, 2: most}


def test_older_files_count_the_updates_of_all_devices_together(tmp_path):
    """Their arrays may be in version 1 of the format, which says nothing of the storage."""
    states, optimizer = content()
    del optimizer._all_index_update_counts
    states[2] = NDArray(struct.pack("<I", 0xF993FAC8) + RECORD[8:])
    (tmp_path / "a.states").write_bytes(pickled((states, optimizer)))
    saved = read_states(str(tmp_path / "a.states"))
    assert saved.counts == {0: 6, 2: 6}
    np.testing.assert_array_equal(saved.states[2], saved.states[0])
    write_states(str(tmp_path / "b.states"), "SGD", {}, {"num_update": 0, "_all_index_update_counts": {0: {}}})
    saved = read_states(str(tmp_path / "b.states"))
    assert (saved.optimizer, saved.counts, saved.updates) == ("SGD", {}, 0)


def refusal(path):
    """Message with which the file is refused."""
    with pytest.raises(InputError) as caught:
        read_states(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600 + len(str(path))
    assert str(path) in message
    return message


def test_files_that_are_no_states(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("<html>no such page</html>")
    os.mkfifo(str(tmp_path / "fifo"))
    assert "No such file" in refusal(tmp_path / "nowhere")
    assert "is empty" in refusal(tmp_path / "empty")
    assert "damaged" in refusal(tmp_path / "text")
    (tmp_path / "params").write_bytes(struct.pack("<Q", 0x112) + bytes(16))
    assert "is a .params file: name the .states file next to it" in refusal(tmp_path / "params")
    assert "not a regular file" in refusal(tmp_path)
    assert "not a regular file" in refusal(tmp_path / "fifo")


class Attack:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Odd:
    """Pickles as a call of an admitted class with arguments that states do not have."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def attacks(target):
    """Pickles that make the file `target`, or that would do other harm; and what is said of them."""
    code = f"open({target!r}, 'w').close()"
    shell = f"touch {target}"
    calls = {
        "posix.system": Attack(os.system, shell),
        "builtins.eval": Attack(eval, code),
        "builtins.exec": Attack(exec, code),
        "builtins.getattr": Attack(getattr, "text", "upper"),
        "open": Attack(open, target, "w"),
        "pathlib": Attack(pathlib.PurePosixPath, "a"),
        "bytearray with other arguments": Odd(bytearray, (10**12,)),
        "NDArray with other arguments": Odd(NDArray, (5,)),
        "NAG with other arguments": Odd(NAG, (1, 2)),
    }
    for what, call in calls.items():
        for protocol in (3, 4, 5):
            yield what, pickled(({0: call}, None), protocol)
            yield what, pickled(call, protocol)
    shell = shell.encode()
    yield "os.system", b"cos\nsystem\n(V" + shell + b"\ntR."
    yield "INST", b"(V" + shell + b"\nios\nsystem\n."  # UNICODE is refused before INST
    yield "OBJ", b"(cmxnet.optimizer.optimizer\nNAG\no."
    yield (
        "mxnet.optimizer.optimizer.pickle.loads",
        b"\x80\x04\x8c\x19mxnet.optimizer.optimizer\x8c\x0cpickle.loads\x93.",
    )
    yield "mxnet.ndarray.ndarray.os", b"cmxnet.ndarray.ndarray\nos\n."
    yield "mxnet.ndarray.ndarray.NDArray.__init__", b"cmxnet.ndarray.ndarray\nNDArray.__init__\n."
    yield "PERSID", b"Pname\n."
    yield "EXT1", b"\x82\x01."
    yield "NEWOBJ_EX", b"\x80\x04cmxnet.optimizer.optimizer\nNAG\n)}\x92."
    yield "a call of something that is not a class", b"\x80\x04})R."
    yield "a state for something that takes none", b"\x80\x04cmxnet.optimizer.optimizer\nNAG\n}b."
    yield "a state for something that takes none", b"\x80\x04]}b."


def test_attacks_are_refused_before_anything_runs(tmp_path):
    path = tmp_path / "a.states"
    for what, attack in attacks(str(tmp_path / "touched")):
        path.write_bytes(attack)
        message = refusal(path)
        assert "nothing was run" in message
        assert what in message or "instruction UNICODE" in message
        assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04" + b"\x85" * 2,  # TUPLE1 of nothing
        b"\x80\x04N" + b"\x85" * 300_000 + b".",  # tuples in each other
        b"\x80\x04}N" + b"\x85" * 300_000 + b"Ns.",  # such as a key, whose hash would overflow the stack
        b"\x80\x04" + b"}" * 10**5 + b".",
        b"\x80\x04" + b"(" * 300_000 + b"N.",
        b"\x80\x04Nr\xff\xff\xff\xff.",  # a memo number for which CPython makes room
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
        b"\x80\x04\x96" + struct.pack("<Q", 2**62) + b"abc.",
        b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b"N.",
        b"\x80\x09N.",
        b"\x80\x04}]Ns.",
        b"\x80\x04]q\x00h\x00a.",  # a list that holds itself
        b"\x80\x04}}\x86.",
        b"\x80\x04}" + b"h\x07.",
        b"\x80\x04K\x01K\x02\x93.",
        b"\x80\x04NN.",
        b"cmxnet\\7\nNAG",  # a name without an end
        b"cmxnet\\\xff.optimizer\nNAG\n.",
        b"\x80\x04N.N",
        b"\x80\x04a.",
    ],
)
def test_nonsense_is_refused_without_crash_or_wait(content, tmp_path):
    (tmp_path / "a.states").write_bytes(content)
    refusal(tmp_path / "a.states")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04N", "it ends too early"),
        (b"\x80\x04\xff.", "is not a pickle instruction"),
        (b"\x80\x09N.", "there is no protocol 9"),
        (b"\x80\x04N.N", "it does not end where it should"),
        (b"\x80\x04(N.", "it does not end where it should"),
        (b"cmxnet\nNAG", "it ends in a name"),
        (b"\x80\x04\x85.", "values are missing"),
        (b"\x80\x04}Na.", "there is no list to extend"),
        (b"\x80\x04]K\x01Ns.", "there is no dictionary"),
        (b"\x80\x04}(K\x01u.", "there is no dictionary"),
        (b"\x80\x04}NNs.", "there is no dictionary"),
    ],
)
def test_damaged_pickles_name_what_is_wrong(content, message, tmp_path):
    (tmp_path / "a.states").write_bytes(content)
    assert message in refusal(tmp_path / "a.states")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (RECORD[:-1], "more bytes are expected"),
        (RECORD + b"x", "1 bytes too many"),
        (struct.pack("<I", 5) + RECORD[4:], "does not start like an array"),
        (b"abc", "does not start like an array"),
        (RECORD[:8] + struct.pack("<i", 2**31 - 1) + RECORD[12:], "2147483647 dimensions"),
        (RECORD[:12] + struct.pack("<2q", 2**40, 2**40) + RECORD[28:], "shape is too large"),
        (RECORD[:12] + struct.pack("<2q", -3, 2) + RECORD[28:], "a dimension of -3"),
        (RECORD[:36] + struct.pack("<i", 99) + RECORD[40:], "no data type 99"),
        (RECORD[:28] + struct.pack("<i", 77) + RECORD[32:], "no device type 77"),
        (None, "has no record"),
    ],
)
def test_damaged_arrays_name_what_is_wrong(record, message, tmp_path):
    states, optimizer = content()
    (tmp_path / "a.states").write_bytes(pickled(({**states, 2: NDArray(record)}, optimizer)))
    assert message in refusal(tmp_path / "a.states")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((None, NAG()), "the states are not numbered"),
        (({"a": NDArray()}, NAG()), "the states are not numbered"),
        (({0: NDArray()}, NDArray()), "does not hold an optimizer"),
        (({0: NDArray()}, None), "does not hold an optimizer"),
        (({0: NDArray()}, NAG(), 1), "does not hold states and their optimizer"),
        ([{0: NDArray()}, NAG()], "does not hold states and their optimizer"),
        (({0: "momentum", 2: None}, NAG()), "state 0 is not an array"),
        (({0: NAG(), 2: None}, NAG()), "state 0 is not an array"),
        (({0: None, 2: ((NDArray(),),)}, NAG()), "state 2 is not an array"),
    ],
)
def test_content_that_is_not_states_and_an_optimizer(content, message, tmp_path):
    (tmp_path / "a.states").write_bytes(pickled(content))
    assert message in refusal(tmp_path / "a.states")


@pytest.mark.parametrize("length", [80, 81])
def test_a_long_name_is_cut_in_the_message(length, tmp_path):
    name = "n" * (length - 2)
    (tmp_path / "a.states").write_bytes(f"cm\n{name}\n.".encode())
    said = f"m.{name}" if length == 80 else f"m.{name[:-1]}..."
    assert f"contains {said}, which" in refusal(tmp_path / "a.states")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda optimizer: setattr(optimizer, "num_update", -1), "no count of updates"),
        (lambda optimizer: setattr(optimizer, "num_update", 2**31), "no count of updates"),
        (lambda optimizer: setattr(optimizer, "num_update", 5.0), "no count of updates"),
        (lambda optimizer: setattr(optimizer, "num_update", 7), "counts 7 updates, but its parameters had 6"),
        (lambda optimizer: setattr(optimizer, "_all_index_update_counts", []), "no count of updates"),
        (lambda optimizer: setattr(optimizer, "_all_index_update_counts", {0: [6]}), "parameters that have no state"),
        (lambda optimizer: optimizer._index_update_count.update({99: 6}), "parameters that have no state"),
        (lambda optimizer: optimizer._index_update_count.update({0: "x"}), "parameters that have no state"),
        (lambda optimizer: vars(optimizer).pop("num_update"), "no count of updates"),
    ],
)
def test_counts_that_do_not_fit(change, message, tmp_path):
    states, optimizer = content()
    change(optimizer)
    (tmp_path / "a.states").write_bytes(pickled((states, optimizer)))
    assert message in refusal(tmp_path / "a.states")


def test_damaged_files_are_refused_or_harmless(tmp_path):
    """What is still read has the same arrays with other numbers, or other counts."""
    whole, chance, path = pickled(content()), random.Random(5), tmp_path / "a.states"
    loaded = 0
    for variant in range(600):
        damaged = bytearray(whole)
        if variant % 3 == 0:
            del damaged[chance.randrange(len(damaged)) :]
        elif variant % 3 == 1:
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        else:
            start = chance.randrange(len(damaged))
            damaged[start : start + 4] = bytes(chance.randrange(256) for _ in range(4))
        path.write_bytes(damaged)
        try:
            read_states(str(path))
        except InputError:
            continue
        loaded += 1
    assert loaded < 200
