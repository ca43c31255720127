"""Stop a run on a signal without losing what it has done."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import Iterable, Iterator, TypeVar

# Windows has no SIGHUP
SIGNALS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__)
Item = TypeVar("Item")


@dataclass
class StopRequest:
    """Request to stop a run, which its loops check.

    Attributes:
        signal: number of the signal that requested the stop, 0 if none did.
        alone: whether this process is the whole run; several workers must agree to stop after the same step.
        agreed: whether the workers have agreed to stop.
    """

    signal: int = 0
    alone: bool = True
    agreed: bool = False

    def __call__(self) -> bool:
        """Return whether this process must stop now."""
        return self.signal != 0 if self.alone else self.agreed

    def agree(self) -> None:
        """Note that all workers stop now, even if only one of them received a signal."""
        self.agreed = True
        self.signal = self.signal or signal.SIGTERM


class StopRequestedError(Exception):
    """Raised in a loop over `unless_stopped` when a stop was requested."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Yield a request to stop that the first SIGINT, SIGTERM or SIGHUP sets; a second signal ends the process at once.

    Signals that the process ignores, for example under nohup, stay ignored. In any other thread than the main thread,
    Python cannot handle signals, and the request is never set.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    caught = [number for number in SIGNALS if previous[number] is not signal.SIG_IGN]

    def ask(number: int, frame: object) -> None:
        for each in caught:
            signal.signal(each, signal.SIG_DFL)
        request.signal = number
        name = signal.Signals(number).name
        line = f"{name}: stopping after this step, with a checkpoint; a second signal stops at once\n"
        with contextlib.suppress(OSError):  # the terminal may be closed
            end_of_bar = "\n" if sys.stderr.isatty() else ""
            os.write(sys.stderr.fileno(), f"{end_of_bar}{line}".encode())

    try:
        for number in caught:
            signal.signal(number, ask)
        yield request
    finally:
        for number in caught:
            signal.signal(number, previous[number])


def unless_stopped(items: Iterable[Item], stop: StopRequest) -> Iterator[Item]:
    """Yield the items until a stop is requested.

    Raises:
        StopRequestedError: a stop was requested.
    """
    for item in items:
        if stop():
            raise StopRequestedError
        yield item
