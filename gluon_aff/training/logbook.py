"""Write the log, the curve of errors and the file of the best accuracy, in the original's formats."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, Mapping, Optional, Sequence, Tuple

from gluon_aff.errors import GluonAFFError, InputError, last_line
from gluon_aff.files import replacing
from gluon_aff.locks import LockedError, locked

NEW_RUN = b"Namespace("


class _LogFile(logging.FileHandler):
    """Log file that stops the run if it cannot be written, where logging's own prints a traceback for every line."""

    def handleError(self, record: logging.LogRecord) -> None:
        reason = last_line(sys.exc_info()[1] or OSError("unknown reason"))
        raise GluonAFFError(f"{self.baseFilename} cannot be written ({reason}): check free space and rights") from None


@dataclass(frozen=True)
class RunLog:
    """An open log of a run.

    Attributes:
        info: function that writes a line.
        path: path of the file.
        start: offset of the run's first line in the file, in bytes.
        opened: status of the file when it was opened, which tells whether it is still the same file.
        line_format: `logging` format of the lines.
    """

    info: Callable[[str], None]
    path: str
    start: int
    opened: os.stat_result
    line_format: str

    def lines(self, *messages: str) -> bytes:
        """Return the bytes that `info` writes for these messages."""
        formatter = logging.Formatter(self.line_format)
        records = (logging.makeLogRecord({"name": "root", "levelname": "INFO", "msg": message}) for message in messages)
        return "".join(f"{formatter.format(record)}\n" for record in records).encode()

    def text(self) -> bytes:
        """Return the run's lines so far, nothing if the log is not a regular file.

        Raises:
            GluonAFFError: the file is gone, or another one is in its place.
        """
        if not os.path.exists(self.path) or os.path.isfile(self.path):
            return self._text_of_file()
        return b""  # a terminal, for example

    def _text_of_file(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                if not os.path.samestat(os.fstat(file.fileno()), self.opened):
                    raise OSError("another file is in its place")
                file.seek(self.start)
                return file.read()
        except OSError as error:
            reason = error.strerror or error
            raise GluonAFFError(
                f"{self.path} disappeared during the run ({reason}): --resume auto writes it again and continues"
            ) from None


SILENT_LOG = RunLog(lambda line: None, os.devnull, 0, os.stat(os.devnull), logging.BASIC_FORMAT)


@contextlib.contextmanager
def open_log(
    path: str, line_format: str = logging.BASIC_FORMAT, earlier: bytes = b"", start: int = 0
) -> Iterator[RunLog]:
    """Open a log that appends lines to a file and prints them on stderr.

    The original's CIFAR logs have the root logger's `INFO:root:` before each line; its ImageNet logs have nothing.

    Args:
        path: path of the log; its directory is created.
        line_format: `logging` format of the lines.
        earlier: lines that a resumed run has written before; the log is made to end with them.
        start: their offset in the log, in bytes.

    Raises:
        InputError: another process writes the log, or it cannot be opened.
    """
    log = logging.Logger("root", logging.INFO)
    with contextlib.ExitStack() as opened:
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            file = opened.enter_context(open(path, "ab"))
            if os.path.isfile(path):  # not a terminal, for example
                opened.enter_context(locked(f"{os.path.realpath(path)}.lock"))
                start = _end_with(path, earlier, start)
            handlers: List[logging.Handler] = [_LogFile(path), logging.StreamHandler(sys.stderr)]
        except LockedError:
            raise InputError(f"another run writes to {path}: stop it first, or choose another log") from None
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; choose another place for the log") from None
        for handler in handlers:
            opened.callback(_close, handler)
            handler.setFormatter(logging.Formatter(line_format))
            log.addHandler(handler)
        yield RunLog(log.info, path, start, os.fstat(file.fileno()), line_format)


def _close(handler: logging.Handler) -> None:
    with contextlib.suppress(OSError):  # an error while writing has been reported already
        handler.close()


def _end_with(path: str, earlier: bytes, start: int) -> int:
    """Make the log end with the `earlier` lines of a run, and return their offset; without any, with a complete line.

    Lines after them, which the run wrote before it was killed, are cut off: the run will write them again.

    Args:
        path: path of the log.
        earlier: lines of the run so far.
        start: offset at which they began when they were written.
    """
    with open(path, "r+b") as file:
        file.seek(start)
        there = file.read()
        if earlier and there.startswith(earlier) and NEW_RUN not in there[len(earlier) :]:
            file.truncate(start + len(earlier))
        elif earlier and there and earlier.startswith(there):  # killed within a line
            file.write(earlier[len(there) :])
        else:
            start = file.seek(0, os.SEEK_END)
            if start:
                file.seek(start - 1)
                if file.read(1) != b"\n":
                    start += file.write(b"\n")
            file.write(earlier)
        return start


def settings_line(settings: Mapping[str, Any]) -> str:
    """Format settings as argparse prints them for the original: `Namespace(a=1, b='x')`, sorted by name."""
    return "Namespace({})".format(", ".join(f"{name}={value!r}" for name, value in sorted(settings.items())))


def epoch_line(
    epoch: int, train: float, val: float, loss: float, lr: float, seconds: float, niou: Optional[float] = None
) -> str:
    """Format an epoch's line in CIFAR and segmentation logs.

    Args:
        epoch: number of the epoch, from 0.
        train: training metric: RMSE with mixup, accuracy without, or IoU.
        val: validation accuracy or IoU, in 0..1.
        loss: mean loss per image.
        lr: learning rate of the last step.
        seconds: duration of the epoch.
        niou: validation nIoU in 0..1, which only segmentation has.
    """
    more = "" if niou is None else f" niou={niou:f}"
    return f"[Epoch {epoch}] train={train:f} val={val:f}{more} loss={loss:f} lr: {lr:f} time: {seconds:f}"


def batch_line(epoch: int, step: int, speed: float, metric_name: str, metric: float, rate: float) -> str:
    """Format the line that ImageNet logs have every few steps; `speed` is in images per second."""
    return f"Epoch[{epoch}] Batch [{step}]\tSpeed: {speed:f} samples/sec\t{metric_name}={metric:f}\tlr={rate:f}"


def training_line(epoch: int, metric_name: str, metric: float) -> str:
    """Format the first of the three lines that ImageNet logs have for an epoch."""
    return f"[Epoch {epoch}] training: {metric_name}={metric:f}"


def speed_line(epoch: int, speed: float, seconds: float) -> str:
    """Format the second line: images per second while training, and the seconds of the whole epoch."""
    return f"[Epoch {epoch}] speed: {int(speed)} samples/sec\ttime cost: {seconds:f}"


def validation_line(epoch: int, top1_error: float, top5_error: float) -> str:
    """Format the third line: the validation errors, in 0..1."""
    return f"[Epoch {epoch}] validation: err-top1={top1_error:f} err-top5={top5_error:f}"


def draw_curve(errors: Sequence[Tuple[float, float]], path: str) -> None:
    """Draw the curve of errors and replace the PNG file at `path` with it in one step; this needs no display.

    Args:
        errors: training and validation error of each epoch, in 0..1.
        path: path of the file.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure()
    axes = figure.add_subplot(111)
    training, validation = zip(*errors)
    axes.plot(training, label="training-error")
    axes.plot(validation, label="validation-error")
    axes.set(ylim=(0, 1), xlabel="epoch", ylabel="error")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper right")
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def append_best_accuracy(dataset: str, gpus: str, accuracy: float) -> None:
    """Append `best Acc: 0.1234` to `{dataset}_{host name}_GPU_{gpus}_best_Acc.log` in the working directory.

    Raises:
        GluonAFFError: the file cannot be written.
    """
    name = f"{dataset}_{socket.gethostname()}_GPU_{gpus}_best_Acc.log"
    try:
        with open(name, "a") as file:
            file.write(f"best Acc: {accuracy:.4f}\n")
    except OSError as error:
        raise GluonAFFError(
            f"{name} cannot be written in the working directory ({error.strerror}); the run's other files are complete"
        ) from None
