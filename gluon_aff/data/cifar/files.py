"""Read CIFAR-10 and CIFAR-100 in their binary form from a folder or directly from the archive, and verify checksums.

A record consists of one label byte (CIFAR-10) or a coarse and a fine label byte (CIFAR-100), followed by 32 x 32 red,
green and blue values. The SHA-1 sums of the files are those that Gluon checks; the SHA-256 sums of the archives on
Krizhevsky's page are from TensorFlow Datasets. Other data in the same layout, such as the sample sets or your own,
needs a `SHA1SUMS` file as written by `sha1sum *.bin > SHA1SUMS`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Tuple

import numpy as np

from gluon_aff.data.class_names import class_names
from gluon_aff.errors import DataError, GluonAFFError, InputError, last_line
from gluon_aff.files import decoded
from gluon_aff.printing import show

CIFAR_SITE = "https://www.cs.toronto.edu/~kriz"
CIFAR_PAGE = f"{CIFAR_SITE}/cifar.html"
SUMS_FILE = "SHA1SUMS"
SECONDS_BETWEEN_LOOKS = 1.0  # while another process downloads the archive

# Red, green and blue on a 0..1 scale. They are CIFAR-10's; the original uses them for CIFAR-100, too.
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)

_PIXEL_BYTES = 3 * 32 * 32
_TEXT_BYTES = 1 << 16
# A small archive, or the headers in it, can unpack to any size. CIFAR's archives have 8 members in 184 MB.
MOST_UNPACKED = 2 << 30
MOST_MEMBERS = 10_000
MOST_EXTENSION_BYTES = 1 << 12  # in a header that only extends the next one, for example with a long name
_EXTENSIONS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
LARGEST_FILE = 2 << 30  # bytes; a file is read whole into memory, and CIFAR-100's largest has a thirteenth of this


@dataclass(frozen=True)
class LabelledImages:
    """A data set in memory.

    Attributes:
        images: uint8 (N, 32, 32, 3): red, green, blue.
        labels: int32 (N,), in 0..classes - 1.
        classes: number of classes: 10, 100 (fine) or 20 (coarse).
        official: whether the checksums are those of the official files.
        names: names of the classes in the order of their labels.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int
    official: bool = False
    names: Tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class _Layout:
    """Layout of a data set on disk: its files with their checksums, and the range and names of each label byte."""

    title: str
    archive: str
    archive_sha256: str
    folder: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    label_values: Tuple[int, ...]
    label_names: Tuple[str, ...]
    largest: int

    @property
    def record(self) -> int:
        """Return the number of bytes in a record."""
        return len(self.label_values) + _PIXEL_BYTES

    @property
    def files(self) -> Tuple[str, ...]:
        """Return the names of all files of the data set."""
        return (*self.train, *self.test)


_LAYOUTS = {
    "cifar10": _Layout(
        title="CIFAR-10",
        archive="cifar-10-binary.tar.gz",
        archive_sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        folder="cifar-10-batches-bin",
        train={
            "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
            "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
            "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
            "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
            "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
        },
        test={"test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c"},
        label_values=(10,),
        label_names=("batches.meta.txt",),
        largest=10_000 * (1 + _PIXEL_BYTES),
    ),
    "cifar100": _Layout(
        title="CIFAR-100",
        archive="cifar-100-binary.tar.gz",
        archive_sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        folder="cifar-100-binary",
        train={"train.bin": "e207cd2e05b73b1393c74c7f5e7bea451d63e08e"},
        test={"test.bin": "8fb6623e830365ff53cf14adec797474f5478006"},
        label_values=(20, 100),
        label_names=("coarse_label_names.txt", "fine_label_names.txt"),
        largest=50_000 * (2 + _PIXEL_BYTES),
    ),
}


def load_cifar(dataset: str, train: bool, fine_label: bool = False, data_dir: Optional[str] = None) -> LabelledImages:
    """Load the training or the test images of CIFAR-10 or CIFAR-100.

    Args:
        dataset: 'cifar10' or 'cifar100'.
        train: whether to load the training images, otherwise the test images.
        fine_label: whether to use CIFAR-100's 100 classes instead of its 20 superclasses, which are Gluon's default and
            therefore the original's. CIFAR-10 has only one set of labels.
        data_dir: the official archive, the unpacked folder, or a folder that holds either. None stands for Gluon's
            folder `$MXNET_HOME/datasets/{dataset}`, to which the archive is downloaded if it is not there.

    Raises:
        InputError: there is no such data set.
        DataError: the files are missing, damaged, or neither official nor listed in a `SHA1SUMS` file next to them.
        GluonAFFError: the archive cannot be downloaded.
    """
    if dataset not in _LAYOUTS:
        raise InputError(f"unknown data set '{dataset}': --dataset is one of {', '.join(_LAYOUTS)}")
    layout = _LAYOUTS[dataset]
    where = _gluon_data(dataset, layout) if data_dir is None else _given_data(layout, data_dir)
    official = layout.train if train else layout.test
    column = len(layout.label_values) - 1 if fine_label else 0
    names_file = layout.label_names[column]
    wanted = (*official, SUMS_FILE, names_file)
    found = _read_archive(layout, where, wanted) if where.is_file() else _read_folder(where, wanted)
    own = _own_sums(where, found.pop(SUMS_FILE, None))
    listing = found.pop(names_file, None)
    for name, expected in official.items():
        _check_file(layout, where, name, found.get(name), own.get(name, expected))
    images = _decode(layout, where, [found[name] for name in official], column)
    if all(own.get(name, expected) == expected for name, expected in official.items()):
        return replace(images, official=True, names=tuple(class_names(dataset, fine_label)))
    return replace(images, names=_own_names(where, names_file, listing, images.classes))


def _find(layout: _Layout, path: Path) -> Optional[Path]:
    """Return the archive or the folder of .bin files that `path` is or holds, None if there is none."""
    try:
        if path.is_file():
            return path
        for folder in (path, path / layout.folder):
            if any((folder / name).is_file() for name in layout.files):
                return folder
        archive = path / layout.archive
        return archive if archive.is_file() else None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name the place of {layout.archive} with --data-dir") from None


def _given_data(layout: _Layout, data_dir: str) -> Path:
    path = Path(os.path.expanduser(data_dir))
    where = _find(layout, path)
    if where is not None:
        return where
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; name the place of {layout.archive} with --data-dir")
    for name, other in _LAYOUTS.items():
        if _find(other, path) is not None:
            raise DataError(
                f"{path} has {other.title}'s files: add --dataset {name}, or name the place of {layout.title}'s files "
                "with --data-dir"
            )
    raise DataError(
        f"{path}: found neither {layout.archive} nor {layout.files[0]}, here or in {layout.folder}/: "
        f"get the archive from {CIFAR_PAGE} and name its place with --data-dir"
    )


def _gluon_data(dataset: str, layout: _Layout) -> Path:
    """Return the archive or the folder of .bin files in Gluon's folder, after a download if there is neither."""
    root = Path(os.path.expanduser(os.environ.get("MXNET_HOME", "~/.mxnet"))) / "datasets" / dataset
    return _find(layout, root) or _downloaded(layout, root / layout.archive)


def _downloaded(layout: _Layout, archive: Path) -> Path:
    from gluon_aff.download import UnderWayError, download  # imports `requests`, which takes longer than all else here

    def problem(path: str) -> Optional[str]:
        found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return None if found == layout.archive_sha256 else f"SHA-256 {found}, expected {layout.archive_sha256}"

    url = f"{CIFAR_SITE}/{layout.archive}"
    show(f"downloading {url} to {archive.parent}", flush=True)
    try:
        while not archive.is_file():
            try:
                download(url, str(archive), problem, layout.archive)
            except UnderWayError:  # another worker of the run is probably downloading it
                time.sleep(SECONDS_BETWEEN_LOOKS)
    except GluonAFFError as error:
        raise GluonAFFError(f"{error}, or name its place with --data-dir; it is on {CIFAR_PAGE}") from None
    return archive


def _read_folder(folder: Path, names: Iterable[str]) -> Dict[str, np.ndarray]:
    """Read those of the files that exist, and return their bytes by name."""
    try:
        present = [folder / name for name in names if (folder / name).is_file()]
        for path in present:
            if path.stat().st_size > LARGEST_FILE:
                raise DataError(f"{path} is larger than {LARGEST_FILE >> 30} GiB: split it, or name another --data-dir")
        return {path.name: np.fromfile(path, dtype=np.uint8) for path in present}
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read ({error}): make its files readable or name another --data-dir"
        ) from error


def _read_archive(layout: _Layout, archive: Path, names: Iterable[str]) -> Dict[str, np.ndarray]:
    """Read those of the members that exist, and return their bytes by name; nothing is written to disk.

    A member is recognised by its exact official name (`cifar-100-binary/train.bin`) or by that name without the folder,
    as in Gluon's copy of the archive. All other members are skipped.
    """
    member_names = {
        prefix + name: name for name in names for prefix in (f"{layout.folder}/", f"./{layout.folder}/", "", "./")
    }
    found = {}
    try:
        with gzip.open(archive) as unpacked:
            for tar, member in _members(_Bounded(unpacked)):
                name = member_names.get(member.name)
                if name is not None:
                    found[name] = _read_member(layout, archive, tar, member)
    except DataError:
        raise
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise DataError(
            f"{archive} is not a complete .tar.gz archive ({last_line(error)}): get {layout.archive} from {CIFAR_PAGE}"
        ) from error
    return found


class _Bounded:
    """A stream that raises an error after MOST_UNPACKED bytes."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._left = stream, MOST_UNPACKED

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes.

        Raises:
            tarfile.ReadError: the stream is too long.
        """
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise tarfile.ReadError(f"it unpacks to more than {MOST_UNPACKED:,} bytes")
        return data


class _CheckedHeader(tarfile.TarInfo):
    """Header of a member, with a check of its size: some versions of tarfile never finish reading a negative one."""

    @classmethod
    def frombuf(cls, *arguments: Any) -> _CheckedHeader:
        """Parse the header in a block and check the size that it gives.

        Raises:
            tarfile.ReadError: the size is negative or too large.
        """
        header = super().frombuf(*arguments)
        if header.size < 0 or (header.type in _EXTENSIONS and header.size > MOST_EXTENSION_BYTES):
            raise tarfile.ReadError(f"a member has {header.size:,} bytes")
        return header


def _members(stream: Any) -> Iterator[Tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members of an archive in order, each to be read at once, since tarfile cannot go back in a stream."""
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_CheckedHeader) as tar:
        for number, member in enumerate(tar):
            if number == MOST_MEMBERS:
                raise tarfile.ReadError(f"it has more than {MOST_MEMBERS:,} members")
            yield tar, member


def _read_member(layout: _Layout, archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> np.ndarray:
    largest = layout.largest if member.name.endswith(".bin") else _TEXT_BYTES
    plain = member.isreg() and not member.issparse() and 0 <= member.size <= largest
    stream = tar.extractfile(member) if plain else None
    if stream is None:
        raise DataError(
            f"{archive}: {member.name} is not a plain file of at most {largest:,} bytes: "
            f"get {layout.archive} from {CIFAR_PAGE}"
        )
    return np.frombuffer(stream.read(), dtype=np.uint8)


def _own_sums(where: Path, listing: Optional[np.ndarray]) -> Dict[str, str]:
    """Parse a `SHA1SUMS` file, whose lines are the sum, a space, a space or `*`, and the name; return sums by name."""
    if listing is None:
        return {}
    try:
        lines = decoded(listing.tobytes()).splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: {SUMS_FILE} is not a text file ({error}): write it with sha1sum *.bin > {SUMS_FILE}"
        ) from None
    return {line[42:]: line[:40].lower() for line in lines if line[40:42] in ("  ", " *")}


def _check_file(layout: _Layout, where: Path, name: str, data: Optional[np.ndarray], expected: str) -> None:
    """Check that a file is there and complete, and that its checksum is the expected one.

    Raises:
        DataError: it is not.
    """
    if data is None:
        raise DataError(f"{where}: {name} is missing: get {layout.archive} from {CIFAR_PAGE}")
    if data.size == 0 or data.size % layout.record:
        raise DataError(
            f"{where}: {name} has {data.size:,} bytes, which is not a whole number of {layout.record:,}-byte images: "
            f"get {layout.archive} again from {CIFAR_PAGE}"
        )
    found = hashlib.sha1(data.data).hexdigest()
    if found != expected:
        raise DataError(
            f"{where}: {name} has SHA-1 {found}, expected {expected}: get {layout.archive} again from {CIFAR_PAGE}, "
            f"or, if the data is your own, run 'sha1sum *.bin > {SUMS_FILE}' in its folder"
        )


def _own_names(where: Path, file: str, listing: Optional[np.ndarray], classes: int) -> Tuple[str, ...]:
    """Return the names of the classes of data that is not official: the lines of `listing`, or their numbers."""
    if listing is None:
        return tuple(map(str, range(classes)))
    try:
        names = tuple(line.strip() for line in decoded(listing.tobytes()).splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: {file} is not a text file ({error}): write one class name per line") from None
    if len(names) != classes:
        raise DataError(
            f"{where}: {file} names {len(names)} classes, but there are {classes}: name them all, or remove the file"
        )
    return names


def _decode(layout: _Layout, where: Path, files: Iterable[np.ndarray], column: int) -> LabelledImages:
    """Decode the records of some files into images, with the labels in the given label column."""
    records = np.concatenate([data.reshape(-1, layout.record) for data in files])
    labels, pixels = np.split(records, [len(layout.label_values)], axis=1)
    for value, values in zip(labels.max(axis=0), layout.label_values):
        if value >= values:
            raise DataError(
                f"{where}: a label byte is {value}, but the largest label is {values - 1}: "
                f"this is not {layout.archive} in binary form; get it from {CIFAR_PAGE}"
            )
    return LabelledImages(
        images=np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)),
        labels=labels[:, column].astype(np.int32),
        classes=layout.label_values[column],
    )
