"""Threads that MXNet computes with."""

import os

import pytest

from gluon_aff.machine import threads


@pytest.mark.parametrize(("quota", "cores"), [(None, 2), (8.0, 2), (1.5, 1), (0.5, 1)])
def test_cores(quota, cores, monkeypatch):
    """Four processors, two of each core, and what the container leaves of them."""
    siblings = {0: "0,2", 2: "0,2", 1: "1,3", 3: "1,3"}
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: set(siblings), raising=False)
    monkeypatch.setattr(threads, "read_text", lambda path: siblings[int(path.split("/cpu/cpu")[1][0])])
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    assert threads.usable_cores() == cores


def test_threads_are_set_unless_the_user_did(monkeypatch):
    monkeypatch.setattr(threads, "usable_cores", lambda: 6)
    monkeypatch.setenv(threads.THREADS, "3")
    threads.use_all_cores()
    assert os.environ[threads.THREADS] == "3"
    monkeypatch.delenv(threads.THREADS)
    threads.use_all_cores()
    assert os.environ[threads.THREADS] == "6"


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_threads_wait_briefly_unless_the_user_says_otherwise(given, spins, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    threads.use_all_cores()
    assert os.environ.get("GOMP_SPINCOUNT") == spins
