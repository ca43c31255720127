"""What a check of the doctor says."""

from __future__ import annotations

from dataclasses import dataclass

OK = "ok"
NOTE = "note"
MEND = "mend"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        check: what was looked at.
        state: ok; note: training works, but this is worth knowing; mend: training, or what was asked for, cannot work.
        message: what is there.
        remedy: what to do about it; never empty where something is to mend.
    """

    check: str
    state: str
    message: str
    remedy: str = ""


def ok(check: str, message: str) -> Finding:
    """Nothing to do."""
    return Finding(check, OK, message)


def note(check: str, message: str, remedy: str = "") -> Finding:
    """Worth knowing."""
    return Finding(check, NOTE, message, remedy)


def mend(check: str, message: str, remedy: str) -> Finding:
    """Something must be done."""
    return Finding(check, MEND, message, remedy)
