"""Iterating so that a device is kept busy."""

from __future__ import annotations

import collections
from concurrent.futures import Future
from typing import Any, Callable, Iterable, Iterator


def one_behind(steps: Iterable[Any]) -> Iterator[Any]:
    """Yield each item once the next one is under way: its figures are awaited while the device computes on."""
    iterator = iter(steps)
    for previous in iterator:
        for current in iterator:
            yield previous
            previous = current
        yield previous


def in_order(submit: Callable[[Any], Future], tasks: Iterable[Any], ahead: int) -> Iterator[Any]:
    """The tasks' results in their order, with at most `ahead` tasks handed out before their results are asked for."""
    pending: collections.deque = collections.deque()
    try:
        for task in tasks:
            pending.append(submit(task))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
