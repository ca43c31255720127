"""Start further Python processes that import from the same places as this one."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import List

# Code for a process on another machine, whose folders may differ: it removes only the current folder from sys.path.
LEAVE_OUT_CURRENT_FOLDER = "import os, sys; sys.path[:] = [p for p in sys.path if p not in ('', os.getcwd())]"


def python_command(code: str, *arguments: str) -> List[str]:
    """Return the command line of a Python process that runs `code` and imports the same modules as this process.

    Python searches the current folder first, where a user's own `queue.py` would hide the standard library's module.
    The new process does not search it.
    """
    return [sys.executable, "-c", f"import sys; sys.path[:] = {_places()!r}; {code}", *arguments]


def _places() -> List[str]:
    here, package = os.getcwd(), str(Path(__file__).resolve().parents[1])
    libraries = sysconfig.get_paths().values()  # the current folder may be one of these
    places = [os.path.abspath(place) for place in sys.path if place]
    kept = [place for place in places if place != here or place in libraries]
    return kept if package in kept else [*kept, package]
