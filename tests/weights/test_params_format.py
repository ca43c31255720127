"""`.params` format: MXNet's own files there and back, damaged ones, other ones."""

import gzip
import hashlib
import math
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_by_tests.limits import at_most

from gluon_aff import get_model
from gluon_aff.errors import GluonAFFError, ParamsFileError
from gluon_aff.weights import params_format
from gluon_aff.weights.params_format import git_blob_sha1, read_params_file, write_params_file

MAGICS = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
FLAGS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6, "bool": 7}
LATER_FLAGS = ("int16", "uint16", "uint32", "uint64")  # which MXNet 1.9.1 has in mshadow/base.h, but makes no arrays of
ITEM_SIZES = {0: 4, 1: 8, 2: 2, 3: 1, 4: 4, 5: 1, 6: 8, 7: 1, 8: 2, 9: 2, 10: 4, 11: 8, 12: 2}
INFLATED = (33, 2**31 - 1, 2**31, 2**32 - 1, 2**60, 2**62, 2**63 - 1, 2**63, 2**64 - 1)  # 2**n - 1 is -1 when signed
SIZE_KINDS = ("arrays", "ndim", "dim", "names", "length")
HARMLESS = ("data", "device id")


class Field(NamedTuple):
    """One field of a `.params` file; `empty` where it is of an array without elements."""

    kind: str
    start: int
    size: int
    empty: bool = False


def laid_out(version, arrays, device=(1, 0)):
    """What the format says a file of `arrays` is, and its fields: written apart from the code under test."""
    content, fields = b"", []

    def add(kind, data, empty=False):
        nonlocal content
        fields.append(Field(kind, len(content), len(data), empty))
        content += data

    add("magic", struct.pack("<Q", 0x112))
    add("reserved", bytes(8))
    add("arrays", struct.pack("<Q", len(arrays)))
    for array in arrays.values():
        add("version", struct.pack("<I", MAGICS[version]))
        if version > 1:
            add("storage", bytes(4))
        add("ndim", struct.pack("<i", array.ndim))
        for size in array.shape:
            add("dim", struct.pack("<q", size), array.size == 0)
        add("device type", struct.pack("<i", device[0]))
        add("device id", struct.pack("<i", device[1]))
        add("type", struct.pack("<i", 12 if array.dtype == BFLOAT16 else FLAGS[array.dtype.name]), array.size == 0)
        add("data", array.tobytes())
    add("names", struct.pack("<Q", len(arrays)))
    for name in arrays:
        add("length", struct.pack("<Q", len(name.encode())))
        add("name", name.encode())
    return content, fields


def numbers(seed, shape, dtype):
    """An array of any bits, but those that are no bool."""
    dtype = np.dtype(dtype)
    bits = np.random.RandomState(seed).randint(0, 256, math.prod(shape) * dtype.itemsize).astype(np.uint8)
    return (bits % 2 if dtype.kind == "b" else bits).view(dtype).reshape(shape)


def bits(arrays):
    """What makes arrays the same ones, NaN or not."""
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


def loaded_by_mxnet(path, version=2):
    with mx.util.np_shape(version == 3):
        return {name: array.asnumpy() for name, array in mx.nd.load(str(path)).items()}


def saved_by_mxnet(path, arrays, version=2):
    with mx.util.np_shape(version == 3):
        mx.nd.save(str(path), {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()})


def same_back(path):
    """Read the file at `path`, and see that writing that gives the same bytes."""
    params = read_params_file(str(path))
    again = path.with_name("again.params")
    write_params_file(str(again), params.arrays, params.version, params.devices)
    assert again.read_bytes() == path.read_bytes()
    return params


def assert_one_short_line(message, path):
    assert message.startswith(str(path))
    assert len(message.splitlines()) == 1
    assert len(message) < len(str(path)) + 300


def error_of(path):
    """What reading the file at `path` says is wrong with it."""
    with pytest.raises(ParamsFileError) as error:
        read_params_file(str(path))
    assert_one_short_line(str(error.value), path)
    return str(error.value)


@pytest.fixture(scope="module")
def net():
    mx.random.seed(0)
    net = get_model("aff_resnet32_cifar100", blocks=1, channel_times=1, ctx=mx.cpu())
    net.hybridize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    mx.nd.waitall()
    return net


@pytest.fixture(scope="module")
def small():
    """One small file of each version: its content and its fields."""
    second = {
        "features.0.weight": numbers(1, (2, 3), "float32"),
        "größe☃": numbers(2, (4,), "float16"),
        "": numbers(3, (1, 2, 2), "int64"),
        "mask": numbers(4, (3,), "bool"),
    }
    third = {
        "scale": numbers(5, (), "float32"),
        "none": numbers(6, (3, 0), "float32"),
        "bias": numbers(7, (2,), "float64"),
    }
    first = {"weight": numbers(8, (2, 2), "float32"), "label": numbers(9, (5,), "uint8")}
    return {version: laid_out(version, arrays) for version, arrays in ((1, first), (2, second), (3, third))}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_network_of_save_parameters_there_and_back(tmp_path, net, dtype):
    path = tmp_path / "net.params"
    net.save_parameters(str(path))
    if dtype == "float16":
        other = get_model("aff_resnet32_cifar100", blocks=1, channel_times=1)
        other.load_parameters(str(path))
        other.cast("float16")
        other.save_parameters(str(path))
    params = same_back(path)
    assert params.version == 2
    assert not params.devices
    assert not params.exported
    assert Counter(array.dtype.name for array in params.arrays.values())[dtype] >= 20
    assert params.arrays["features.0.gamma"].dtype == np.float32  # BatchNorm's stay so
    assert list(params.arrays) == list(mx.nd.load(str(path)))
    assert bits(params.arrays) == bits(loaded_by_mxnet(path))


def test_an_exported_network_there_and_back(tmp_path, net):
    net.export(str(tmp_path / "net"))
    params = same_back(tmp_path / "net-0000.params")
    assert params.exported
    assert {name[:4] for name in params.arrays} == {"arg:", "aux:"}


def test_every_type_mxnet_has_there_and_back(tmp_path):
    path = tmp_path / "types.params"
    arrays = {name: mx.nd.array([0, 1, 3]).astype(name) for name in FLAGS}
    arrays["bfloat16"] = mx.nd.array([0, 1, 3]).astype(BFLOAT16)
    mx.nd.save(str(path), arrays)
    params = same_back(path)
    assert bits(params.arrays) == bits({name: array.asnumpy() for name, array in arrays.items()})
    assert path.read_bytes() == laid_out(2, params.arrays)[0]


@pytest.mark.parametrize("dtype", LATER_FLAGS)
def test_types_of_later_mxnet_there_and_back(tmp_path, dtype):
    path = tmp_path / "types.params"
    array = numbers(1, (3, 2), dtype)
    write_params_file(str(path), {"a": array})
    assert bits(same_back(path).arrays) == bits({"a": array})
    header = Path(mx.libinfo.find_include_path(), "mshadow", "base.h").read_text()
    (flag,) = re.findall(rf"^ *k{dtype.capitalize()} *= (\d+),", header, re.MULTILINE)
    type_field = 24 + 4 + 4 + 4 + 2 * 8 + 8  # behind the file's head, magic number, storage, dimensions, device
    assert struct.unpack_from("<i", path.read_bytes(), type_field) == (int(flag),)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 0, 2), (1,), (2, 3), (1,) * 32])
def test_numpy_shapes_there_and_back(tmp_path, shape):
    path = tmp_path / "shapes.params"
    arrays = {"a": numbers(1, shape, "float32"), "b": numbers(2, (2,), "int8")}
    for names in ("a", "ab"):
        saved_by_mxnet(path, {name: arrays[name] for name in names}, version=3)
        params = same_back(path)
        assert params.version == 3
        assert bits(params.arrays) == bits(loaded_by_mxnet(path, version=3))


def test_numpy_arrays_of_npx_there_and_back(tmp_path):
    path = tmp_path / "npx.params"
    with mx.util.np_shape(True), mx.util.np_array(True):
        mx.npx.save(str(path), {"a": mx.np.ones((2, 3)), "b": mx.np.array(2.5), "c": mx.np.array([True, False])})
    params = same_back(path)
    assert params.arrays["b"] == 2.5
    assert params.arrays["c"].tolist() == [True, False]


def test_an_array_without_elements_outside_of_numpy_shapes_there_and_back(tmp_path):
    path = tmp_path / "empty.params"
    with mx.util.np_shape(True):
        empty = mx.nd.zeros((0, 3))
    mx.nd.save(str(path), {"a": empty, "b": mx.nd.ones(2)})
    params = same_back(path)
    assert params.version == 2
    assert bits(params.arrays) == bits(loaded_by_mxnet(path))


def test_unicode_and_no_arrays_there_and_back(tmp_path):
    path = tmp_path / "größe.params"
    mx.nd.save(str(path), {"größe ☃ 💾": mx.nd.zeros(3), "": mx.nd.ones(1), "\n": mx.nd.ones(2)})
    assert list(same_back(path).arrays) == ["größe ☃ 💾", "", "\n"]
    mx.nd.save(str(path), {})
    params = same_back(path)
    assert params.arrays == {}
    assert not params.exported


def test_devices_there_and_back(tmp_path):
    path = tmp_path / "devices.params"
    contexts = {"a": mx.cpu(3), "b": mx.cpu(), "c": mx.cpu_pinned(0), "d": mx.Context("cpu_shared", 0)}
    mx.nd.save(str(path), {name: mx.nd.zeros(3, ctx=context) for name, context in contexts.items()})
    assert same_back(path).devices == {"a": (1, 3), "c": (3, 0), "d": (5, 0)}
    path.write_bytes(laid_out(2, {"a": np.zeros(3), "b": np.ones(2)}, device=(2, 7))[0])
    assert same_back(path).devices == {"a": (2, 7), "b": (2, 7)}


def test_version_1_there_and_back(tmp_path, small):
    path = tmp_path / "old.params"
    path.write_bytes(small[1][0])
    params = same_back(path)
    assert params.version == 1
    assert bits(params.arrays) == bits(loaded_by_mxnet(path))


@pytest.mark.parametrize("version", [2, 3])
def test_the_tests_own_layout_is_mxnets(tmp_path, small, version):
    path = tmp_path / "small.params"
    path.write_bytes(small[version][0])
    saved_by_mxnet(tmp_path / "mxnet.params", loaded_by_mxnet(path, version), version)
    assert (tmp_path / "mxnet.params").read_bytes() == small[version][0]
    assert bits(same_back(path).arrays) == bits(loaded_by_mxnet(path, version))


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
types = st.sampled_from([*FLAGS, BFLOAT16])


def some_arrays(min_dimensions, min_size):
    shapes = st.lists(st.integers(min_size, 4), min_size=min_dimensions, max_size=5).map(tuple)
    array = st.builds(numbers, st.integers(0, 2**32 - 1), shapes, types)
    return st.dictionaries(names, array, min_size=1, max_size=5)


@settings(deadline=None, max_examples=150)
@given(data=st.data(), version=st.sampled_from([1, 2, 3]))
def test_mxnet_reads_what_we_write(tmp_path_factory, data, version):
    arrays = data.draw(some_arrays(0, 0) if version == 3 else some_arrays(1, 1))
    path = tmp_path_factory.mktemp("written") / "net.params"
    write_params_file(str(path), arrays, version)
    loaded = loaded_by_mxnet(path, version)
    assert list(loaded) == list(arrays)
    assert bits(loaded) == bits(arrays)
    assert path.read_bytes() == laid_out(version, arrays)[0]
    if version > 1:
        with mx.util.np_shape(version == 3):
            mx.nd.save(str(path), mx.nd.load(str(path)))
    assert bits(same_back(path).arrays) == bits(arrays)


def test_strided_swapped_and_read_only_arrays_are_written_by_value(tmp_path):
    path = str(tmp_path / "net.params")
    array = np.arange(12, dtype="float32").reshape(3, 4)
    arrays = {
        "t": array.T,
        "step": array[::2, ::-1],
        "big": array.astype(">f4"),
        "wide": np.broadcast_to(array, (2, 3, 4)),
    }
    write_params_file(path, arrays)
    for name, read in read_params_file(path).arrays.items():
        np.testing.assert_array_equal(read, arrays[name])


def test_arrays_are_read_only_views_of_the_file(tmp_path, small):
    path = tmp_path / "net.params"
    path.write_bytes(small[2][0])
    arrays = read_params_file(str(path)).arrays
    for array in arrays.values():
        assert not array.flags.writeable
        assert not array.flags.owndata
    path.unlink()
    assert arrays["features.0.weight"].tobytes() == numbers(1, (2, 3), "float32").tobytes()


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_gigabyte_is_mapped_not_read(tmp_path):
    path, size = tmp_path / "large.params", 2**28
    with open(path, "wb") as file:
        file.write(struct.pack("<3QIiiqiii", 0x112, 0, 1, MAGICS[2], 0, 1, size, 1, 0, 0))
        file.seek(4 * size - 4, os.SEEK_CUR)
        file.write(struct.pack("<fQQ", 1.5, 1, 1) + b"a")
    before = resident_bytes()
    array = read_params_file(str(path)).arrays["a"]
    assert array.shape == (size,)
    assert array[-1] == 1.5
    assert resident_bytes() - before < 2**26


def test_a_file_can_be_written_over_itself(tmp_path, small):
    path = tmp_path / "net.params"
    path.write_bytes(small[2][0])
    params = read_params_file(str(path))
    write_params_file(str(path), params.arrays, params.version)
    assert path.read_bytes() == small[2][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"a": np.array(1.0)},), "cannot hold the scalar 'a': write version 3"),
        (({"a": np.array(1.0)}, 1), "cannot hold the scalar 'a'"),
        (({"a": np.zeros(2, complex)},), "cannot hold 'a' of type complex128: cast"),
        (({"a": np.zeros(2, object)},), "cannot hold 'a' of type object"),
        (({"a": np.zeros(2)}, 4), "version 4"),
        (({"a\0b": np.zeros(2)},), r"name 'a\\x00b', which MXNet would cut at its zero byte"),
        (({"\ud800": np.zeros(2)},), r"name '\\ud800', which is not valid Unicode"),
        (({80 * "n": np.array(1.0)},), f"the scalar '{80 * 'n'}':"),
        (({81 * "n": np.array(1.0)},), rf"the scalar '{80 * 'n'}\.\.\.':"),
        (({"a": np.zeros(2)}, 2, {"a": (9, 0)}), "device type 9"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_before_anything_is_written(tmp_path, arguments, message):
    path = tmp_path / "net.params"
    path.write_bytes(b"old")
    with pytest.raises(ParamsFileError, match=message) as error:
        write_params_file(str(path), *arguments)
    assert str(error.value).startswith(str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["net.params"]
    assert path.read_bytes() == b"old"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GluonAFFError, match=r"cannot be written"):
        write_params_file(str(tmp_path / "file" / "net.params"), {"a": np.zeros(2)})


# Damage


def cuts(content, places):
    for place in places:
        yield "cut", place, content[:place]


def changed_bytes(content, places, rng):
    """Each byte of `places` with one bit flipped, with all flipped, and replaced by some other one."""
    for place in places:
        for flip in {1 << rng.randrange(8), 255, rng.randrange(1, 256)}:
            yield "byte", place, content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]


def inflated(content, fields):
    for field in fields:
        for value in INFLATED if field.kind in SIZE_KINDS else ():
            data = (value % 2 ** (8 * field.size)).to_bytes(field.size, "little")
            if data != content[field.start : field.start + field.size]:
                yield "inflated", field.start, content[: field.start] + data + content[field.start + field.size :]


def moved(content, places, rng):
    """Bytes put in, taken out, doubled and exchanged for zeros at `places`."""
    for place in places:
        size = rng.choice((1, 2, 3, 4, 8, 12, 16, 24, 40))
        block = content[place : place + size]
        yield "moved", place, content[:place] + bytes(rng.randrange(256) for _ in range(size)) + content[place:]
        yield "moved", place, content[:place] + content[place + size :]
        yield "moved", place, content[:place] + block + content[place:]
        yield "zeroed", place, content[:place] + bytes(len(block)) + content[place + size :]


def damage(content, hit, places, rng):
    """Every file that comes of damage to the fields `hit` and at `places`: what was done, the byte hit, the content."""
    edges = {field.start + shift for field in hit for shift in (-1, 0, 1)}
    places = sorted(place for place in {*places, *edges} if 0 <= place < len(content))
    yield from cuts(content, places)
    yield from changed_bytes(content, places, rng)
    yield from inflated(content, hit)
    yield from moved(content, places, rng)


def field_at(fields, place):
    return max((field for field in fields if field.start <= place and field.size), key=lambda field: field.start)


def may_be_read(what, place, content, damaged, fields):
    """Whether a file so damaged must be readable (True), must not (False) or may be, as another whole file (None)."""
    if what in ("moved", "zeroed"):
        return None
    if what == "cut":
        return False
    field = field_at(fields, place)
    if field.kind == "type":
        old, new = (struct.unpack_from("<i", data, field.start)[0] for data in (content, damaged))
        return new in ITEM_SIZES and (field.empty or ITEM_SIZES[old] == ITEM_SIZES[new])
    if field.kind in ("name", "device type") or (field.kind == "dim" and field.empty):
        return None
    return field.kind in HARMLESS


def outcome(path):
    try:
        same_back(path)
    except ParamsFileError as error:
        assert_one_short_line(str(error), path)
        return "refused"
    return "read"


def run_through(path, content, fields, damaged_files):
    """Read every one of the `damaged_files`; how many were refused and how many could be read, by what was done."""
    seen = Counter()
    for what, place, damaged in damaged_files:
        if damaged != content:
            path.write_bytes(damaged)
            result = outcome(path)
            readable = may_be_read(what, place, content, damaged, fields)
            assert readable in (None, result == "read"), (what, place, result)
            seen[what, result] += 1
    return seen


@pytest.mark.timeout(120)
def test_damage_to_small_files_is_one_line_or_harmless(tmp_path, small):
    seen = Counter()
    with at_most(2**21):
        for version, (content, fields) in small.items():
            files = damage(content, fields, range(len(content)), random.Random(version))
            seen += run_through(tmp_path / "net.params", content, fields, files)
    assert sum(seen.values()) >= 5000
    assert seen["cut", "read"] == 0
    assert seen["cut", "refused"] == sum(len(content) for content, _ in small.values())
    assert seen["byte", "refused"] >= 1000
    assert seen["byte", "read"] >= 200
    assert seen["inflated", "refused"] >= 200
    assert seen["moved", "refused"] >= 1000
    assert seen["moved", "read"] <= 3  # a dimension doubled can make a whole file of another shape, type and device
    assert seen["zeroed", "refused"] >= 200


@pytest.mark.timeout(120)
def test_damage_to_a_network_is_one_line_or_harmless(tmp_path, net):
    path = tmp_path / "net.params"
    net.save_parameters(str(path))
    content, fields = laid_out(2, loaded_by_mxnet(path))
    assert path.read_bytes() == content
    rng = random.Random(0)
    hit = rng.sample(fields, 4) + fields[:6] + fields[-3:]
    with at_most(6 * len(content)):
        seen = run_through(path, content, fields, damage(content, hit, rng.sample(range(len(content)), 10), rng))
    assert sum(seen.values()) >= 300


@pytest.mark.parametrize("version", [1, 2, 3])
def test_sizes_no_file_has_are_refused_at_once(tmp_path, small, version):
    content, fields = small[version]
    path = tmp_path / "net.params"
    for _, place, damaged in inflated(content, fields):
        if not field_at(fields, place).empty:
            path.write_bytes(damaged)
            assert re.search(r"(array|name) \d+, byte|(header|names), byte|without a shape", error_of(path))


def test_an_error_says_where(tmp_path, small):
    path = tmp_path / "net.params"
    content, fields = small[2]
    second_type = [field for field in fields if field.kind == "type"][1]
    damaged = bytearray(content)
    damaged[second_type.start] = 99
    path.write_bytes(damaged)
    message = f"{path} is damaged (array 1, byte {second_type.start}: there is no data type 99): get it again"
    assert error_of(path) == message
    magic = [field.start for field in fields if field.kind == "version"][1]
    for value in (0, 33, 0xF993FAC7):
        path.write_bytes(content[:magic] + struct.pack("<I", value) + content[magic + 4 :])
        assert f"(array 1, byte {magic}: {value:#x} is no array's magic number)" in error_of(path)
    path.write_bytes(content[:-2])
    last = [field for field in fields if field.kind == "name"][-1]
    assert (
        error_of(path)
        == f"{path} is damaged (name 3, byte {last.start}: more bytes are expected than the 2 that are left): "
        "get it again"
    )


def test_an_array_without_elements_is_as_wide_as_numpy_has_it(tmp_path):
    path = tmp_path / "net.params"
    content, _ = laid_out(3, {"a": np.zeros((0, 7), "float32")})
    for exponent, fits in ((60, True), (61, False), (62, False)):
        path.write_bytes(content.replace(struct.pack("<q", 7), struct.pack("<q", 2**exponent)))
        if fits:
            assert same_back(path).arrays["a"].shape == (0, 2**exponent)
        else:
            assert "its shape is too large" in error_of(path)


# Whole files that are no list of named arrays


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a .params file but empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
            "a Git LFS pointer: run `git lfs pull`",
        ),
        (b"<!DOCTYPE html><html>", "a web page: download the raw file"),
        (b"\xef\xbb\xbf\n <HTML lang=en>", "a web page"),
        (gzip.compress(b"weights", mtime=0), "a gzip archive: unpack it"),
        (pickle.dumps({"a": 1}), "a pickle, such as the .states of a run"),
        (b"\x12\x01", r"something else (it starts with b'\x12\x01'): get it again"),
        (b"\x89PNG\r\n\x1a\n", r"something else (it starts with b'\x89PNG\r\n\x1a\n'): name a .params file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), r"something else (it starts with b'\x89PNG\r\n\x1a\n')"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path, content, message):
    path = tmp_path / "net.params"
    path.write_bytes(content)
    assert message in error_of(path)


@pytest.mark.parametrize(
    ("member", "message"), [("archive/data.pkl", "a file of PyTorch"), ("net.params", "a zip archive: unpack it")]
)
def test_zip_archives_are_named(tmp_path, member, message):
    path = tmp_path / "net.params"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, b"weights")
    assert message in error_of(path)


def test_arrays_without_names_and_names_there_twice(tmp_path):
    path = tmp_path / "net.params"
    mx.nd.save(str(path), [mx.nd.zeros(3)])
    assert "holds arrays without names" in error_of(path)
    path.write_bytes(laid_out(2, {"a": np.zeros(3), "b": np.zeros(3)})[0][:-1] + b"a")
    assert re.search(r"name 1, byte \d+: the name 'a' occurs twice", error_of(path))


def test_more_names_or_fewer_than_arrays(tmp_path, small):
    path = tmp_path / "net.params"
    content, fields = small[1]
    count, _, last = [field.start for field in fields if field.kind in ("names", "length")]
    path.write_bytes(content[:count] + struct.pack("<Q", 1) + content[count + 8 : last])
    assert error_of(path) == f"{path} is damaged (names, byte {count}: 1 names for 2 arrays): get it again"
    path.write_bytes(content[:count] + struct.pack("<Q", 3) + content[count + 8 :] + struct.pack("<Q", 1) + b"c")
    assert f"(names, byte {count}: 3 names for 2 arrays)" in error_of(path)
    for arrays in (2**60, len(content) // 24):
        path.write_bytes(content[:16] + struct.pack("<Q", arrays) + content[24:])
        assert f"(header, byte 16: {arrays} arrays are more than the file has room for)" in error_of(path)


def test_versions_are_not_mixed(tmp_path):
    path = tmp_path / "net.params"
    header, names_of_one = 24, 17
    records = b"".join(laid_out(version, {"a": np.zeros(3)})[0][header:-names_of_one] for version in (1, 2))
    names = struct.pack("<QQ", 2, 1) + b"a" + struct.pack("<Q", 1) + b"b"
    path.write_bytes(struct.pack("<3Q", 0x112, 0, 2) + records + names)
    assert "(array 1, byte 76: version 2 after an array of version 1)" in error_of(path)


def test_sparse_arrays(tmp_path):
    path = tmp_path / "net.params"
    mx.nd.save(str(path), {"a": mx.nd.ones((3, 2)), "b": mx.nd.ones((3, 2)).tostype("row_sparse")})
    assert re.search(r"a row_sparse array \(array 1, byte \d+\): .*tostype", error_of(path))
    mx.nd.save(str(path), {"a": mx.nd.ones((3, 2)).tostype("csr")})
    assert "a csr array (array 0" in error_of(path)


def test_arrays_without_a_shape(tmp_path):
    path = tmp_path / "net.params"
    mx.nd.save(str(path), {"scalar": mx.nd.array(3.0)})
    assert "holds an array without a shape (array 0" in error_of(path)
    with pytest.raises(mx.MXNetError):
        mx.nd.load(str(path))
    names = struct.pack("<QQ", 1, 1) + b"a"
    for version, shape in ((1, (0,)), (2, (0,)), (2, (-1,)), (3, (-1,)), (3, (2, 4, -1))):
        storage = b"" if version == 1 else bytes(4)
        record = struct.pack("<I", MAGICS[version]) + storage + struct.pack(f"<i{len(shape) - 1}q", *shape)
        path.write_bytes(struct.pack("<3Q", 0x112, 0, 1) + record + names)
        assert "holds an array without a shape" in error_of(path)


@pytest.mark.parametrize("shape", [(2,), (1,) * 31 + (2,)], ids=len)
def test_files_from_before_mxnet_0_12(tmp_path, shape):
    path = tmp_path / "net.params"
    record = struct.pack(f"<{4 + len(shape)}i", len(shape), *shape, 1, 0, 0) + bytes(8)
    path.write_bytes(struct.pack("<3Q", 0x112, 0, 1) + record + struct.pack("<QQ", 1, 1) + b"a")
    assert bits(loaded_by_mxnet(path)) == bits({"a": np.zeros(shape, "float32")})
    assert "was written by an MXNet older than 0.12 (array 0, byte 24" in error_of(path)


@pytest.mark.parametrize("read", [read_params_file, git_blob_sha1])
def test_what_is_no_file_is_one_line_and_waits_for_nothing(tmp_path, read):
    os.mkfifo(tmp_path / "fifo")
    unreadable = {
        "/dev/zero": "not a regular file",
        str(tmp_path): "directory",
        str(tmp_path / "fifo"): "not a regular",
    }
    unreadable[str(tmp_path / "none.params")] = "No such file"
    unreadable["/proc/self/mem"] = "Input/output error"
    for path, message in unreadable.items():
        with pytest.raises(ParamsFileError, match=f"^{path}.*{message}.*name an existing .params file$"):
            read(path)


@pytest.mark.parametrize("size", [0, 1, 2**20])
def test_sha1_is_gits(tmp_path, monkeypatch, size):
    monkeypatch.setattr(params_format, "CHUNK_BYTES", 1000)
    path = tmp_path / "net.params"
    path.write_bytes(bytes(size))
    assert git_blob_sha1(str(path)) == hashlib.sha1(b"blob %d\0" % size + bytes(size)).hexdigest()


def test_sha1_of_what_git_documents(tmp_path):
    path = tmp_path / "net.params"
    path.write_bytes(b"what is up, doc?")
    assert git_blob_sha1(str(path)) == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


def test_reading_takes_no_mxnet(tmp_path, small):
    path = tmp_path / "net.params"
    path.write_bytes(small[2][0])
    script = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("params_format", sys.argv[1])
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert len(module.read_params_file(sys.argv[2]).arrays) == 4
assert "mxnet" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, params_format.__file__, str(path)], check=True)
