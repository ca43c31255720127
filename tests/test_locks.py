import contextlib
import errno
import os
import subprocess
import sys
import threading

import pytest
from filelock import FileLock

from gluon_aff.locks import LockedError, locked

HOLD = """
import sys
from gluon_aff.locks import locked
with locked(sys.argv[1]):
    print(1, flush=True)
    input()
"""


@contextlib.contextmanager
def another_process(path):
    """It holds the lock at `path`, and is killed at the end."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "1\n"
            yield
        finally:
            process.kill()


def held(path):
    """Whether another has the lock; it is not kept."""
    try:
        with locked(str(path)):
            return False
    except LockedError:
        return True


def test_one_process_holds_it_as_long_as_it_lives(tmp_path):
    with another_process(tmp_path / "lock"):
        assert held(tmp_path / "lock")
        assert held(tmp_path / "lock")
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert not held(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []


def test_threads_exclude_each_other_too(tmp_path):
    answers = []
    with locked(str(tmp_path / "lock")):
        other = threading.Thread(target=lambda: answers.append(held(tmp_path / "lock")))
        other.start()
        other.join()
    assert answers == [True]


def test_errors_pass_and_let_go(tmp_path):
    with pytest.raises(OSError, match="of the body"), locked(str(tmp_path / "lock")):
        raise OSError("of the body")
    assert list(tmp_path.iterdir()) == []


def test_removed_just_after_it_was_locked(tmp_path, monkeypatch):
    """Its last holder removes it when it lets go, so the name may stand for no file or for another."""
    path, acquire, gone = tmp_path / "lock", FileLock.acquire, []

    def before_another_process(lock, *args, **kwargs):
        answer = acquire(lock, *args, **kwargs)
        if not gone:
            gone.append(path.unlink())
        return answer

    monkeypatch.setattr(FileLock, "acquire", before_another_process)
    with locked(str(path)):
        assert held(path)


def test_folder_that_is_not_there(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"directory|exists"), locked(str(tmp_path / "file" / "lock")):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks(tmp_path, monkeypatch, code):
    fcntl = pytest.importorskip("fcntl")

    def unknown(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", unknown)
    with locked(str(tmp_path / "lock")):
        assert (tmp_path / "lock").exists()
    assert list(tmp_path.iterdir()) == []
