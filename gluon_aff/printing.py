"""Text for a terminal: what a file, a folder or a server names is printed so that it can do nothing there."""

from __future__ import annotations

import re
import sys
from typing import Any, Optional, TextIO

# What colours text, moves the cursor, changes the character set or names the window. Each part ends where the next one
# begins, so that the time grows with the text's length and no faster.
CONTROL_SEQUENCE = re.compile(
    rb"(?:\x1b\[|\xc2\x9b)[0-?]*[ -/]*[@-~]|\x1b[ -/]+[0-~]|(?:\x1b\]|\xc2\x9d)[^\x07\x1b\xc2]*(?:\x07|\x1b\\|\xc2\x9c)"
)
ESCAPES = (b"\x1b", b"\xc2\x9b", b"\xc2\x9d")  # one of which begins each
# Not printable by Python's measure: the no-break space, and the joiners that Persian words and emoji are spelled with
ALSO_PRINTED = "\u00a0\u200c\u200d"


def printable(text: Any) -> str:
    r"""`text` with an escape, such as `\x1b` or `\n`, for all that a terminal would obey or not show.

    That is control characters, line breaks, marks that change the direction of writing, and what is no text.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in ALSO_PRINTED
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def without_control_sequences(line: bytes) -> bytes:
    """`line` as a terminal shows it, without what colours it."""
    return CONTROL_SEQUENCE.sub(b"", line) if any(escape in line for escape in ESCAPES) else line


def show(*lines: Any, file: Optional[TextIO] = None, flush: bool = False) -> None:
    """Print each of `lines` as one, made printable, on standard output or `file`."""
    print(*map(printable, lines), sep="\n", file=file or sys.stdout, flush=flush)


def show_text(text: str, flush: bool = False) -> None:
    """Print a text of several lines, in whose making all that comes from outside was made printable."""
    show(*text.split("\n"), flush=flush)
