"""Iterating so that a device is kept busy."""

from __future__ import annotations

from typing import Any, Iterable, Iterator


def one_behind(steps: Iterable[Any]) -> Iterator[Any]:
    """Yield each item once the next one is under way: its figures are awaited while the device computes on."""
    iterator = iter(steps)
    for previous in iterator:
        for current in iterator:
            yield previous
            previous = current
        yield previous
