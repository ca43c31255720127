"""Ending a run on a signal without losing what it did."""

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
    """Whether a run is to end.

    Attributes:
        signal: what asked this process to, 0 as long as nothing did.
        alone: this process is all of the run. Workers have to end behind the same step, which they agree on.
        agreed: they have.
    """

    signal: int = 0
    alone: bool = True
    agreed: bool = False

    def __call__(self) -> bool:
        """Whether this process is to end now."""
        return self.signal != 0 if self.alone else self.agreed

    def agree(self) -> None:
        """Let the run end, whichever worker was asked to."""
        self.agreed = True
        self.signal = self.signal or signal.SIGTERM


class StopRequestedError(Exception):
    """Ends a loop over `unless_stopped`."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Request that the first SIGINT, SIGTERM or SIGHUP sets; a second one ends the process as it does without this.

    Signals that the process ignores, as under nohup, stay ignored. Python lets the main thread only handle any.
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
        line = f"{name}: the step is finished and a checkpoint written; a second signal stops at once\n"
        with contextlib.suppress(OSError):  # the terminal may be gone
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
    """The items, until the run is asked to end.

    Raises:
        StopRequestedError: then.
    """
    for item in items:
        if stop():
            raise StopRequestedError
        yield item
