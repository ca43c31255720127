"""Locks between processes: files that one process at a time holds, and no longer than it lives."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
import warnings
from typing import Iterator

from filelock import BaseFileLock, FileLock, Timeout

_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class LockedError(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock file `path`, in a directory that exists, which is removed at the end.

    On a file system without locks nothing is held.

    Raises:
        LockedError: another process holds it.
        OSError: it cannot be made.
    """
    lock = FileLock(path)
    while not _acquire(lock):
        lock.release()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file; there, releasing does
            os.remove(path)
        lock.release()


def _acquire(lock: BaseFileLock) -> bool:
    """Lock the file; False if another process removed it meanwhile, so that it has to be tried again."""
    path = lock.lock_file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # newer filelocks do without the system's locks, and say so
            lock.acquire(timeout=0)
    except Timeout:
        if os.path.exists(path) and _can_lock(f"{path}.{uuid.uuid4().hex}"):
            raise LockedError(path) from None
    except NotImplementedError:  # older filelocks without the system's locks
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
    return os.path.exists(path)


def _can_lock(path: str) -> bool:
    """Whether a file that nobody else knows can be locked; older filelocks cannot tell a held lock from none at all."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            os.remove(path)
    return True
