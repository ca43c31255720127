"""Bounds on disk and memory."""

import contextlib
import resource
import tracemalloc


@contextlib.contextmanager
def full_disk(bytes_per_file):
    """Let files end at that size, as a full disk would; Python ignores the signal that comes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def at_most(size):
    """Fail if more than `size` bytes of memory are taken at any time inside."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()
