"""Check the Python interpreter, PyTorch, and the packages that both engines need."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import List, Tuple

from gluon_aff._platform import SKIP_CHECK, no_wheel, numpy_problem, python_problem, torch_problem
from gluon_aff.machine.children import ask
from gluon_aff.machine.findings import Finding, mend, note, ok
from gluon_aff.machine.training_steps import check_steps

OPENCV_BUILDS = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
REINSTALL_TORCH = "pip install --force-reinstall torch"
GLUONCV = "pip install gluoncv==0.10.5.post0"

# Distribution, modules to import, and purpose
REQUIRED = (
    ("pillow", ("PIL.Image",), "augmentation and images"),
    ("matplotlib", ("matplotlib.figure", "matplotlib.backends.backend_agg"), "curves"),
    ("requests", ("requests",), "downloads"),
    ("filelock", ("filelock",), "one process at a time"),
    ("tqdm", ("tqdm",), "progress bars"),
)
OPTIONAL = (
    ("onnx", ("onnx",), "export"),
    ("onnxruntime", ("onnxruntime",), "export"),
    ("horovod", ("horovod.mxnet",), "--kvstore horovod"),
)


def check_python(mxnet_works: bool) -> Finding:
    """Check that an engine runs on this version of Python."""
    here = f"{platform.python_version()} ({sys.executable}) on {platform.system()} {platform.machine()}"
    problem = python_problem()
    if problem is None:
        return ok("Python", here)
    if mxnet_works:
        return note("Python", f"{here}: newer than MXNet 1.9.1 knows, but MXNet works", f"export {SKIP_CHECK}=1")
    runs_on = f"{here}: MXNet 1.9.1 runs on 3.8, 3.9, 3.10 and 3.11"
    if torch_problem() is None:
        return ok("Python", f"{runs_on}; PyTorch is installed and is used instead")
    return mend("Python", runs_on, problem.remedy)


def check_torch() -> List[Finding]:
    """Check that PyTorch can be imported, and try one step of training on each device that it finds."""
    problem = torch_problem()
    if problem is not None:
        return [note("PyTorch", "not installed, or too old; it is the second engine", problem.remedy)]
    version = _version("torch")
    found = ask("torch_gpus")
    if found.problem:
        return [mend("PyTorch", f"{version}: {found.problem}", REINSTALL_TORCH)]
    gpus = range(found.value)
    return [ok("PyTorch", version), *check_steps("torch", gpus, lambda device, problem: REINSTALL_TORCH)]


def check_numpy(mxnet_works: bool) -> Finding:
    """Check that NumPy can be imported, and that MXNet works with its version."""
    version = _version("numpy")
    if not version:
        return mend("NumPy", "not installed", f"pip install {_numpy()}")
    problem = None if no_wheel() else numpy_problem()
    if problem and mxnet_works:
        return note("NumPy", f"{version}: newer than MXNet 1.9.1 knows, but MXNet works", f"export {SKIP_CHECK}=1")
    if problem:
        return mend("NumPy", f"{version}: MXNet 1.9.1 needs np.bool, which it lacks", problem.remedy)
    broken = ask("imports", "numpy").problem
    if broken:
        return mend("NumPy", f"{version}: {broken}", f"pip install --force-reinstall {_numpy()}")
    return ok("NumPy", version)


def check_package(name: str, modules: Tuple[str, ...], purpose: str) -> Finding:
    """Check that a required package can be imported.

    Args:
        name: name of the distribution.
        modules: modules to import.
        purpose: what the package is needed for, for the message.
    """
    version = _version(name)
    broken = ask("imports", *modules).problem
    if not broken:
        return ok(name, version or "of unknown version")
    if not version:
        return mend(name, f"not installed; it is for {purpose}", f"pip install {name}")
    return mend(name, f"{version}: {broken}", f"pip install --force-reinstall {name} {_numpy()}")


def check_opencv() -> Finding:
    """Check that OpenCV can be imported, and that only one of its builds is installed."""
    opencv = "opencv-python-headless" if no_wheel() else "'opencv-python-headless<4.12'"  # newer: for a newer NumPy
    one_build = f"pip uninstall -y opencv-python opencv-python-headless, then pip install {opencv}"
    builds = [f"{build} {_version(build)}" for build in OPENCV_BUILDS if _version(build)]
    named = " and ".join(builds) or "not from pip"
    broken = ask("imports", "cv2").problem
    if broken and not builds:
        return mend("OpenCV", "not installed; images are decoded with it", f"pip install {opencv}")
    if "libGL" in broken:
        return mend("OpenCV", f"{named}, a desktop build: {broken}", f"{one_build} (or apt install libgl1)")
    if broken:
        return mend("OpenCV", f"{named}: {broken}", f"pip install --force-reinstall {opencv} {_numpy()}")
    if len(builds) > 1:
        return note("OpenCV", f"{named}, which share one module", one_build)
    return ok("OpenCV", named)


def check_gluoncv(mxnet_works: bool) -> Finding:
    """Check that GluonCV, which distillation uses, can be imported."""
    version = _version("gluoncv")
    if not version and no_wheel():
        return note("GluonCV", "not installed; it is useful with MXNet only")
    if not version:
        return mend("GluonCV", "not installed; distillation uses it", GLUONCV)
    if not mxnet_works:
        return note("GluonCV", f"{version}, not tried, since it imports MXNet")
    broken = ask("imports", "gluoncv.loss", "gluoncv.model_zoo").problem
    if broken:
        return mend("GluonCV", f"{version}: {broken}", f"repair the other packages, then {GLUONCV}")
    return ok("GluonCV", version)


def check_optional() -> List[Finding]:
    """Check the optional packages: one finding for each that is installed, and one that lists those that are not."""
    missing = [f"{name} ({purpose})" for name, _, purpose in OPTIONAL if not _version(name)]
    found = [_check_found(name, modules) for name, modules, _ in OPTIONAL if _version(name)]
    return [*found, *([ok("optional", f"not installed: {', '.join(missing)}")] if missing else [])]


def _check_found(name: str, modules: Tuple[str, ...]) -> Finding:
    version = _version(name)
    broken = ask("imports", *modules).problem
    if broken:
        return note(name, f"{version}, which is optional: {broken}", f"pip uninstall {name}, unless you need it")
    return ok(name, version)


def _numpy() -> str:
    """Return the requirement for NumPy, as an argument of pip."""
    return "numpy" if no_wheel() else "'numpy<1.24'"


def _version(distribution: str) -> str:
    """Return the version of an installed distribution, empty if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
