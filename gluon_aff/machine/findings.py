"""Findings of the doctor's checks."""

from __future__ import annotations

from dataclasses import dataclass

OK = "ok"
NOTE = "note"
MEND = "mend"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        check: name of the check.
        state: `ok`; `note` if training works but the finding is worth knowing; `mend` if training, or something that
            the user has named, cannot work.
        message: what the check has found.
        remedy: what to do about it; never empty for `mend`.
    """

    check: str
    state: str
    message: str
    remedy: str = ""


def ok(check: str, message: str) -> Finding:
    """Make a finding that needs no action."""
    return Finding(check, OK, message)


def note(check: str, message: str, remedy: str = "") -> Finding:
    """Make a finding that is worth knowing, with an optional remedy."""
    return Finding(check, NOTE, message, remedy)


def mend(check: str, message: str, remedy: str) -> Finding:
    """Make a finding that must be dealt with before training can work."""
    return Finding(check, MEND, message, remedy)
