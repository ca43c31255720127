"""The files in which Linux describes itself."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")


def read_text(path: str) -> str:
    """What is in the file at `path` below the root, stripped; empty if it is not there."""
    try:
        return (ROOT / path).read_text(errors="replace").strip()
    except OSError:
        return ""
