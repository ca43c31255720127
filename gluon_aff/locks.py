"""Lock files, which one process at a time can hold, and which are released when the process ends."""

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
    """Hold the lock file `path` during the block, and remove it at the end; its directory must exist.

    On a file system without locks, nothing is locked.

    Raises:
        LockedError: another process holds the lock.
        OSError: the lock file cannot be created.
    """
    lock = FileLock(path)
    while not _acquire(lock):
        lock.release()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove an open file, but release() does there
            os.remove(path)
        lock.release()


def _acquire(lock: BaseFileLock) -> bool:
    """Lock the file; return False if another process removed it meanwhile, so that the caller has to try again."""
    path = lock.lock_file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # newer versions of filelock warn if the system has no locks
            lock.acquire(timeout=0)
    except Timeout:
        if os.path.exists(path) and _can_lock(f"{path}.{uuid.uuid4().hex}"):
            raise LockedError(path) from None
    except NotImplementedError:  # older versions of filelock raise this if the system has no locks
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
    return os.path.exists(path)


def _can_lock(path: str) -> bool:
    """Return whether a new file can be locked at all.

    Older versions of filelock report a file system without locks as if another process held the lock.
    """
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
