"""`gluon-aff doctor` as a user calls it, on this machine and on broken ones."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import gluon_aff
from gluon_aff._platform import python_problem, torch_problem
from gluon_aff.cli import COMMANDS
from gluon_aff.commands.doctor import finding_text, job_findings, summary_text
from gluon_aff.machine import doctor
from gluon_aff.machine.children import Answer
from gluon_aff.machine.findings import MEND, NOTE, OK, mend, note, ok

PACKAGE = Path(gluon_aff.__file__).parent
SITE_PACKAGES = sysconfig.get_paths()["purelib"]
on_mxnets_python = pytest.mark.skipif(python_problem() is not None, reason="MXNet runs on older Pythons")
CU112_NEEDS = ["libcudart.so.11.0", "libcudnn.so.8", "libgomp.so.1"]


@pytest.fixture
def examine(tmp_path):
    """Function that runs the doctor with the standard library, the package and `path`; returns the process.

    `-S`: without what is installed for the interpreter.
    """
    for name in ("gluon_aff", "gluon_aff_command.py"):
        (tmp_path / "package").mkdir(exist_ok=True)
        (tmp_path / "package" / name).symlink_to(PACKAGE.parent / name)

    def run(*arguments, path=(), module="gluon_aff", python=sys.executable, **environment):
        places = os.pathsep.join(map(str, [tmp_path / "package", *path]))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GLUON_AFF_"))}
        return subprocess.run(
            [python, "-S", "-m", module, "doctor", *arguments],
            env={**kept, "PYTHONPATH": places, "HOME": str(tmp_path), **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=280,
        )

    return run


def add_mxnet(folder, code="", builds=("mxnet",), numpy="1.23.5"):
    """Make something that looks like MXNet, installed by those distributions, and like NumPy."""
    (folder / "mxnet").mkdir(parents=True)
    (folder / "mxnet" / "__init__.py").write_text(code)
    (folder / "numpy.py").write_text("")
    for name, version in [(name.replace("-", "_"), "1.9.1") for name in builds] + [("numpy", numpy)]:
        (folder / f"{name}-{version}.dist-info").mkdir()
        (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    return folder


def findings_of(process, code=1):
    assert process.returncode == code, process.stdout + process.stderr
    assert process.stderr == ""
    findings = json.loads(process.stdout)
    assert all(list(finding) == ["check", "state", "message", "remedy"] for finding in findings)
    assert all(finding["remedy"] for finding in findings if finding["state"] == MEND)
    assert all("\n" not in finding["message"] + finding["remedy"] for finding in findings)
    return {finding["check"]: finding for finding in findings}


@pytest.mark.engine
@pytest.mark.long  # each check that it runs has a fast test of its own
def test_here(tmp_path):
    """In the environment of these tests training works, whatever else may be worth knowing."""
    command = [str(Path(sysconfig.get_path("scripts")) / "gluon-aff"), "doctor"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert (process.returncode, process.stderr) == (0, "")
    assert "\033" not in process.stdout
    lines = process.stdout.splitlines()
    assert lines[-1].startswith("Training works here: CPU (MXNet)")
    assert {line[:6] for line in lines[:-2]} <= {"ok    ", "note  ", " " * 6}
    for check in ("Python", "NumPy", "MXNet build", "libraries", "MXNet", "training step", "GluonCV", "OpenCV"):
        assert any(line.startswith(f"ok    {check.ljust(16)}") for line in lines), check


@on_mxnets_python
@pytest.mark.parametrize("module", ["gluon_aff", "gluon_aff_command"])
def test_nothing_is_installed(examine, module):
    findings = findings_of(examine("--json", module=module))
    assert findings["Python"]["state"] == OK
    for check in ("NumPy", "MXNet build", "GluonCV", "OpenCV", "pillow", "tqdm"):
        assert findings[check]["state"] == MEND
        assert findings[check]["message"].startswith("not installed")
    assert findings["weights"]["message"] == "not counted: ModuleNotFoundError: No module named 'numpy'"
    assert findings["training step"]["state"] == NOTE


@on_mxnets_python
def test_what_a_newcomer_reads(examine):
    lines = examine().stdout.splitlines()
    assert f"mend  {'NumPy':<16}not installed" in lines
    assert lines[lines.index(f"mend  {'NumPy':<16}not installed") + 1] == f"{'':22}-> pip install 'numpy<1.24'"
    assert lines[-1].startswith("To mend: NumPy, MXNet build, GluonCV, OpenCV, pillow, ")
    assert lines[-1].endswith("To install everything that is missing: make venv, or pip install .")


def test_newer_numpy(examine, tmp_path):
    path = add_mxnet(tmp_path / "site", "import numpy\nnumpy.bool", numpy="1.26.4")
    findings = findings_of(examine("--json", path=[path]))
    assert findings["NumPy"]["remedy"] == "pip install 'numpy<1.24'"
    assert findings["MXNet"]["message"] == "AttributeError: module 'numpy' has no attribute 'bool'"
    assert findings["MXNet"]["remedy"] == "see NumPy"


def test_an_mxnet_that_this_processor_cannot_run(examine, tmp_path):
    path = add_mxnet(tmp_path / "site", "import os, signal\nos.kill(os.getpid(), signal.SIGILL)")
    findings = findings_of(examine("--json", path=[path]))
    assert findings["MXNet"]["message"] == "crashed with SIGILL (Illegal instruction)"
    assert "this processor lacks instructions" in findings["MXNet"]["remedy"]


def test_cuda_build_without_cuda(examine, tmp_path, write_library):
    """As a machine after `make gpu`, with none of what the build needs."""
    path = add_mxnet(tmp_path / "site", "import ctypes\nctypes.CDLL('libcudnn.so.8')", builds=["mxnet", "mxnet-cu112"])
    write_library(path / "mxnet" / "libmxnet.so", CU112_NEEDS, [(2, 50), (2, 86)])
    findings = findings_of(examine("--json", path=[path], LD_LIBRARY_PATH=""))
    assert findings["MXNet build"]["message"] == "mxnet and mxnet-cu112 are installed over each other"
    assert findings["MXNet build"]["remedy"].startswith("pip uninstall -y mxnet mxnet-cu112, then")
    assert findings["libraries"]["state"] == OK
    assert findings["CUDA libraries"]["message"] == "missing: libcudart.so.11.0, libcudnn.so.8"
    assert findings["MXNet"]["remedy"] == "see libraries"


def test_gpu_that_the_build_cannot_use(examine, tmp_path, write_library, driver_folder):
    path = add_mxnet(tmp_path / "site", "raise ImportError('unfinished')", builds=["mxnet-cu112"])
    write_library(path / "mxnet" / "libmxnet.so", CU112_NEEDS, [(2, 50), (2, 86)])
    gpus = {"LD_LIBRARY_PATH": str(driver_folder), "FAKE_GPUS": "NVIDIA H200,9,0", "CUDA_VISIBLE_DEVICES": "0"}
    finding = findings_of(examine("--json", path=[path], **gpus))["GPU 0"]
    assert finding["state"] == MEND
    assert finding["message"] == (
        "NVIDIA H200, 16.0 GiB, compute capability 9.0: MXNet cannot run on it, having machine code for 5.0, 8.6 and "
        "no PTX, which runs on 5.x, 8.6+"
    )


def other_pythons():
    found = {path.parents[1].name: str(path) for path in Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python")}
    return [pytest.param(path, id=version) for version, path in sorted(found.items())]


@pytest.mark.parametrize("python", other_pythons() or [pytest.param("", marks=pytest.mark.skip("none installed"))])
def test_newer_python(examine, python):
    findings = findings_of(examine("--json", python=python, path=[SITE_PACKAGES]))
    assert findings["Python"]["state"] == (MEND if torch_problem() else OK)
    assert "MXNet 1.9.1 runs on 3.8, 3.9, 3.10 and 3.11" in findings["Python"]["message"]
    assert findings["disk"]["state"] in (OK, NOTE)
    assert findings["MXNet for"]["state"] == NOTE


def test_data_that_is_not_where_it_was_named(examine, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.bin").write_text("")
    findings = findings_of(examine("--json", "--data-dir", "data", "nowhere", "--data-dir", "else"))
    assert findings["CIFAR-100"]["state"] == OK
    assert findings["--data-dir"]["message"] == "else: neither CIFAR nor ImageNet is there"


@pytest.fixture
def quick(monkeypatch):
    """No child process, and a machine of which nothing is known."""
    for module in ("children", "packages", "libraries", "gpus", "mxnet_build", "training_steps", "files"):
        monkeypatch.setattr(f"gluon_aff.machine.{module}.ask", lambda *_, **__: Answer(problem="not asked"))


def test_a_check_that_fails_stops_no_other(quick, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied", "/proc/meminfo")

    expected = [finding.check for finding in doctor.examine()]
    for name in ("check_memory", "check_gpus", "check_python", "find_mxnet", "find_driver"):
        monkeypatch.setattr(doctor, name, fail)
    findings = {finding.check: finding for finding in doctor.examine()}
    assert set(expected) - set(findings) <= {"libraries", "driver", "MXNet"}
    for check in ("memory", "GPU", "Python"):
        assert findings[check].state == NOTE
        assert findings[check].message == "not checked: PermissionError: [Errno 13] Permission denied: '/proc/meminfo'"


def test_jobs_by_what_they_need():
    without, mxnet, torch = job_findings([ok("NumPy", "2.5")], COMMANDS)
    jobs = "models, params, published, compare, report, make-data, make-records, doctor"
    assert set(without.message[: without.message.index(":")].split(", ")) == set(jobs.split(", "))
    assert (without.state, mxnet.state, torch.state) == (OK, NOTE, NOTE)
    assert mxnet.message.endswith(": not here")
    trains = "train-cifar, train-imagenet, train-segmentation, launch"
    here = f"{trains}, summary, memory, evaluate, predict, gradcam, selectivity, segment, convert, export, ablation"
    assert torch.message == f"{here}: not here"
    for name in set(COMMANDS) - {*jobs.split(", "), "convert"}:
        assert f"{name}, " in mxnet.message or f"{name}:" in mxnet.message
    found = [mend("NumPy", "broken", "mend it"), ok("training step", "CPU"), ok("PyTorch step", "CPU")]
    without, mxnet, torch = job_findings(found, COMMANDS)
    assert (without.state, without.remedy, mxnet.state, torch.state) == (NOTE, "see NumPy", OK, OK)


def test_lines_in_colour():
    assert finding_text(ok("NumPy", "1.23.5")) == "ok    NumPy           1.23.5"
    coloured = finding_text(mend("NumPy", "not installed", "pip install"), coloured=True)
    assert coloured == f"\033[31;1mmend  \033[0mNumPy           not installed\n{'':22}-> pip install"


def test_last_line():
    trained = [ok("training step", "CPU: loss from 0.7 to 0.6"), ok("training step", "GPU 0: loss"), note("GPU 1", "")]
    assert summary_text(trained) == "Training works here: CPU, GPU 0 (MXNet)."
    assert summary_text([*trained, ok("PyTorch step", "CPU: loss")]) == (
        "Training works here: CPU, GPU 0 (MXNet); CPU (PyTorch)."
    )
    assert summary_text([*trained, mend("disk", "full", "make room")]) == "To mend: disk."
    assert summary_text([]) == "There is nothing to mend, but training needs MXNet or PyTorch, and neither works here."
