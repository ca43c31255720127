"""Read and write MXNet's `.params` format with NumPy alone: named arrays, read as views of the mapped file.

All integers are little endian. A file consists of a magic number, a reserved 0 and the number of arrays (64 bits
each), one record for each array, the number of names (64 bits), and for each name its length (64 bits) and its UTF-8
bytes. A record consists of

    magic   uint32     tells the version of the format
    storage int32      0 for dense; not in version 1
    ndim    int32
    shape   ndim times int64
    device  int32 type, int32 id
    type    int32      key of `DTYPES`
    data               in C order

MXNet 1.9.1 writes version 3 under `mx.util.np_shape()`, where 0 dimensions mean a scalar, and version 2 otherwise,
where they mean an array that was never initialised and whose record ends there. Every size in a file is checked
against the number of bytes left before it is used.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import re
import stat
import struct
import sys
from dataclasses import dataclass
from typing import Any, BinaryIO, Dict, Iterator, List, Mapping, Optional, Tuple, Union

import numpy as np

from gluon_aff.errors import ParamsFileError
from gluon_aff.files import replacing

Device = Tuple[int, int]

LIST_MAGIC = 0x112
START = struct.pack("<Q", LIST_MAGIC)
RECORD_MAGICS = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}
SCALAR_VERSION = 3
DEFAULT_VERSION = 2
MAX_DIMENSIONS = 32
MIN_RECORD_BYTES = 24  # a scalar's record without its data
DEVICE_TYPES = {1: "cpu", 2: "gpu", 3: "cpu_pinned", 5: "cpu_shared"}
CPU: Device = (1, 0)
SPARSE_STORAGE = {1: "row_sparse", 2: "csr"}
BFLOAT16 = np.dtype([("bfloat16", "<u2")])  # the NumPy type that MXNet uses for bfloat16
DTYPES: Dict[int, np.dtype] = {
    0: np.dtype("<f4"),
    1: np.dtype("<f8"),
    2: np.dtype("<f2"),
    3: np.dtype("u1"),
    4: np.dtype("<i4"),
    5: np.dtype("i1"),
    6: np.dtype("<i8"),
    7: np.dtype("bool"),
    8: np.dtype("<i2"),
    9: np.dtype("<u2"),
    10: np.dtype("<u4"),
    11: np.dtype("<u8"),
    12: BFLOAT16,
}
OTHER_KINDS = {
    rb"version https://git-lfs\.github\.com/spec/v1": "a Git LFS pointer: run `git lfs pull` or download the real file",
    rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html)": "a web page: download the raw file",
    rb"\x1f\x8b": "a gzip archive: unpack it",
    rb"(?s)PK\x03\x04.{26}[^\x00]*data\.pkl": "a file of PyTorch: get the one for MXNet",
    rb"PK\x03\x04": "a zip archive: unpack it",
    rb"\x80[\x02-\x05]": "a pickle, such as the .states of a run or an old file of PyTorch: name the .params file",
}
GET_AGAIN = "get it again"
START_BYTES = 512
START_BYTES_IN_MESSAGE = 8
NAME_LENGTH_IN_MESSAGE = 80
CHUNK_BYTES = 16 << 20


@dataclass(frozen=True)
class ParamsFile:
    """Holds the content of a `.params` file.

    Attributes:
        path: path of the file.
        arrays: read-only views of the mapped file by name, in the file's order; they are not copied, and not always
            aligned.
        version: version of all records: 1, 2 or 3.
        devices: type (key of `DEVICE_TYPES`) and id of the device, for each array that was not on cpu(0).
    """

    path: str
    arrays: Dict[str, np.ndarray]
    version: int
    devices: Dict[str, Device]

    @property
    def exported(self) -> bool:
        """Return whether `HybridBlock.export` wrote the file, which puts `arg:` or `aux:` before each name."""
        return bool(self.arrays) and all(name.startswith(("arg:", "aux:")) for name in self.arrays)


@dataclass
class RecordReader:
    """Reads a mapped file from its start to its end, and knows where it is for error messages."""

    path: str
    data: mmap.mmap
    part: str = "header"  # named in errors: the header, an array or a name
    field: int = 0  # offset of the field that was read last
    offset: int = 0  # offset of the next field

    def take(self, size: int) -> None:
        """Advance over the next `size` bytes.

        Raises:
            ParamsFileError: the file has fewer bytes left.
        """
        self.field = self.offset
        left = len(self.data) - self.offset
        if size > left:
            raise self.damaged(f"more bytes are expected than the {left} that are left")
        self.offset += size

    def integers(self, layout: str) -> Tuple[int, ...]:
        """Read the next integers, whose `layout` is a format of `struct`."""
        self.take(struct.calcsize(layout))
        return struct.unpack_from(layout, self.data, self.field)

    def damaged(self, what: str) -> ParamsFileError:
        """Return the error that says what is wrong, and in which part and byte."""
        return ParamsFileError(f"{self.path} is damaged ({self.place}: {what}): {GET_AGAIN}")

    @property
    def place(self) -> str:
        """Return part and byte of the field that was read last."""
        return f"{self.part}, byte {self.field}"


def read_params_file(path: str) -> ParamsFile:
    """Read the named arrays of the `.params` file at `path`; their data stays on disk until it is used.

    Raises:
        ParamsFileError: the file is missing or damaged, or is not a `.params` file.
    """
    reader = RecordReader(path, _map(path))
    arrays, version, devices = _read_records(reader)
    names = _read_names(reader, len(arrays))
    on_others = {name: device for name, device in zip(names, devices) if device != CPU}
    return ParamsFile(path, dict(zip(names, arrays)), version, on_others)


def write_params_file(
    path: str,
    arrays: Mapping[str, np.ndarray],
    version: int = DEFAULT_VERSION,
    devices: Optional[Mapping[str, Device]] = None,
) -> None:
    """Write `arrays` to `path` as MXNet does; the file appears complete or not at all.

    Args:
        path: file to write; `arrays` may be views of its present content.
        arrays: dense arrays of the types in `DTYPES`, by name.
        version: version of the format: 1, 2 or 3. Scalars need version 3, which MXNet reads only under
            `mx.util.np_shape()`.
        devices: type (key of `DEVICE_TYPES`) and id (int32) of the device by name, for arrays that are not on cpu(0).

    Raises:
        ParamsFileError: the format cannot hold an array, a name or a device.
        GluonAFFError: the file cannot be written.
    """
    chunks = params_chunks(path, arrays, version, devices)
    with replacing(path) as partial, open(partial, "wb") as file:
        file.writelines(chunks)


def params_chunks(
    path: str,
    arrays: Mapping[str, np.ndarray],
    version: int = DEFAULT_VERSION,
    devices: Optional[Mapping[str, Device]] = None,
) -> Iterator[Union[bytes, memoryview]]:
    """Return an iterator over the bytes of a `.params` file, for the arguments of `write_params_file`.

    Raises:
        ParamsFileError: the format cannot hold an array, a name or a device. It is raised before the first chunk.
    """
    if version not in RECORD_MAGICS:
        raise ParamsFileError(f"{path} cannot be written in version {version}: choose 1, 2 or 3")
    names = [_encoded_name(path, name) for name in arrays]
    heads = [record_head(path, name, arrays[name], version, (devices or {}).get(name, CPU)) for name in arrays]

    def chunks() -> Iterator[Union[bytes, memoryview]]:
        yield struct.pack("<3Q", LIST_MAGIC, 0, len(heads))
        for head, array in zip(heads, arrays.values()):
            yield head
            yield np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data
        yield struct.pack("<Q", len(names))
        for name in names:
            yield struct.pack("<Q", len(name)) + name

    return chunks()


def begins_as_params_file(path: str) -> bool:
    """Say whether the file at `path` begins as `.params` files do; the rest of it may still be damaged.

    Raises:
        ParamsFileError: the file cannot be read.
    """
    with _open_regular(path) as file:
        try:
            return file.read(len(START)) == START
        except OSError as error:
            raise _unreadable(path, error) from None


def git_blob_sha1(path: str) -> str:
    """Return the git blob SHA-1, in hex, of the file at `path`.

    Raises:
        ParamsFileError: the file cannot be read.
    """
    with _open_regular(path) as file:
        return _digest(path, file, hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size))


def sha256(path: str) -> str:
    """Return the SHA-256, in hex, of the file at `path`.

    Raises:
        ParamsFileError: the file cannot be read.
    """
    with _open_regular(path) as file:
        return _digest(path, file, hashlib.sha256())


def _digest(path: str, file: BinaryIO, digest: Any) -> str:
    """Add the file's content to a hash of `hashlib`, and return it in hex."""
    try:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    except OSError as error:
        raise _unreadable(path, error) from None
    return digest.hexdigest()


def _open_regular(path: str) -> BinaryIO:
    """Open the regular file at `path`; a FIFO is refused without waiting for its writer."""
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    except OSError as error:
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ParamsFileError(f"{path} is not a regular file; name an existing .params file")
    return file


def _unreadable(path: str, error: OSError) -> ParamsFileError:
    return ParamsFileError(f"{path}: {error.strerror}; name an existing .params file")


def _map(path: str) -> mmap.mmap:
    """Map the `.params` file at `path` into memory, read-only."""
    with _open_regular(path) as file:
        try:
            start = file.read(START_BYTES)
            if start.startswith(START):
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _unreadable(path, error) from None
    raise ParamsFileError(f"{path} is not a .params file but {_kind(start)}")


def _kind(start: bytes) -> str:
    """Say what kind of file starts with these bytes, and what to do about it."""
    if not start:
        return f"empty: {GET_AGAIN}"
    for pattern, kind in OTHER_KINDS.items():
        if re.match(pattern, start):
            return kind
    remedy = GET_AGAIN if struct.pack("<Q", LIST_MAGIC).startswith(start) else "name a .params file"
    return f"something else (it starts with {start[:START_BYTES_IN_MESSAGE]!r}): {remedy}"


def _read_records(reader: RecordReader) -> Tuple[List[np.ndarray], int, List[Device]]:
    """Read the header and all records; return the arrays, their version and their devices."""
    _, reserved = reader.integers("<2Q")
    if reserved:
        raise reader.damaged(f"{reserved} where 0 is expected")
    (count,) = reader.integers("<Q")
    if count > (len(reader.data) - reader.offset) // MIN_RECORD_BYTES:
        raise reader.damaged(f"{count} arrays are more than the file has room for")
    arrays: List[np.ndarray] = []
    devices: List[Device] = []
    version = DEFAULT_VERSION
    for index in range(count):
        reader.part = f"array {index}"
        before, version = version, read_version(reader)
        if index and version != before:
            raise reader.damaged(f"version {version} after an array of version {before}")
        array, device = read_record(reader, version)
        arrays.append(array)
        devices.append(device)
    return arrays, version, devices


def read_version(reader: RecordReader) -> int:
    """Read the magic number of a record; return the version of the format that it stands for."""
    (magic,) = reader.integers("<I")
    for version, known in RECORD_MAGICS.items():
        if magic == known:
            return version
    if 1 <= magic <= MAX_DIMENSIONS:
        raise ParamsFileError(
            f"{reader.path} was written by an MXNet older than 0.12 ({reader.place}: no magic number): "
            "load it with mx.nd.load of MXNet 1.x and write it with mx.nd.save"
        )
    raise reader.damaged(f"{magic:#x} is no array's magic number")


def read_record(reader: RecordReader, version: int) -> Tuple[np.ndarray, Device]:
    """Read the rest of a record, after its magic number; return the array and its device."""
    if version > 1:
        _check_dense(reader)
    shape = _read_shape(reader, version)
    device_type, device_id = reader.integers("<2i")
    if device_type not in DEVICE_TYPES:
        raise reader.damaged(f"there is no device type {device_type}")
    (flag,) = reader.integers("<i")
    if flag not in DTYPES:
        raise reader.damaged(f"there is no data type {flag}")
    dtype = DTYPES[flag]
    if math.prod(size or 1 for size in shape) * dtype.itemsize > sys.maxsize:  # NumPy's limit also for empty arrays
        raise reader.damaged("its shape is too large")
    reader.take(math.prod(shape) * dtype.itemsize)
    return np.ndarray(shape, dtype, reader.data, reader.field), (device_type, device_id)


def _check_dense(reader: RecordReader) -> None:
    (storage,) = reader.integers("<i")
    if storage in SPARSE_STORAGE:
        raise ParamsFileError(
            f"{reader.path} holds a {SPARSE_STORAGE[storage]} array ({reader.place}): "
            "only dense ones can be read; save it after tostype('default')"
        )
    if storage:
        raise reader.damaged(f"there is no storage type {storage}")


def _read_shape(reader: RecordReader, version: int) -> Tuple[int, ...]:
    (ndim,) = reader.integers("<i")
    if ndim == -1 or (ndim == 0 and version != SCALAR_VERSION):
        raise _uninitialised(reader)
    if not 0 <= ndim <= MAX_DIMENSIONS:
        raise reader.damaged(f"{ndim} dimensions; there can be 0 to {MAX_DIMENSIONS}")
    shape = reader.integers(f"<{ndim}q")
    if -1 in shape:
        raise _uninitialised(reader)
    if any(size < 0 for size in shape):
        raise reader.damaged(f"a dimension of {min(shape)}")
    return shape


def _uninitialised(reader: RecordReader) -> ParamsFileError:
    return ParamsFileError(
        f"{reader.path} holds an array without a shape ({reader.place}): it was never initialised, or is a scalar "
        "saved outside mx.util.np_shape(), which MXNet cannot read either; save it again after the first forward pass"
    )


def _read_names(reader: RecordReader, arrays: int) -> List[str]:
    """Read the names, of which there must be as many as `arrays`, up to the end of the file."""
    reader.part = "names"
    (count,) = reader.integers("<Q")
    if arrays and not count:
        raise ParamsFileError(f"{reader.path} holds arrays without names: it was not written by save_parameters")
    if count != arrays:
        raise reader.damaged(f"{count} names for {arrays} arrays")
    names: Dict[str, None] = {}
    for index in range(count):
        reader.part = f"name {index}"
        name = _read_name(reader)
        if name in names:
            raise reader.damaged(f"the name {_short(name)} occurs twice")
        names[name] = None
    reader.field = reader.offset
    if reader.offset < len(reader.data):
        raise reader.damaged(f"{len(reader.data) - reader.offset} extra bytes after the last name")
    return list(names)


def _read_name(reader: RecordReader) -> str:
    (length,) = reader.integers("<Q")
    reader.take(length)
    encoded = reader.data[reader.field : reader.offset]
    if b"\0" in encoded:
        raise reader.damaged("a zero byte, at which MXNet would end the name")
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        raise reader.damaged("not UTF-8") from None


def _short(name: str) -> str:
    return repr(name if len(name) <= NAME_LENGTH_IN_MESSAGE else name[:NAME_LENGTH_IN_MESSAGE] + "...")


def _encoded_name(path: str, name: str) -> bytes:
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise ParamsFileError(
            f"{path} cannot hold the name {_short(name)}, which is not valid Unicode: rename it"
        ) from None
    if b"\0" in encoded:
        raise ParamsFileError(
            f"{path} cannot hold the name {_short(name)}, which MXNet would cut at its zero byte: rename it"
        )
    return encoded


def record_head(path: str, name: str, array: np.ndarray, version: int, device: Device) -> bytes:
    """Return a record without its data, for the array called `name`.

    Raises:
        ParamsFileError: the format cannot hold the array's type or shape, or the device.
    """
    flags = [flag for flag, dtype in DTYPES.items() if dtype == array.dtype.newbyteorder("<")]
    if not flags:
        raise ParamsFileError(f"{path} cannot hold {_short(name)} of type {array.dtype}: cast it to float32")
    if not array.ndim and version != SCALAR_VERSION:
        raise ParamsFileError(f"{path} cannot hold the scalar {_short(name)}: write version {SCALAR_VERSION}")
    if device[0] not in DEVICE_TYPES:
        raise ParamsFileError(f"{path} cannot hold {_short(name)} of device type {device[0]}: use 1, the CPU's")
    storage = b"" if version == 1 else struct.pack("<i", 0)
    shape = struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape)
    return struct.pack("<I", RECORD_MAGICS[version]) + storage + shape + struct.pack("<3i", *device, flags[0])
