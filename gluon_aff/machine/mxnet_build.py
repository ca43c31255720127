"""Check MXNet: how it was installed, with which features it was built, and whether it trains."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import List, Optional, Tuple

from gluon_aff._platform import (
    machine_problem,
    mxnet_builds,
    mxnet_folder,
    mxnet_problem,
    python_problem,
    several_mxnet_builds,
)
from gluon_aff.machine.children import Answer, ask
from gluon_aff.machine.findings import Finding, mend, note, ok
from gluon_aff.machine.gpus import Driver, carried_code, unusable
from gluon_aff.machine.shared_library import GPUCode, needed_libraries
from gluon_aff.machine.training_steps import STEPS, check_steps

FEATURES = ("CUDA", "CUDNN", "NCCL", "MKLDNN", "OPENCV", "DIST_KVSTORE")
REINSTALL = "pip install --force-reinstall --no-deps the same build of MXNet"
OTHER_PROCESSOR = "this processor lacks instructions that this MXNet is built with: use another machine"
CUDA_RUNTIME = re.compile(r"libcudart\.so\.(\d+)")
NOT_INSTALLED = Answer(problem="not installed")


@dataclass(frozen=True)
class InstalledMXNet:
    """The MXNet that is installed, and the result of importing it.

    Attributes:
        builds: distributions that have installed it.
        imported: answer of the probe `mxnet`: version, features and library.
        library: path of the native library; empty if MXNet is not installed.
        needed: names of the libraries to which that is linked; empty if it cannot be read.
        code: GPU code in the native library; None if there is none or it cannot be read.
    """

    builds: Tuple[str, ...] = ()
    imported: Answer = NOT_INSTALLED
    library: str = ""
    needed: Tuple[str, ...] = ()
    code: Optional[GPUCode] = None

    @property
    def works(self) -> bool:
        """Return whether MXNet can be imported."""
        return not self.imported.problem

    @property
    def cuda(self) -> int:
        """Return the major version of CUDA for which MXNet was built; 0 for a build without CUDA."""
        found = [match for match in map(CUDA_RUNTIME.match, self.needed) if match]
        return int(found[0][1]) if found else 0


def find_mxnet() -> InstalledMXNet:
    """Examine the MXNet that is installed, if any."""
    folder = mxnet_folder()
    if folder is None:
        return InstalledMXNet()
    imported = ask("mxnet")
    usual = os.environ.get("MXNET_LIBRARY_PATH", str(folder / "libmxnet.so"))
    library = usual if imported.problem else imported.value["library"]
    try:
        needed = needed_libraries(library)
    except (OSError, ValueError):
        needed = ()
    return InstalledMXNet(tuple(mxnet_builds()), imported, library, needed, carried_code(library))


def check_build(mxnet: InstalledMXNet) -> Finding:
    """Check that MXNet is installed from exactly one distribution."""
    problem = mxnet_problem()
    if problem and python_problem():
        return note("MXNet build", "not installed: there is none for this Python")
    if problem:
        problem = machine_problem() or problem
        return mend("MXNet build", "not installed", problem.remedy)
    several = several_mxnet_builds()
    if several:  # the one that was installed last may work
        return (note if mxnet.works else mend)("MXNet build", *several)
    build = mxnet.builds[0] if mxnet.builds else f"not from pip, {mxnet.library}"
    return ok("MXNet build", f"{build}, {f'for CUDA {mxnet.cuda}' if mxnet.cuda else 'for the CPU'}")


def check_import(mxnet: InstalledMXNet) -> List[Finding]:
    """Check that MXNet, if it is installed, can be imported, and report its features."""
    if not mxnet.library:
        return []
    if not mxnet.works:
        return [mend("MXNet", mxnet.imported.problem, _import_remedy(mxnet))]
    there = mxnet.imported.value["features"]
    have = [feature for feature in FEATURES if feature in there]
    lacks = [feature for feature in FEATURES if feature not in there]
    without = f"; without {', '.join(lacks)}" if lacks else ""
    return [ok("MXNet", f"{mxnet.imported.value['version']} with {', '.join(have) or 'no feature'}{without}")]


def check_training(mxnet: InstalledMXNet, driver: Driver) -> List[Finding]:
    """Try one step of training on the CPU and on each GPU on which MXNet can run."""
    if not mxnet.works:
        return [note(STEPS["mxnet"], "not tried, since MXNet cannot be imported")]
    useless = unusable(driver.gpus, mxnet.code)
    gpus = [gpu.number for gpu in driver.gpus if gpu not in useless] if mxnet.cuda else []
    return check_steps("mxnet", gpus, lambda device, problem: _step_remedy(mxnet, device, problem))


def _step_remedy(mxnet: InstalledMXNet, device: str, problem: str) -> str:
    if "SIGILL" in problem:
        return OTHER_PROCESSOR
    if problem and device == "gpu":
        return "nvidia-smi shows whether the GPU works; --gpus selects other GPUs, and --gpus '' the CPU"
    if problem and mxnet.cuda:  # a build for CUDA queries the driver even on the CPU
        return "nvidia-smi shows whether the driver works; CUDA_VISIBLE_DEVICES='' hides the GPUs from MXNet"
    return REINSTALL


def _import_remedy(mxnet: InstalledMXNet) -> str:
    problem = mxnet.imported.problem
    if "cannot open shared object file" in problem:
        return "see libraries"
    if "numpy" in problem or "np." in problem:
        return "see NumPy"
    if "SIGILL" in problem:
        return OTHER_PROCESSOR
    return f"pip install --force-reinstall --no-deps {mxnet.builds[0] if mxnet.builds else 'mxnet'}==1.9.1"
