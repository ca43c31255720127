"""Write files completely or not at all, and read text that a user may have edited."""

from __future__ import annotations

import codecs
import contextlib
import os
import tempfile
from typing import Iterator, List, Mapping

from gluon_aff.errors import GluonAFFError, InputError, last_line

LARGEST_TEXT = 16 << 20  # bytes, more than the names of a million classes need
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: str, largest: int = LARGEST_TEXT) -> str:
    """Read a text file that a user may have edited, in one of the encodings of `decoded`.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not text, or has more than `largest` bytes.
    """
    with open(path, "rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it is larger than {largest:,} bytes")
    return decoded(content)


def decoded(content: bytes) -> str:
    """Decode text in UTF-8, or in UTF-16 with a byte order mark.

    Notepad, Excel and PowerShell write such a mark in front of a text; it is removed.

    Raises:
        UnicodeDecodeError: the text is in neither encoding.
    """
    return content.decode("utf-16" if content.startswith(_UTF_16_MARKS) else "utf-8-sig")


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Yield the path of a temporary file, which replaces the file at `path` when the block ends without an error.

    The directory of `path` is created. If `path` is a link, the file that it points to is replaced, and the link stays.

    Raises:
        GluonAFFError: the file cannot be written. A file that was at `path` stays there.
    """
    with replacing_together(path) as (partial,):
        yield partial


@contextlib.contextmanager
def replacing_together(*paths: str) -> Iterator[List[str]]:
    """Yield temporary paths like `replacing`, for files that belong together: all are written before any is replaced.

    Raises:
        GluonAFFError: a file cannot be written. Files that were at the `paths` stay there.
    """
    targets = [os.path.realpath(path) if os.path.islink(path) else path for path in paths]
    partials = [f"{target}.partial" for target in targets]
    try:
        for target in targets:
            os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        yield partials
        for partial, target in zip(partials, targets):
            os.replace(partial, target)
    except OSError as error:
        reason = f"({last_line(error)}): check free space and rights"
        raise GluonAFFError(f"{', '.join(paths)} cannot be written {reason}") from None
    finally:
        for partial in partials:
            with contextlib.suppress(OSError):
                os.remove(partial)


def check_directories(paths: Mapping[str, str]) -> None:
    """Check that files can be written in directories, which need not exist yet.

    Args:
        paths: directories by the flag that names them; an empty path stands for the working directory.

    Raises:
        InputError: a directory cannot be written to. The message names the flag.
    """
    for flag, path in paths.items():
        existing = os.path.abspath(path)
        while not os.path.lexists(existing):
            existing = os.path.dirname(existing)
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            reason = f"{existing} cannot be written to ({error.strerror})"
            raise InputError(f"{flag} {path or os.curdir}: {reason}; choose another directory") from None
