"""Print text so that names from files, folders and servers cannot control the terminal."""

from __future__ import annotations

import re
import sys
from typing import Any, Optional, TextIO

# Sequences that colour text, move the cursor, change the character set or name the window. Each part of the pattern
# ends where the next one begins, so that matching takes a time linear in the length of the text.
CONTROL_SEQUENCE = re.compile(
    rb"(?:\x1b\[|\xc2\x9b)[0-?]*[ -/]*[@-~]|\x1b[ -/]+[0-~]|(?:\x1b\]|\xc2\x9d)[^\x07\x1b\xc2]*(?:\x07|\x1b\\|\xc2\x9c)"
)
ESCAPES = (b"\x1b", b"\xc2\x9b", b"\xc2\x9d")  # each control sequence begins with one of these
# Not printable according to Python, but harmless: the no-break space, and the joiners in Persian words and emoji
ALSO_PRINTED = "\u00a0\u200c\u200d"


def printable(text: Any) -> str:
    r"""Return `text` with escapes, such as `\x1b` or `\n`, for all characters that a terminal obeys or does not show.

    These are control characters, line breaks, marks that change the direction of writing, and surrogates.
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
    """Return `line` without control sequences, such as colours."""
    return CONTROL_SEQUENCE.sub(b"", line) if any(escape in line for escape in ESCAPES) else line


def show(*lines: Any, file: Optional[TextIO] = None, flush: bool = False) -> None:
    """Print each of `lines` as a single printable line, on standard output or to `file`."""
    print(*map(printable, lines), sep="\n", file=file or sys.stdout, flush=flush)


def show_text(text: str, flush: bool = False) -> None:
    """Print a text of several lines; the caller must have made all parts from outside printable."""
    show(*text.split("\n"), flush=flush)
