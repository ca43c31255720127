"""What a run writes beside its weights: log, curve, best accuracy. Formats are the original's."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile
from typing import Any, Iterator, List, Mapping, Sequence

from gluon_aff.errors import GluonAFFError, InputError, last_line
from gluon_aff.files import replacing


def check_directory(path: str, flag: str) -> None:
    """See that files can be written in the directory `path` (empty: the working directory), existing or to be made.

    Raises:
        InputError: if not; names `flag`.
    """
    existing = os.path.abspath(path)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = f"{existing} cannot be written to ({error.strerror})"
        raise InputError(f"{flag} {path}: {reason}; choose another directory") from None


class _LogFile(logging.FileHandler):
    """Log file that stops the run where it cannot be written, instead of a traceback a line."""

    def handleError(self, record: logging.LogRecord) -> None:
        reason = last_line(sys.exc_info()[1] or OSError("unknown reason"))
        raise GluonAFFError(f"{self.baseFilename} cannot be written ({reason}): check free space and rights") from None


@contextlib.contextmanager
def open_log(path: str, line_format: str = logging.BASIC_FORMAT) -> Iterator[logging.Logger]:
    """Logger that appends lines to `path` and shows them on stderr.

    The original's CIFAR logs have the root logger's `INFO:root:` before each line, its ImageNet logs nothing.
    """
    log = logging.Logger("root", logging.INFO)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        handlers: List[logging.Handler] = [_LogFile(path), logging.StreamHandler(sys.stderr)]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; choose another place for the log") from None
    for handler in handlers:
        handler.setFormatter(logging.Formatter(line_format))
        log.addHandler(handler)
    try:
        yield log
    finally:
        for handler in handlers:
            with contextlib.suppress(OSError):  # what cannot be flushed has been said
                handler.close()


def settings_line(settings: Mapping[str, Any]) -> str:
    """The settings as argparse printed them for the original: `Namespace(a=1, b='x')`, sorted by name."""
    return "Namespace({})".format(", ".join(f"{name}={value!r}" for name, value in sorted(settings.items())))


def epoch_line(epoch: int, train: float, val: float, loss: float, lr: float, seconds: float) -> str:
    """An epoch's line in CIFAR logs."""
    return f"[Epoch {epoch}] train={train:f} val={val:f} loss={loss:f} lr: {lr:f} time: {seconds:f}"


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


def draw_curve(training_error: Sequence[float], validation_error: Sequence[float], path: str) -> None:
    """Draw both errors over epochs into the PNG file `path`, replaced in one step; needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(111)
    axes.plot(training_error, label="training-error")
    axes.plot(validation_error, label="validation-error")
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
