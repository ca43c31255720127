"""Subcommands of `gluon-aff`, grouped by topic."""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import dataclass
from typing import Any, Callable, List, Sequence

from gluon_aff.errors import InputError
from gluon_aff.files import check_directories

USAGE_ERROR = 2  # exit code for wrong input

# Sentences on the engine for --help
ENGINE = "Engine: MXNet where it works, else PyTorch; --engine or $GLUON_AFF_ENGINE chooses."
NO_ENGINE = "Engine: none is needed."


@dataclass(frozen=True)
class Command:
    """Describes a subcommand.

    Attributes:
        help: one line that starts with a verb, for the list of commands.
        add_options: adds the command's options to a parser; their defaults may depend on the arguments.
        run: does the work, and returns the exit code.
        examples: arguments to try, for --help.
        computes: True if an engine computes in this process.
        engines: engines that the command can use; empty if it needs none.
        about: paragraphs for --help, separated by empty lines: what the command is for, and which engine computes.
    """

    help: str
    add_options: Callable[[argparse.ArgumentParser, List[str]], None]
    run: Callable[[argparse.Namespace], int]
    examples: Sequence[str] = ()
    computes: bool = False
    engines: Sequence[str] = ()
    about: str = NO_ENGINE


def positive(text: str) -> int:
    """Parse an argument that is a whole number from 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def not_negative(text: str) -> int:
    """Parse an argument that is a whole number from 0."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def json_text(value: Any) -> str:
    """Return `value` as JSON; numbers that are not finite become null, and types that JSON lacks become text."""
    return json.dumps(_plain(value), indent=1, allow_nan=False, default=str)


def check_output(path: str, flag: str, *suffixes: str) -> None:
    """Check that `path` is the name of a file that can be written, and that it has one of the `suffixes`.

    Raises:
        InputError: the path is not usable. The message names `flag`.
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
