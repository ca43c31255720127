"""Subcommands of `gluon-aff`, by the room whose work they show; MXNet is imported by those that run it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Callable, List, Sequence


@dataclass(frozen=True)
class Command:
    """A subcommand: one line of help, its options, what it does, commands to try."""

    help: str
    add_options: Callable[[argparse.ArgumentParser, List[str]], None]
    run: Callable[[argparse.Namespace], int]
    examples: Sequence[str] = ()


def positive(text: str) -> int:
    """Argument type of whole numbers from 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
