"""Packages that are there, missing, broken, too new."""

import sys

import pytest

from gluon_aff._platform import Problem
from gluon_aff.machine import packages, training_steps
from gluon_aff.machine.children import Answer
from gluon_aff.machine.findings import MEND, NOTE, OK


@pytest.fixture(autouse=True)
def wheel(monkeypatch):
    """Function that says whether MXNet can be installed; it can."""

    def set_up(there):
        monkeypatch.setattr(packages, "no_wheel", lambda: None if there else Problem("no wheel", "another machine"))

    set_up(True)
    return set_up


@pytest.fixture
def environment(monkeypatch):
    """Function that sets the versions of distributions, missing if not named, and the problem of every import."""

    def set_up(versions, problem=""):
        monkeypatch.setattr(packages, "_version", lambda name: versions.get(name, ""))
        monkeypatch.setattr(packages, "ask", lambda *_: Answer(problem=problem))

    return set_up


@pytest.mark.engine
def test_this_environment_is_fine():
    assert packages.check_python(True).state == OK
    assert packages.check_numpy(True).state == OK
    assert packages.check_opencv().state == OK
    assert packages.check_gluoncv(True).state == OK
    assert [packages.check_package(*package).state for package in packages.REQUIRED] == [OK] * len(packages.REQUIRED)


@pytest.mark.parametrize(("mxnet_works", "state"), [(False, MEND), (True, NOTE)])
def test_newer_python(monkeypatch, mxnet_works, state):
    """A patched MXNet may well run on it: only then is there nothing to mend."""
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    monkeypatch.setattr(packages, "torch_problem", lambda: Problem("not installed", ""))
    finding = packages.check_python(mxnet_works)
    assert finding.state == state
    remedy = "make a virtual environment with one of those, and pip install gluon_aff there"
    assert finding.remedy == ("export GLUON_AFF_SKIP_CHECK=1" if mxnet_works else remedy)


@pytest.mark.parametrize(("mxnet_works", "state"), [(False, MEND), (True, NOTE)])
def test_newer_numpy(environment, monkeypatch, mxnet_works, state):
    environment({"numpy": "1.26.4"})
    monkeypatch.setattr("gluon_aff._platform._version_of", lambda _: "1.26.4")
    finding = packages.check_numpy(mxnet_works)
    assert finding.state == state
    assert finding.message.startswith("1.26.4: ")
    assert finding.remedy == ("export GLUON_AFF_SKIP_CHECK=1" if mxnet_works else "pip install 'numpy<1.24'")


def test_where_mxnet_has_no_wheel(environment, wheel, monkeypatch):
    """Nothing is said to be too new for it, and nothing to be installed that goes with it."""
    wheel(False)
    environment({"numpy": "2.5.5", "opencv-python-headless": "5.0"})
    monkeypatch.setattr("gluon_aff._platform._version_of", lambda _: "2.5.5")
    assert packages.check_numpy(False).state == OK
    assert packages.check_gluoncv(False).state == NOTE
    environment({}, "ModuleNotFoundError")
    assert packages.check_numpy(False).remedy == "pip install numpy"
    assert packages.check_opencv().remedy == "pip install opencv-python-headless"


@pytest.mark.parametrize(
    ("versions", "problem", "message"),
    [
        ({}, "ModuleNotFoundError", "not installed"),
        ({"numpy": "1.23.5"}, "crashed with SIGILL", "1.23.5: crashed with SIGILL"),
    ],
)
def test_numpy_missing_or_broken(environment, monkeypatch, versions, problem, message):
    environment(versions, problem)
    monkeypatch.setattr("gluon_aff._platform._version_of", lambda _: versions.get("numpy", ""))
    finding = packages.check_numpy(False)
    assert (finding.state, finding.message) == (MEND, message)
    assert "'numpy<1.24'" in finding.remedy


@pytest.mark.parametrize(
    ("versions", "problem", "expected"),
    [
        ({"tqdm": "4.70"}, "", (OK, "4.70", "")),
        ({}, "", (OK, "of unknown version", "")),
        ({}, "ModuleNotFoundError", (MEND, "not installed; it is for progress bars", "pip install tqdm")),
        (
            {"tqdm": "4.70"},
            "SyntaxError: x",
            (MEND, "4.70: SyntaxError: x", "pip install --force-reinstall tqdm 'numpy<1.24'"),
        ),
    ],
)
def test_required_packages(environment, versions, problem, expected):
    environment(versions, problem)
    finding = packages.check_package("tqdm", ("tqdm",), "progress bars")
    assert (finding.state, finding.message, finding.remedy) == expected


LIBGL = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("versions", "problem", "state", "said"),
    [
        ({}, "ModuleNotFoundError", MEND, ["not installed"]),
        ({"opencv-python-headless": "4.11"}, "", OK, ["opencv-python-headless 4.11"]),
        ({"opencv-python": "4.11"}, "", OK, ["opencv-python 4.11"]),
        ({}, "", OK, ["not from pip"]),
        (
            {"opencv-python": "4.11"},
            LIBGL,
            MEND,
            ["libGL.so.1", "desktop build", "pip install 'opencv-python-headless", "libgl1"],
        ),
        (
            {"opencv-python": "4.11", "opencv-python-headless": "4.11"},
            "",
            NOTE,
            ["share one module", "pip uninstall -y"],
        ),
        ({"opencv-python": "4.12"}, "ImportError: numpy", MEND, ["4.12: ImportError: numpy", "<4.12"]),
    ],
)
def test_opencv_builds(environment, versions, problem, state, said):
    environment(versions, problem)
    finding = packages.check_opencv()
    assert finding.state == state
    assert all(part in f"{finding.message} {finding.remedy}" for part in said)


@pytest.mark.parametrize(
    ("versions", "mxnet_works", "problem", "state"),
    [
        ({}, True, "ModuleNotFoundError", MEND),
        ({"gluoncv": "0.10.5"}, False, "", NOTE),
        ({"gluoncv": "0.10.5"}, True, LIBGL, MEND),
        ({"gluoncv": "0.10.5"}, True, "", OK),
    ],
)
def test_gluoncv(environment, versions, mxnet_works, problem, state):
    environment(versions, problem)
    assert packages.check_gluoncv(mxnet_works).state == state


def test_optional_packages(environment):
    environment({"onnx": "1.18.0"}, "")
    assert [(finding.check, finding.state) for finding in packages.check_optional()] == [("onnx", OK), ("optional", OK)]
    assert "horovod" in packages.check_optional()[1].message
    environment({name: "1.0" for name, _, _ in packages.OPTIONAL}, "ImportError: x")
    findings = packages.check_optional()
    assert [finding.check for finding in findings] == ["onnx", "onnxruntime", "horovod"]
    assert {finding.state for finding in findings} == {NOTE}


@pytest.mark.parametrize(
    ("problem", "found", "states"),
    [
        (None, Answer(2), {"PyTorch": "ok", "CPU": "ok", "GPU 0": "ok", "GPU 1": "mend"}),
        (None, Answer(problem="undefined symbol"), {"PyTorch": "mend"}),
        ("not installed", None, {"PyTorch": "note"}),
    ],
)
def test_pytorch(monkeypatch, problem, found, states):
    monkeypatch.setattr(packages, "torch_problem", lambda: problem and Problem(problem, "pip install torch"))
    monkeypatch.setattr(packages, "ask", lambda *_: found)
    after = {"cpu 0": 0.6404, "gpu 0": 0.6401, "gpu 1": 0.7}
    monkeypatch.setattr(
        training_steps,
        "ask",
        lambda probe, engine, device, number: Answer(
            {"before": 0.6931, "after": after[f"{device} {number}"], "seconds": 0.1}
        ),
    )
    findings = packages.check_torch()
    assert {
        each.message.split(":")[0] if each.check == "PyTorch step" else each.check: each.state for each in findings
    } == states


def test_a_python_without_mxnet_and_with_pytorch_is_nothing_to_mend(monkeypatch):
    monkeypatch.setattr(packages, "python_problem", lambda: Problem("too new", "take an older one"))
    for torch, state in ((None, OK), (Problem("not installed", ""), MEND)):
        monkeypatch.setattr(packages, "torch_problem", lambda torch=torch: torch)
        assert packages.check_python(mxnet_works=False).state == state
