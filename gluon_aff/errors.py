"""What the package raises when the user has to change something."""

from __future__ import annotations

import difflib
from typing import Iterable

A_LINE_OF = 30  # names
NEAREST = 5


class GluonAFFError(Exception):
    """Base of every error this package raises on purpose; its message is one line with the remedy."""


class InputError(GluonAFFError, ValueError):
    """An argument, a file or a directory that cannot be used as given (exit code 2 on the command line)."""


class NoEngineError(InputError, ImportError):
    """Something has to be computed, and no framework that can is installed, or works here."""


class DataError(InputError):
    """A data set that is missing, damaged or too small."""


class ParamsFileError(InputError):
    """A `.params` file that cannot be read or does not fit the network."""


class TrainingError(GluonAFFError):
    """A run that cannot go on, such as a loss that is not finite (exit code 1 on the command line)."""


class Stopped(GluonAFFError):
    """A run that a signal ended, with what it kept (exit code 128 and the signal's number)."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def unknown_name(what: str, name: str, known: Iterable[str], listing: str = "") -> InputError:
    """Error for a `name` that is none of the `known` ones: with the nearest, and all or the command that lists them.

    Of more than a line holds, some of the nearest.
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, 1, 0.4)
    hint = f"did you mean {close[0]}? " if close else ""
    if listing:
        rest = f"{listing} lists them"
    elif len(known) > A_LINE_OF:
        rest = f"the nearest of {len(known)} are {', '.join(difflib.get_close_matches(name, known, NEAREST, 0))}"
    else:
        rest = f"there are {', '.join(known)}"
    return InputError(f"unknown {what} {name!r}: {hint}{rest}")


def last_line(error: BaseException) -> str:
    """What an error comes down to: the last line of its text, which an MXNetError has below a trace of C++ calls."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
