"""Read the files in which Linux describes the system."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")


def read_text(path: str) -> str:
    """Return the text of the file at `path`, relative to the root, stripped; empty if it cannot be read."""
    try:
        return (ROOT / path).read_text(errors="replace").strip()
    except OSError:
        return ""
