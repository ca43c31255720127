"""Asking child processes, which answer, fail, crash or hang."""

import os
import sys

import pytest

from gluon_aff.machine.children import Answer, ask

MODULES = {
    "fine": "print('noise on standard output')",
    "raises": "raise OSError('libmissing.so.8: cannot open shared object file\\nsecond line')",
    "silent": "assert False",
    "MXNetError": "class MXNetError(Exception): pass\nraise MXNetError('Traceback:\\n  File engine.cc\\nCheck failed')",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGILL)",
    "leaves": "import os\nos._exit(7)",
    "hangs": "import time\ntime.sleep(1000)",
    "crashes": "import mxnet, ctypes\nctypes.string_at(0)",
    "serves": "import os\nassert 'DMLC_ROLE' not in os.environ",
}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    for name, code in MODULES.items():
        (tmp_path / f"module_{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("fine", ""),
        ("raises", "OSError: libmissing.so.8: cannot open shared object file"),
        ("silent", "AssertionError: no message"),
        ("MXNetError", "MXNetError: Check failed"),
        ("killed", "crashed with SIGILL (Illegal instruction)"),
        ("leaves", "ended with code 7"),
        # MXNet's handler makes exit code 255 of it
        pytest.param("crashes", "crashed with SIGSEGV (Segmentation fault)", marks=pytest.mark.engine),
    ],
)
def test_what_becomes_of_an_import(modules, name, problem):
    assert ask("imports", f"module_{name}").problem == problem


def test_no_patience(modules):
    assert ask("imports", "module_hangs", seconds=1) == Answer(problem="no answer within 1 s")


def test_a_role_in_a_cluster_is_not_passed_on(modules, monkeypatch):
    monkeypatch.setenv("DMLC_ROLE", "server")
    assert ask("imports", "module_serves").problem == ""


def test_modules_of_the_working_directory_are_not_in_the_way(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert ask("imports", "json").problem == ""


def test_no_core_files(modules, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(os.listdir())
    ask("imports", "module_killed")
    assert set(os.listdir()) - before <= {"__pycache__"}


def test_an_interpreter_that_does_not_start(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert ask("imports").problem == "/nowhere/python does not start: No such file or directory"
