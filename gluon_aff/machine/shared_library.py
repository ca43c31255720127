"""Read from a shared library's ELF file, without loading it, which libraries it needs and which GPU code it contains.

GPU code is in the section `.nv_fatbin`, a sequence of containers with an entry for each compute capability.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from dataclasses import dataclass
from typing import Dict, Iterator, Tuple

Capability = Tuple[int, int]  # such as (8, 6)
Span = Tuple[int, int]  # offsets of the first byte and of the end

ELF_64_BIT_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
NEEDED = 1  # tag of an entry in .dynamic
WITHOUT_BYTES = 8  # type of a section that has no bytes in the file
CONTAINER = b"\x50\xed\x55\xba"
PTX, MACHINE_CODE = 1, 2


@dataclass(frozen=True)
class GPUCode:
    """Compute capabilities, in ascending order, for which GPU code was made.

    Attributes:
        machine_code: capabilities of machine code, which also runs on higher capabilities of the same major version.
        ptx: capabilities of PTX, which the driver translates for the same or any higher capability.
    """

    machine_code: Tuple[Capability, ...] = ()
    ptx: Tuple[Capability, ...] = ()

    def runs_on(self, capability: Capability) -> bool:
        """Return whether a GPU of this compute capability can run the code."""
        binary = any(code[0] == capability[0] and code <= capability for code in self.machine_code)
        return binary or any(code <= capability for code in self.ptx)

    def __str__(self) -> str:
        lowest = {major: minor for major, minor in reversed(self.machine_code)}
        runs_on = [f"{major}.x" if minor == 0 else f"{major}.{minor}+" for major, minor in sorted(lowest.items())]
        runs_on += [f"{capability_text(self.ptx[0])} and newer"] if self.ptx else []
        ptx = f"PTX for {_listed(self.ptx)}" if self.ptx else "no PTX"
        return f"machine code for {_listed(self.machine_code)} and {ptx}, which runs on {', '.join(runs_on)}"


def capability_text(capability: Capability) -> str:
    """Format a compute capability: `8.6` for (8, 6)."""
    return f"{capability[0]}.{capability[1]}"


def needed_libraries(path: str) -> Tuple[str, ...]:
    """Return the file names of the libraries to which the one at `path` is linked.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not a complete shared library for 64-bit Linux.
    """
    with _opened(path) as (content, sections):
        start, end = sections.get(".dynamic", (0, 0))
        entries = struct.iter_unpack("<QQ", content[start:end])
        names = sections[".dynstr"][0]
        return tuple(_text(content, names + value) for tag, value in entries if tag == NEEDED)


def gpu_code(path: str) -> GPUCode:
    """Return which GPU code the shared library at `path` contains.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not a complete shared library for 64-bit Linux.
    """
    with _opened(path) as (content, sections):
        found = set(_gpu_entries(content, sections.get(".nv_fatbin", (0, 0))))
    return GPUCode(*(tuple(sorted(place for kind, place in found if kind == wanted)) for wanted in (MACHINE_CODE, PTX)))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Tuple[mmap.mmap, Dict[str, Span]]]:
    """Map an ELF file into memory, and yield its bytes and the spans of its sections by name."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content, _sections(content)
    except (ValueError, LookupError, OverflowError, struct.error) as error:
        raise ValueError(f"{path} is not a complete shared library for 64-bit Linux") from error


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
    """Return the text from `start` up to a zero byte."""
    end = content.find(b"\0", start)
    if end < 0:
        raise ValueError
    return content[start:end].decode("ascii", "replace")


def _gpu_entries(content: mmap.mmap, span: Span) -> Iterator[Tuple[int, Capability]]:
    """Yield the kind and the compute capability of each piece of GPU code in the section at `span`."""
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
