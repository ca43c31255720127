"""Launches, and what is left of them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def usual_environment():
    """The environment, without what a command under test may have left there."""
    return {name: value for name, value in os.environ.items() if name not in ("DMLC_ROLE", "OMP_NUM_THREADS")}


class Launched:
    """A `gluon-aff launch` under way; its processes carry a mark in their environment."""

    def __init__(self, arguments, cwd, **environment):
        self.mark = uuid.uuid4().hex
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gluon_aff", "launch", *arguments],
            cwd=cwd,
            env={**usual_environment(), "GLUON_AFF_TEST_MARK": self.mark, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: [signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGHUP)],
        )

    def end(self, timeout=120):
        """Wait for it; keep its code, output and seconds."""
        self.output = self.process.communicate(timeout=timeout)
        self.out, self.err = (each.decode(errors="replace") for each in self.output)
        self.code = self.process.returncode
        self.seconds = time.monotonic() - self.started
        return self

    def processes(self, **environment):
        """Words of the command lines of its processes, the launcher's included, by their numbers."""
        marks = {f"{name}={value}" for name, value in {"GLUON_AFF_TEST_MARK": self.mark, **environment}.items()}
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if marks <= set((entry / "environ").read_text(errors="replace").split("\0")):
                    found[int(entry.name)] = (entry / "cmdline").read_text(errors="replace").split("\0")
        return {number: words for number, words in found.items() if words != [""]}

    def alive(self):
        """Command lines of its processes."""
        return [" ".join(words) for words in self.processes().values()]

    def wait_until(self, condition, timeout=60):
        """Wait for what `condition` returns to be true."""
        limit = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < limit, (self.alive(), self.process.poll())
            time.sleep(0.1)


@pytest.fixture
def start(tmp_path):
    """Start a launch in the test's folder; none outlives the test."""
    launches = []

    def start(*arguments, cwd=tmp_path, **environment):
        launches.append(Launched(list(map(str, arguments)), cwd, **environment))
        return launches[-1]

    yield start
    for launched in launches:
        with launched.process:  # which closes the pipes
            launched.process.kill()


@pytest.fixture(scope="session")
def environment_of_runs():
    """Environment for a run that others are compared with to the bit."""
    return usual_environment()


@pytest.fixture(scope="session")
def small_run():
    """Command of a small training run."""
    return [sys.executable, str(HERE / "small_run.py")]
