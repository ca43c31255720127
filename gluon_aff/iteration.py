"""Iterate so that a device or a pool of workers is always busy."""

from __future__ import annotations

import collections
from concurrent.futures import Future
from typing import Any, Callable, Iterable, Iterator


def one_behind(steps: Iterable[Any]) -> Iterator[Any]:
    """Yield each item after the next one has been started, so that the device computes while the caller waits."""
    iterator = iter(steps)
    for previous in iterator:
        for current in iterator:
            yield previous
            previous = current
        yield previous


def in_order(submit: Callable[[Any], Future], tasks: Iterable[Any], ahead: int) -> Iterator[Any]:
    """Yield the results of the tasks in order, with at most `ahead` tasks submitted in advance."""
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
