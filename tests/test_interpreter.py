"""Processes that the package starts import what it would, and nothing from the folder that the user is in."""

import os
import subprocess
import sys
from functools import partial
from operator import methodcaller
from pathlib import Path

import pytest

from gluon_aff.data.workers import WorkerPool
from gluon_aff.distributed.launch import GUARD, SERVE
from gluon_aff.interpreter import python_command
from gluon_aff.machine.children import ask


@pytest.fixture
def in_the_way(tmp_path, monkeypatch):
    """The current folder, which Python puts first, with modules of the names of the standard library's."""
    for name in ("queue", "json", "pickle", "argparse", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    return tmp_path


def printed(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **more).stdout.strip()


def test_data_workers(in_the_way):
    pool = WorkerPool(1, partial(methodcaller, "upper"))
    try:
        assert pool.submit(("a",)).result() == "A"
    finally:
        pool.close()


def test_probes(in_the_way):
    assert ask("imports", "json").problem == ""


def test_any_python(in_the_way):
    code = "import json, queue, gluon_aff.cli; print(json.dumps(sys.argv[1:]))"
    assert printed(python_command(code, "a b", "'")) == '["a b", "\'"]'


def test_servers_of_a_launch(in_the_way, tmp_path_factory):
    """They may not unpickle what they are sent, so they have to have the right pickle."""
    stand_in = tmp_path_factory.mktemp("stand_in")
    (stand_in / "mxnet.py").write_text("import pickle; print(pickle.loads, pickle.__name__, hasattr(pickle, 'dumps'))")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["", str(stand_in)])}
    assert printed([sys.executable, "-c", SERVE], env=environment) == "None pickle True"


def test_a_guard_needs_no_installed_package(in_the_way):
    """As from a clone that PYTHONPATH names, which Python's isolated mode does not look at."""
    command = [sys.executable, "-I", "-S", GUARD, "1", "1", sys.executable, "-c", "print(21)"]
    assert printed(command, stdin=subprocess.PIPE) == "21"


def test_places_that_are_relative_are_those_of_this_process(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "some_module.py").write_text("")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["own", *sys.path])
    found = printed(python_command("import some_module; print(some_module.__file__)"), cwd=tmp_path / "elsewhere")
    assert Path(found) == tmp_path / "own" / "some_module.py"


def test_the_current_folder_may_be_one_of_the_libraries(monkeypatch):
    monkeypatch.chdir(Path(os.__file__).parent)
    assert printed(python_command("import queue, json; print(1)")) == "1"
