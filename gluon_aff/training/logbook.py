"""What a run writes beside its weights: log, curve, best accuracy. Formats are the original's."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Iterator, List, Mapping, Optional, Sequence, Tuple

from gluon_aff.errors import GluonAFFError, InputError, last_line
from gluon_aff.files import replacing
from gluon_aff.locks import LockedError, locked

NEW_RUN = b"Namespace("


class _LogFile(logging.FileHandler):
    """Log file that stops the run where it cannot be written, instead of a traceback a line."""

    def handleError(self, record: logging.LogRecord) -> None:
        reason = last_line(sys.exc_info()[1] or OSError("unknown reason"))
        raise GluonAFFError(f"{self.baseFilename} cannot be written ({reason}): check free space and rights") from None


@dataclass(frozen=True)
class RunLog:
    """A run's log.

    Attributes:
        info: writes a line.
        path: of the file.
        start: offset of the run's first line in it.
        opened: which file that was.
        line_format: of its lines.
    """

    info: Callable[[str], None]
    path: str
    start: int
    opened: os.stat_result
    line_format: str

    def lines(self, *messages: str) -> bytes:
        """What `info` writes for each of them."""
        record = partial(logging.LogRecord, "root", logging.INFO, "", 0, args=None, exc_info=None)
        formatter = logging.Formatter(self.line_format)
        return "".join(f"{formatter.format(record(msg=message))}\n" for message in messages).encode()

    def text(self) -> bytes:
        """The run's lines so far.

        Raises:
            GluonAFFError: the file is not there any more.
        """
        if not os.path.exists(self.path) or os.path.isfile(self.path):
            return self._text_of_file()
        return b""  # a terminal or the like

    def _text_of_file(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                if not os.path.samestat(os.fstat(file.fileno()), self.opened):
                    raise OSError("another file is there")
                file.seek(self.start)
                return file.read()
        except OSError as error:
            reason = error.strerror or error
            raise GluonAFFError(
                f"{self.path} has gone while the run wrote it ({reason}): --resume auto writes it anew and goes on"
            ) from None


SILENT_LOG = RunLog(lambda line: None, os.devnull, 0, os.stat(os.devnull), logging.BASIC_FORMAT)


@contextlib.contextmanager
def open_log(
    path: str, line_format: str = logging.BASIC_FORMAT, earlier: bytes = b"", start: int = 0
) -> Iterator[RunLog]:
    """Log that appends lines to `path` and shows them on stderr.

    The original's CIFAR logs have the root logger's `INFO:root:` before each line, its ImageNet logs nothing.

    Args:
        path: of the log; its directory is made.
        line_format: of its lines.
        earlier: the lines of a run that goes on; the log will end with them.
        start: where in the log they were.

    Raises:
        InputError: another process writes it, or it cannot be opened.
    """
    log = logging.Logger("root", logging.INFO)
    with contextlib.ExitStack() as opened:
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            file = opened.enter_context(open(path, "ab"))
            if os.path.isfile(path):  # and no terminal or the like
                opened.enter_context(locked(f"{os.path.realpath(path)}.lock"))
                start = _end_with(path, earlier, start)
            handlers: List[logging.Handler] = [_LogFile(path), logging.StreamHandler(sys.stderr)]
        except LockedError:
            raise InputError(f"{path} is being written by another run: stop it first, or log elsewhere") from None
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; choose another place for the log") from None
        for handler in handlers:
            opened.callback(_close, handler)
            handler.setFormatter(logging.Formatter(line_format))
            log.addHandler(handler)
        yield RunLog(log.info, path, start, os.fstat(file.fileno()), line_format)


def _close(handler: logging.Handler) -> None:
    with contextlib.suppress(OSError):  # what cannot be flushed has been said
        handler.close()


def _end_with(path: str, earlier: bytes, start: int) -> int:
    """Let the log end with a run's `earlier` lines, which were at `start`, or with a whole line; return their offset.

    What the run wrote behind them before it was killed it will write again, so that is cut off.
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
    """The settings as argparse printed them for the original: `Namespace(a=1, b='x')`, sorted by name."""
    return "Namespace({})".format(", ".join(f"{name}={value!r}" for name, value in sorted(settings.items())))


def epoch_line(
    epoch: int, train: float, val: float, loss: float, lr: float, seconds: float, niou: Optional[float] = None
) -> str:
    """An epoch's line in CIFAR logs; in those of segmentation, where `train` and `val` are IoU, with the nIoU."""
    more = "" if niou is None else f" niou={niou:f}"
    return f"[Epoch {epoch}] train={train:f} val={val:f}{more} loss={loss:f} lr: {lr:f} time: {seconds:f}"


def batch_line(epoch: int, step: int, speed: float, metric_name: str, metric: float, rate: float) -> str:
    """A line about some steps in ImageNet logs; `speed` in images/s."""
    return f"Epoch[{epoch}] Batch [{step}]\tSpeed: {speed:f} samples/sec\t{metric_name}={metric:f}\tlr={rate:f}"


def training_line(epoch: int, metric_name: str, metric: float) -> str:
    """The first of an epoch's three lines in ImageNet logs."""
    return f"[Epoch {epoch}] training: {metric_name}={metric:f}"


def speed_line(epoch: int, speed: float, seconds: float) -> str:
    """The second: images/s while training, and the whole epoch's seconds."""
    return f"[Epoch {epoch}] speed: {int(speed)} samples/sec\ttime cost: {seconds:f}"


def validation_line(epoch: int, top1_error: float, top5_error: float) -> str:
    """The third: errors in 0..1."""
    return f"[Epoch {epoch}] validation: err-top1={top1_error:f} err-top5={top5_error:f}"


def draw_curve(errors: Sequence[Tuple[float, float]], path: str) -> None:
    """Draw each epoch's training and validation error into the PNG file `path`, replaced in one step; no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure()
    FigureCanvasAgg(figure)
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
    """Append `best Acc: 0.1234` to `{dataset}_{host name}_GPU_{gpus}_best_Acc.log` here."""
    name = f"{dataset}_{socket.gethostname()}_GPU_{gpus}_best_Acc.log"
    try:
        with open(name, "a") as file:
            file.write(f"best Acc: {accuracy:.4f}\n")
    except OSError as error:
        raise GluonAFFError(f"{name} cannot be written here ({error.strerror}); the rest of the run is whole") from None
