"""Write record files from class folders, as MXNet's im2rec does, but in threads and continuing an interrupted call."""

from __future__ import annotations

import contextlib
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Iterator, List, Optional, Tuple

from tqdm import tqdm

from gluon_aff.data.imagenet.class_folders import class_folders, named_folders, training_folders_beside
from gluon_aff.data.imagenet.class_lists import ClassList, classes_content, read_classes
from gluon_aff.data.imagenet.images import LONGEST_SIDE, decode, naming, opencv, resize_shorter
from gluon_aff.data.imagenet.record_files import RECORD_HEADER, all_records, framed, joined, open_record_file
from gluon_aff.data.randomness import epoch_order
from gluon_aff.errors import DataError, InputError, last_line
from gluon_aff.files import replacing_together
from gluon_aff.iteration import in_order

JPEG_MAGIC = b"\xff\xd8\xff"
AHEAD_PER_WORKER = 4

# A record that has been written: the number of its picture, and the offset of the record in the file.
Written = Tuple[int, int]


@dataclass(frozen=True)
class WrittenRecords:
    """Result of `write_records`.

    Attributes:
        images: number of records written.
        classes: the class of each label.
        skipped: paths, relative to the folder, of pictures that could not be read.
        notes: lines about entries that are left out and classes without images.
    """

    images: int
    classes: ClassList
    skipped: Tuple[str, ...]
    notes: Tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    """Pictures to write, in order, and how to write them.

    Attributes:
        folder: folder that holds the class folders.
        classes: names of the classes in the order of their labels.
        pictures: path relative to the folder, and label, of each picture.
        shorter_side: length in pixels to which the shorter side is resized; None keeps the size.
        quality: JPEG quality, 1..100.
        skip_unreadable: whether to leave out pictures that cannot be read.
    """

    folder: str
    classes: Tuple[str, ...]
    pictures: List[Tuple[str, int]]
    shorter_side: Optional[int]
    quality: int
    skip_unreadable: bool


def write_records(
    folder: str,
    out: str,
    shorter_side: Optional[int] = None,
    quality: int = 95,
    shuffle: bool = True,
    seed: int = 0,
    num_workers: int = 4,
    skip_unreadable: bool = False,
    classes: Optional[str] = None,
) -> WrittenRecords:
    """Write `{out}.rec`, `.idx` and `.lst`, in MXNet's formats, and `{out}.classes` from `folder/CLASS/IMAGE`.

    A label is the place of the class among the sorted names of the training set's class folders, so that it stands for
    the same class in training and validation; `{out}.classes` lists these names, one per line. JPEG files are stored
    unchanged unless they are resized; other pictures are converted to JPEG. A call that is interrupted leaves
    `{out}.rec.partial` and `{out}.job.partial`; the next call with the same arguments and pictures continues from
    there, and any other call starts again. The bytes do not depend on the number of workers.

    Args:
        folder: folder that holds the class folders.
        out: path of the files to write, without ending; its directory is created.
        shorter_side: length in pixels to which the shorter side is resized, bilinearly; None keeps the size.
        quality: JPEG quality, 1..100, of pictures that are not stored unchanged.
        shuffle: whether to write the pictures in random order instead of class by class.
        seed: seed of that order, 0 or more.
        num_workers: number of threads that read, resize and compress; 0 does everything in the calling thread.
        skip_unreadable: whether to leave out pictures that cannot be read, instead of stopping at the first.
        classes: the training set, as a folder with class folders or as the `.classes` file of its records. None stands
            for the folder `train` next to `folder` if there is one, otherwise for `folder` itself.

    Raises:
        InputError: a number is out of range, or OpenCV's Python module cannot be used.
        DataError: there are no pictures, one cannot be read, a class folder is not in the training set, `{out}.rec`
            exists, or the files cannot be written.
    """
    if not 1 <= quality <= 100:
        raise InputError(f"--quality {quality}: must be from 1 to 100")
    if shorter_side is not None and not 1 <= shorter_side <= LONGEST_SIDE:
        raise InputError(f"--shorter-side {shorter_side}: must be from 1 to {LONGEST_SIDE}")
    opencv()
    folder, out = os.path.expanduser(folder), os.path.expanduser(out)
    for suffix in ("rec",) if os.path.exists(f"{out}.job.partial") else ("rec", "idx", "lst", "classes"):
        if os.path.exists(f"{out}.{suffix}"):
            raise DataError(f"{out}.{suffix} exists: remove it or choose another name")
    found = class_folders(folder, "CLASS/IMAGE", _classes(folder, classes))
    samples, names = found.samples, tuple(found.classes.ordered)
    order = epoch_order(seed, 0, len(samples)).tolist() if shuffle else range(len(samples))
    pictures = [(os.path.relpath(samples[number][0], folder), samples[number][1]) for number in order]
    job = _Job(folder, names, pictures, shorter_side, quality, skip_unreadable)
    try:
        written = _write(job, out, num_workers)
        _finish(job, out, written)
    except OSError as error:
        raise DataError(
            f"{out}.rec cannot be written ({last_line(error)}): check free space and rights; the same call continues"
        ) from None
    numbers = {number for number, _ in written}
    skipped = tuple(path for number, (path, _) in enumerate(pictures) if number not in numbers)
    return WrittenRecords(len(written), found.classes, skipped, found.notes)


def _classes(folder: str, given: Optional[str]) -> Optional[ClassList]:
    """Return the training set's classes, which `given` names or `train` next to `folder` has; None if neither does."""
    if given is None:
        return training_folders_beside(folder)
    given = os.path.expanduser(given)
    if not os.path.isdir(given):
        return read_classes(given)
    known = named_folders(given)
    if known is None:
        raise DataError(f"--classes {given} has no class folders: name the training set's folder, or its .classes file")
    return known


def _write(job: _Job, out: str, num_workers: int) -> List[Written]:
    """Write the remaining records to `{out}.rec.partial`, and return all records in it."""
    os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
    written, end = _resumed(job, out)
    total = len(job.pictures)
    start = written[-1][0] + 1 if written else 0
    with open(f"{out}.rec.partial", "ab") as file, tqdm(
        None, os.path.basename(out), total, leave=False, disable=None, unit="image", initial=start
    ) as progress:
        file.truncate(end)
        for number, record in enumerate(_made(job, range(start, total), num_workers), start):
            if record is not None:
                written.append((number, end))
                end += file.write(record)
            progress.update()
        _to_disk(file)
    if not written:
        raise DataError(f"none of the {total:,} pictures in {job.folder} can be read: get them again")
    return written


def _resumed(job: _Job, out: str) -> Tuple[List[Written], int]:
    """Return the records that an earlier call wrote for the same job, if any, and the offset of their end."""
    partial, state = Path(f"{out}.rec.partial"), Path(f"{out}.job.partial")
    signature = _signature(job)
    if partial.exists() and state.exists() and state.read_text() == signature:
        written, end = _whole_records(str(partial))
        if job.skip_unreadable or [number for number, _ in written] == list(range(len(written))):
            return written, end
    partial.write_bytes(b"")
    state.write_text(signature)
    return [], 0


def _signature(job: _Job) -> str:
    """Return a SHA-256 sum, in hexadecimal, of everything on which the record file depends."""
    how = (job.shorter_side, job.quality, opencv().__version__, job.classes)
    digest = hashlib.sha256(repr(how).encode())
    for path, label in job.pictures:
        with naming(os.path.join(job.folder, path)):
            facts = os.stat(os.path.join(job.folder, path))
        digest.update(repr((path, label, facts.st_size, facts.st_mtime_ns)).encode())
    return digest.hexdigest()


def _whole_records(partial: str) -> Tuple[List[Written], int]:
    """Return the complete records of a file, the last of which may be cut short, and the offset of their end."""
    content = open_record_file(partial)
    written: List[Written] = []
    end = 0
    with contextlib.suppress(DataError):
        for pieces, following in all_records(content, partial):
            number = RECORD_HEADER.unpack(joined(content, pieces, RECORD_HEADER.size))[2]
            written.append((number, end))
            end = following
    return written, end


def _made(job: _Job, numbers: range, num_workers: int) -> Iterator[Optional[bytes]]:
    """Yield the records of the pictures in order, None for a picture that is skipped."""

    def make(number: int) -> Optional[bytes]:
        return _record(job, number)

    if num_workers < 1:
        yield from map(make, numbers)
        return
    with ThreadPoolExecutor(num_workers) as pool:
        yield from in_order(lambda number: pool.submit(make, number), numbers, AHEAD_PER_WORKER * num_workers)


def _record(job: _Job, number: int) -> Optional[bytes]:
    path, label = job.pictures[number]
    header = RECORD_HEADER.pack(0, label, number, 0)
    try:
        with naming(os.path.join(job.folder, path)):
            return framed(header + _as_jpeg(Path(job.folder, path).read_bytes(), job))
    except DataError:
        if job.skip_unreadable:
            return None
        raise


def _as_jpeg(content: bytes, job: _Job) -> bytes:
    """Return a picture as JPEG; it is decoded in any case, since training would stop at one that cannot be."""
    image = decode(content, upright=True)
    if job.shorter_side is None and content.startswith(JPEG_MAGIC):
        return content
    if job.shorter_side is not None:
        image = resize_shorter(image, job.shorter_side)
    cv2 = opencv()
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, job.quality])[1].tobytes()


def _finish(job: _Job, out: str, written: List[Written]) -> None:
    """Write the index and the lists, and then rename the record file, whose final name shows that all are complete."""
    index = "".join(f"{number}\t{begin}\n" for number, begin in written)
    listed = ((number, *job.pictures[number]) for number, _ in written)
    lines = "".join(f"{number}\t{label:f}\t{path}\n" for number, path, label in listed)
    contents = {
        "classes": classes_content(job.classes),
        "idx": index.encode(),
        "lst": lines.encode("utf-8", "surrogateescape"),
    }
    with replacing_together(*(f"{out}.{ending}" for ending in contents)) as partials:
        for partial, content in zip(partials, contents.values()):
            Path(partial).write_bytes(content)
    os.replace(f"{out}.rec.partial", f"{out}.rec")
    os.remove(f"{out}.job.partial")


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
