"""What a shared library says of itself, read from its ELF file without loading it: what it needs, GPU code it carries.

GPU code lies in the section `.nv_fatbin`: containers one after another, each with an entry per compute capability.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from dataclasses import dataclass
from typing import Dict, Iterator, Tuple

Capability = Tuple[int, int]  # such as (8, 6)
Span = Tuple[int, int]  # first byte and the one after the last

ELF_64_BIT_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
NEEDED = 1  # tag of an entry of .dynamic
WITHOUT_BYTES = 8  # type of a section that takes no space in the file
CONTAINER = b"\x50\xed\x55\xba"
PTX, MACHINE_CODE = 1, 2


@dataclass(frozen=True)
class GPUCode:
    """Compute capabilities, ascending, that GPU code was made for; none where there is no GPU code.

    Attributes:
        machine_code: of code that runs on that capability and on higher ones of the same major version.
        ptx: of code that the driver translates, for that capability or any higher one.
    """

    machine_code: Tuple[Capability, ...] = ()
    ptx: Tuple[Capability, ...] = ()

    def runs_on(self, capability: Capability) -> bool:
        """Whether a GPU of that compute capability can run it."""
        binary = any(code[0] == capability[0] and code <= capability for code in self.machine_code)
        return binary or any(code <= capability for code in self.ptx)

    def __str__(self) -> str:
        lowest = {major: minor for major, minor in reversed(self.machine_code)}
        runs_on = [f"{major}.x" if minor == 0 else f"{major}.{minor}+" for major, minor in sorted(lowest.items())]
        runs_on += [f"{capability_text(self.ptx[0])} and newer"] if self.ptx else []
        ptx = f"PTX for {_listed(self.ptx)}" if self.ptx else "no PTX"
        return f"machine code for {_listed(self.machine_code)} and {ptx}, which runs on {', '.join(runs_on)}"


def capability_text(capability: Capability) -> str:
    """`8.6` for (8, 6)."""
    return f"{capability[0]}.{capability[1]}"


def needed_libraries(path: str) -> Tuple[str, ...]:
    """File names of the libraries that the one at `path` is linked to.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no whole shared library for 64-bit Linux.
    """
    with _opened(path) as (content, sections):
        start, end = sections.get(".dynamic", (0, 0))
        entries = struct.iter_unpack("<QQ", content[start:end])
        names = sections[".dynstr"][0]
        return tuple(_text(content, names + value) for tag, value in entries if tag == NEEDED)


def gpu_code(path: str) -> GPUCode:
    """The GPU code that the shared library at `path` carries; raises as `needed_libraries` does."""
    with _opened(path) as (content, sections):
        found = set(_gpu_entries(content, sections.get(".nv_fatbin", (0, 0))))
    return GPUCode(*(tuple(sorted(place for kind, place in found if kind == wanted)) for wanted in (MACHINE_CODE, PTX)))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Tuple[mmap.mmap, Dict[str, Span]]]:
    """The bytes of an ELF file and where its sections are."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content, _sections(content)
    except (ValueError, LookupError, OverflowError, struct.error) as error:
        raise ValueError(f"{path} is no whole shared library for 64-bit Linux") from error


def _sections(content: mmap.mmap) -> Dict[str, Span]:
    if not content[:6] == ELF_64_BIT_LITTLE_ENDIAN:
        raise ValueError
    (table,) = struct.unpack_from("<Q", content, 0x28)
    size, count, names = struct.unpack_from("<HHH", content, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", content, table + size * number) for number in range(count)]
    texts = headers[names][4]
    in_file = [header for header in headers if header[1] != WITHOUT_BYTES]
    spans = {_text(content, texts + header[0]): (header[4], header[4] + header[5]) for header in in_file}
    if any(end > len(content) for _, end in spans.values()):
        raise ValueError
    return spans


def _text(content: mmap.mmap, start: int) -> str:
    """What is written from `start` up to a zero byte."""
    end = content.find(b"\0", start)
    if end < 0:
        raise ValueError
    return content[start:end].decode("ascii", "replace")


def _gpu_entries(content: mmap.mmap, span: Span) -> Iterator[Tuple[int, Capability]]:
    """Kind and compute capability of all GPU code in the section at `span`."""
    start = content.find(CONTAINER, *span)
    while start >= 0:
        header, size = struct.unpack_from("<HQ", content, start + 6)
        start += header
        stop = start + size
        while start < stop:
            kind, _, header, size = struct.unpack_from("<HHIQ", content, start)
            (number,) = struct.unpack_from("<I", content, start + 28)
            yield kind, divmod(number, 10)
            start += max(header + size, 1)
        start = content.find(CONTAINER, start, span[1])


def _listed(capabilities: Tuple[Capability, ...]) -> str:
    return ", ".join(map(capability_text, capabilities)) or "none"
