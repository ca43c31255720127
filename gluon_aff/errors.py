"""Errors that the package raises when the user has to change something."""

from __future__ import annotations

import difflib
from typing import Iterable, List

A_LINE_OF = 30  # names are listed completely up to this number
NEAREST = 5


class GluonAFFError(Exception):
    """Base class of all errors that this package raises on purpose; the message is one line and names the remedy."""


class InputError(GluonAFFError, ValueError):
    """An argument, a file or a directory cannot be used as given (exit code 2 on the command line)."""


class NoEngineError(InputError, ImportError):
    """A computation needs an engine, MXNet or PyTorch, and none is installed or works here."""


class DataError(InputError):
    """A data set is missing, damaged or too small."""


class ParamsFileError(InputError):
    """A weight file cannot be read or does not fit the network."""


class TrainingError(GluonAFFError):
    """A run cannot continue, for example because the loss is not finite (exit code 1 on the command line)."""


class Stopped(GluonAFFError):
    """A signal ended a run; the message says what was saved (exit code 128 plus the signal's number)."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def unknown_name(what: str, name: str, known: Iterable[str], listing: str = "") -> InputError:
    """Return the error for an unknown `name`, which suggests the nearest known one.

    Names that begin with the unknown one are nearer than all others, since somebody may have typed only part of a name.

    Args:
        what: what the name stands for, such as `engine`.
        name: the unknown name.
        known: the known names; the message lists all of them, or the nearest if there are more than `A_LINE_OF`.
        listing: command that lists the known names, to be named instead of the names.
    """
    known = list(known)
    close = nearest(name, known, 1, cutoff=0.4)
    hint = f"did you mean {close[0]}? " if close else ""
    if listing:
        rest = f"{listing} lists them"
    elif len(known) > A_LINE_OF:
        rest = f"the nearest of {len(known)} are {', '.join(nearest(name, known, NEAREST, cutoff=0))}"
    else:
        rest = f"there are {', '.join(known)}"
    return InputError(f"unknown {what} {name!r}: {hint}{rest}")


def nearest(name: str, known: Iterable[str], most: int, cutoff: float) -> List[str]:
    """Return up to `most` known names near to `name`: those that begin with it, then those that are similar.

    Names are similar if difflib's ratio of them, 0..1, is at least `cutoff`.
    """
    known = list(known)
    longer = [each for each in known if name and each.startswith(name)]
    others = [each for each in known if each not in longer]
    matches = difflib.get_close_matches
    return [*matches(name, longer, most, 0), *matches(name, others, most, cutoff)][:most]


def last_line(error: BaseException) -> str:
    """Return the last line of an error's text; in an MXNetError, the message stands below a trace of C++ calls."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
