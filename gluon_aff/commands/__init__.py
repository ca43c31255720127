"""Subcommands of `gluon-aff`, by the room whose work they show."""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import dataclass
from typing import Any, Callable, List, Sequence

from gluon_aff.errors import InputError
from gluon_aff.files import check_directories

USAGE_ERROR = 2  # exit code of wrong input


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        help: one line.
        add_options: gives a parser its options.
        run: does what it is for; returns the exit code.
        examples: command lines to try, without the command.
        computes: an engine computes in its process.
        engines: those of which it takes one; none if it does without.
    """

    help: str
    add_options: Callable[[argparse.ArgumentParser, List[str]], None]
    run: Callable[[argparse.Namespace], int]
    examples: Sequence[str] = ()
    computes: bool = False
    engines: Sequence[str] = ()


def positive(text: str) -> int:
    """Argument type of whole numbers from 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def not_negative(text: str) -> int:
    """Argument type of whole numbers from 0."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def json_text(value: Any) -> str:
    """`value` as JSON; numbers that are not finite as null, and what JSON does not have as text."""
    return json.dumps(_plain(value), indent=1, allow_nan=False, default=str)


def check_output(path: str, flag: str, *suffixes: str) -> None:
    """Refuse an output that names no file, one that cannot be written, or one that does not end as its content asks.

    Raises:
        InputError: naming `flag`.
    """
    if not path.lower().endswith(suffixes):
        raise InputError(f"{flag} {path!r} does not end in {' or '.join(suffixes)}")
    if not os.path.basename(path) or os.path.isdir(path):
        raise InputError(f"{flag} {path!r} is not the name of a file")
    check_directories({flag: os.path.dirname(path)})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
