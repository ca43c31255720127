"""Python processes that this one starts: what they import."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import List

# For a process on another machine, whose folders differ: what it is started with, but for its current folder.
LEAVE_OUT_CURRENT_FOLDER = "import os, sys; sys.path[:] = [p for p in sys.path if p not in ('', os.getcwd())]"


def python_command(code: str, *arguments: str) -> List[str]:
    """Command line of a Python process that runs `code` and imports what this one would, from any folder.

    The current folder is none of the places that it imports from, where Python itself puts it first: a user's own
    `queue.py` there would take the place of the standard library's.
    """
    return [sys.executable, "-c", f"import sys; sys.path[:] = {_places()!r}; {code}", *arguments]


def _places() -> List[str]:
    here, package = os.getcwd(), str(Path(__file__).resolve().parents[1])
    libraries = sysconfig.get_paths().values()  # one of which may be the current folder
    places = [os.path.abspath(place) for place in sys.path if place]
    kept = [place for place in places if place != here or place in libraries]
    return kept if package in kept else [*kept, package]
