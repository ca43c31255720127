"""Read training logs of CIFAR and ImageNet runs, the original's and ours, and of our StopSign runs.

Logs may be compressed with gzip, cut anywhere, or mixed with colours, progress bars and other text.
"""

from __future__ import annotations

import ast
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from gluon_aff.errors import InputError
from gluon_aff.printing import without_control_sequences

CHUNK = 1 << 20  # bytes read at a time; of a longer line, only this many last bytes are kept
LARGEST = 2 << 30  # bytes of an uncompressed log
MOST_EPOCHS = 200_000  # in a log; each takes about 1 KiB of memory
MOST_RUNS = 5_000  # in a log
LONGEST_SETTINGS = 1 << 14  # bytes of a settings line, which Python's parser reads; usual lines have 1 to 3 KiB
RATE_BYTES = 200  # bytes at the end of a batch's line in which its learning rate is searched
GZIP_MAGIC = b"\x1f\x8b"
CUT_OUT = "cut out the run to compare"

# A log may contain anything, in lines of any length, so all of these patterns take a time linear in the line's length.
# A figure must have all six decimals of "%f", so that a line cut within a figure is not taken for complete. Lines are
# searched, not matched, because a line may follow a cut one or a progress bar without a line break.
_NUMBER = rb"(-?(?:\d+\.\d{6}|inf|nan))"
_CIFAR_EPOCH = re.compile(
    rb"\[Epoch (\d{1,9})\] train=%b val=%b(?: niou=%b)? loss=%b(?: lr: %b)? time: %b$" % ((_NUMBER,) * 6)
)  # fmt: skip
_BATCH = re.compile(rb"Epoch\[(\d{1,9})\] Batch \[(\d{1,9})\]\tSpeed: ")
_BATCH_RATE = re.compile(rb"\tlr=%b$" % _NUMBER)
_TRAINING = re.compile(rb"\[Epoch (\d{1,9})\] training: (rmse|accuracy)=%b$" % _NUMBER)
_SPEED = re.compile(rb"\[Epoch (\d{1,9})\] speed: (\d{1,9}) samples/sec\ttime cost: %b$" % _NUMBER)
_VALIDATION = re.compile(rb"\[Epoch (\d{1,9})\] validation: err-top1=%b err-top5=%b$" % (_NUMBER, _NUMBER))
# A line that looks like a line of a log, whatever its figures are
_LIKE_A_LOG = re.compile(rb"\[Epoch \d{1,9}\] (?:train|speed|valid)|Epoch\[\d{1,9}\] Batch")
_CIFAR_COLUMNS = ("epoch", "train_rmse", "val_acc", "val_niou", "loss", "lr", "seconds")
_IMAGENET_COLUMNS = (
    "epoch",
    "train_rmse",
    "train_acc",
    "err_top1",
    "err_top5",
    "samples_per_sec",
    "seconds",
    "lr",
)
_SETTINGS_START = b"Namespace("
_SETTINGS = re.compile(rb"Namespace\((?=\w+=).*")  # up to the end of the line, since a cut line starts a run too
_HEADER_START = b"gluon_aff "
_HEADER = re.compile(
    rb"gluon_aff (?P<version>\S+), (?P<libraries>.*), devices (?P<devices>\S+), "
    rb"(?P<images_per_step>\d{1,9}) images per step, (?P<data>\w+) data, "
    rb"(?P<label_values>\d{1,9}) label values under a (?P<head>\d{1,9})-way head$"
)
_GOES_ON = re.compile(rb"from epoch (\d{1,9}) on: $")  # before such a line, where a run goes on under another engine


class UnreadLinesError(InputError):
    """A log has lines that look like those of an epoch, but none of them can be read."""


@dataclass(frozen=True)
class LoggedRun:
    """One run in a log.

    A run starts at a settings line, or where the number of the epoch or batch decreases, and ends where the next run
    starts.

    Attributes:
        settings: settings by name; None without a complete settings line.
        header: parts of the line that follows the settings in our logs: version, libraries, devices, images_per_step,
            data, label_values, head.
        settings_line: number of the settings line in the file, from 1.
        lines: numbers of the first and the last line with figures, from 1.
        epochs: columns over the finished epochs, named as in the published CSV files, with `lr` also for ImageNet; a
            segmentation run has `train_iou`, `val_iou` and `val_niou`.
        batch_lines: number of lines about batches (ImageNet).
        unread: number of lines that look like those of a log but cannot be read; any log may have a cut one.
        first_unread: number of the first such line, from 1.
        continuations: under other engines, each with its first epoch and the parts of its line, as in `header`.
    """

    settings: Optional[Dict[str, Any]]
    header: Dict[str, str]
    settings_line: Optional[int]
    lines: Optional[Tuple[int, int]]
    epochs: Dict[str, np.ndarray]
    batch_lines: int
    unread: int = 0
    first_unread: Optional[int] = None
    continuations: Tuple[Tuple[int, Dict[str, str]], ...] = ()

    @property
    def segments(self) -> bool:
        """Return whether this is the run of a segmentation network."""
        return "val_iou" in self.epochs if self.epochs else "crop_size" in (self.settings or {})

    @property
    def finished(self) -> int:
        """Return the number of finished epochs."""
        return len(self.epochs.get("epoch", ()))


def read_log(path: str) -> List[LoggedRun]:
    """Read all runs in the log at `path`, plain or gzip, including those without a finished epoch.

    Colours, cut lines, NUL bytes, carriage returns and any other text are ignored.

    Raises:
        InputError: the file cannot be read, is too large, or has neither a settings line nor a line of an epoch.
        UnreadLinesError: the file has lines that look like those of an epoch, but nothing that can be read.
    """
    parser = _Parser(path)
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise InputError(f"{path} is not a file: name a training log")
        with open(path, "rb") as raw:
            packed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            with gzip.open(raw) if packed else raw as file:
                for number, line in enumerate(_lines(file, path), 1):
                    parser.read(number, line)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if not parser.runs or isinstance(error, FileNotFoundError):
            raise InputError(f"{path}: {reason}; name a training log") from None
    if not parser.runs:
        unread = unread_error([parser.nowhere])
        if unread:
            raise UnreadLinesError(f"{path}: {unread}")
        raise InputError(f"{path} is not a training log: it has neither a settings line nor a line of an epoch")
    return [run.finish() for run in parser.runs]


def unread_error(runs: Sequence[Union[LoggedRun, _Run]]) -> Optional[UnreadLinesError]:
    """Return an error about the lines that look like those of a log but cannot be read; None if there are none."""
    first = min((run.first_unread for run in runs if run.first_unread), default=None)
    if first is None:
        return None
    more = sum(run.unread for run in runs) - 1
    return UnreadLinesError(
        f"line {first}{f' and {more:,} more look' if more else ' looks'} like a training log's, but cannot be read: "
        "give the log as train_cifar.py, train_imagenet.py or train_segmentation.py wrote it"
    )


def _lines(file: Union[io.BufferedReader, gzip.GzipFile], path: str) -> Iterator[bytes]:
    rest, total = b"", 0
    for chunk in iter(lambda: file.read1(CHUNK), b""):
        total += len(chunk)
        if total > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST >> 30} GiB: {CUT_OUT}")
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        rest = rest[-CHUNK:]
    yield rest


class _Parser:
    """Splits the log at `path` into runs, line by line."""

    def __init__(self, path: str) -> None:
        self.runs: List[_Run] = []
        self.nowhere = _Run()  # for lines before the first run
        self._path = path
        self._epochs = 0  # in all runs together

    def read(self, number: int, line: bytes) -> None:
        """Parse the line with this number, counted from 1.

        Raises:
            InputError: the log has more than `MOST_RUNS` runs or `MOST_EPOCHS` epochs.
        """
        if b"\0" in line:
            line = line.replace(b"\0", b"")
        line = without_control_sequences(line).rstrip(b"\r ")
        if not self._understands(number, line) and _LIKE_A_LOG.search(line):
            (self.runs[-1] if self.runs else self.nowhere).add_unread(number)

    def _understands(self, number: int, line: bytes) -> bool:
        batch = _BATCH.search(line)
        if batch:
            position = int(batch[1]), int(batch[2])
            self._at(*position).add_batch(number, *position, line)
            return True
        if _SETTINGS_START in line:
            return self._understands_settings(number, line)
        if b"[Epoch " in line:
            return self._understands_epoch(number, line)
        if _HEADER_START in line and self.runs:
            start = line.rindex(_HEADER_START)
            header = _HEADER.match(line, start)
            if header:
                parts = {name: text.decode(errors="replace") for name, text in header.groupdict().items()}
                self.runs[-1].add_header(parts, _GOES_ON.search(line[:start]))
        return False

    def _understands_settings(self, number: int, line: bytes) -> bool:
        found = _SETTINGS.search(line)
        if found:
            self._begin(_Run(settings_line=number, settings=_settings(found[0])))
        return bool(found)

    def _understands_epoch(self, number: int, line: bytes) -> bool:
        found = _CIFAR_EPOCH.search(line)
        if found:
            self._count_epoch()
            self._at(int(found[1])).add_cifar_epoch(number, found.groups())
            return True
        for pattern in (_TRAINING, _SPEED, _VALIDATION):
            found = pattern.search(line)
            if found:
                if pattern is _VALIDATION:
                    self._count_epoch()
                self._at(int(found[1])).add_imagenet_line(number, pattern, found)
                return True
        return False

    def _at(self, epoch: int, batch: Optional[int] = None) -> _Run:
        """Return the run that a figure of `epoch` belongs to, a new one where the epoch or batch number decreases."""
        if not self.runs or self.runs[-1].falls_back(epoch, batch):
            self._begin(_Run())
        return self.runs[-1]

    def _begin(self, run: _Run) -> None:
        if len(self.runs) == MOST_RUNS:
            raise InputError(f"{self._path} has more than {MOST_RUNS:,} runs: {CUT_OUT}")
        self.runs.append(run)

    def _count_epoch(self) -> None:
        self._epochs += 1
        if self._epochs > MOST_EPOCHS:
            raise InputError(f"{self._path} has more than {MOST_EPOCHS:,} epochs: {CUT_OUT}")


class _Run:
    """Collects the lines of a run; a row holds the texts of an epoch's figures in the order of `names`."""

    def __init__(self, settings_line: Optional[int] = None, settings: Optional[Dict[str, Any]] = None) -> None:
        self.settings_line = settings_line
        self.settings = settings
        self.header: Dict[str, str] = {}
        self.continuations: Dict[int, Tuple[int, Dict[str, str]]] = {}  # by finished epochs, so there are no more
        self.lines: Optional[Tuple[int, int]] = None
        self.names: Tuple[str, ...] = ()
        self.rows: List[Tuple[Optional[bytes], ...]] = []
        self.epoch = -1  # of the last row
        self.open_row: Dict[str, bytes] = {}  # figures of an unfinished ImageNet epoch
        self.last_batch = (-1, -1, b"")
        self.batch_lines = 0
        self.unread = 0
        self.first_unread: Optional[int] = None

    def add_unread(self, number: int) -> None:
        self.unread += 1
        self.first_unread = self.first_unread or number

    def add_header(self, parts: Dict[str, str], goes_on: Optional[re.Match[bytes]]) -> None:
        if goes_on:
            self.continuations[len(self.rows)] = int(goes_on[1]), parts
        elif not self.lines:
            self.header = parts

    def falls_back(self, epoch: int, batch: Optional[int]) -> bool:
        if epoch <= self.epoch or epoch < self.last_batch[0]:
            return True
        return batch is not None and (epoch, batch) <= self.last_batch[:2]

    def add_batch(self, number: int, epoch: int, batch: int, line: bytes) -> None:
        self.last_batch = (epoch, batch, line[-RATE_BYTES:])
        self.batch_lines += 1
        self._extend(number)

    def add_cifar_epoch(self, number: int, figures: Tuple[Optional[bytes], ...]) -> None:
        self._add_row(number, _CIFAR_COLUMNS, figures)

    def add_imagenet_line(self, number: int, pattern: re.Pattern[bytes], found: re.Match[bytes]) -> None:
        self._extend(number)
        if self.open_row.get("epoch") != found[1]:
            self.open_row = {"epoch": found[1]}
        if pattern is _TRAINING:
            self.open_row["train_rmse" if found[2] == b"rmse" else "train_acc"] = found[3]
            rate = _BATCH_RATE.search(self.last_batch[2])
            if rate and self.last_batch[0] == int(found[1]):
                self.open_row["lr"] = rate[1]
        elif pattern is _SPEED:
            self.open_row.update(samples_per_sec=found[2], seconds=found[3])
        else:
            self.open_row.update(err_top1=found[2], err_top5=found[3])
            self._add_row(number, _IMAGENET_COLUMNS, tuple(map(self.open_row.get, _IMAGENET_COLUMNS)))

    def _add_row(self, number: int, names: Tuple[str, ...], figures: Tuple[Optional[bytes], ...]) -> None:
        self._extend(number)
        self.names = names
        self.rows.append(figures)
        self.epoch = int(figures[0] or 0)

    def _extend(self, number: int) -> None:
        self.lines = (self.lines[0] if self.lines else number, number)

    def finish(self) -> LoggedRun:
        columns = zip(self.names, zip(*self.rows))
        epochs = {
            name: np.array([text or b"nan" for text in column]).astype(float) for name, column in columns if any(column)
        }
        if epochs:
            epochs["epoch"] = epochs["epoch"].astype(int)
        if "val_niou" in epochs:
            epochs.update(train_iou=epochs.pop("train_rmse"), val_iou=epochs.pop("val_acc"))
        if "val_acc" in epochs and not (self.settings or {}).get("mixup", True):
            epochs["train_acc"] = epochs.pop("train_rmse")  # our logs without mixup, with which the original crashed
        return LoggedRun(
            settings=self.settings,
            header=self.header,
            settings_line=self.settings_line,
            lines=self.lines,
            epochs=epochs,
            batch_lines=self.batch_lines,
            unread=self.unread,
            first_unread=self.first_unread,
            continuations=tuple(self.continuations.values()),
        )


def _settings(text: bytes) -> Optional[Dict[str, Any]]:
    """Parse the settings in `Namespace(a=1, b='x')`; return None if the text is incomplete or too long."""
    if len(text) > LONGEST_SETTINGS:
        return None
    try:
        call = ast.parse(text.decode(), mode="eval").body
        if not isinstance(call, ast.Call):
            return None
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
