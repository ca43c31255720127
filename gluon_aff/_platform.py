"""Check whether MXNet 1.9.1 and PyTorch can work on this machine, without importing them.

An import that cannot work may crash the process, so these checks only look at what is installed.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import warnings
from importlib import metadata, util
from pathlib import Path
from typing import List, NamedTuple, Optional

from gluon_aff.errors import InputError, NoEngineError, unknown_name

SKIP_CHECK = "GLUON_AFF_SKIP_CHECK"
# Environment variables that MXNet 1.9.1 reads as whole numbers, and in which other text ends or blocks the process
WHOLE_NUMBERS = (
    *("OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS", "MXNET_CPU_WORKER_NTHREADS", "MXNET_CPU_PRIORITY_NTHREADS"),
    *("MXNET_CPU_PARALLEL_RAND_COPY", "MXNET_CPU_PARALLEL_SIZE", "MXNET_CPU_TEMP_COPY", "MXNET_GPU_WORKER_NTHREADS"),
    *("MXNET_GPU_COPY_NTHREADS", "MXNET_GPU_PARALLEL_RAND_COPY", "MXNET_GPU_TEMP_COPY", "MXNET_MP_WORKER_NTHREADS"),
    *("MXNET_MP_OPENCV_NUM_THREADS", "MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN", "MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN_FWD"),
    *("MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN_BWD", "MXNET_EXEC_INPLACE_GRAD_SUM_CAP", "MXNET_KVSTORE_BIGARRAY_BOUND"),
    *("MXNET_KVSTORE_REDUCTION_NTHREADS", "MXNET_KVSTORE_SLICE_THRESHOLD", "MXNET_MKLDNN_CACHE_NUM"),
)
SWITCHES = (
    *("MXNET_SAFE_ACCUMULATION", "MXNET_BACKWARD_DO_MIRROR", "MXNET_EXEC_BULK_EXEC_TRAIN", "MXNET_MKLDNN_ENABLED"),
    *("MXNET_EXEC_BULK_EXEC_INFERENCE", "MXNET_ENABLE_GPU_P2P", "MXNET_USE_FUSION", "MXNET_USE_MKLDNN_RNN"),
)
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,9}\s*")
_SWITCH = re.compile(r"(?i)\s*(?:[0-9]{1,9}|true|false)\s*")
MXNET_BUILD = re.compile(r"(mxnet(?:[-_](?:cu\d+|mkl|native))*)-[^-]+\.dist-info")


ENGINES = ("mxnet", "torch")
AUTO = "auto"
ENGINE_CHOICES = (AUTO, *ENGINES)
ENGINE_VARIABLE = "GLUON_AFF_ENGINE"


class Problem(NamedTuple):
    """Says what keeps an engine from working, and what to do about it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def check_mxnet() -> None:
    """Check that MXNet can work here; warn if several builds of it are installed over each other.

    Raises:
        NoEngineError: MXNet 1.9.1 cannot work here. The message says what to install.
        InputError: an environment variable has a value that would end or block the process.
    """
    check_variables()
    if os.environ.get(SKIP_CHECK) == "1":
        return
    problem = platform_problem()
    if problem is not None:
        raise no_engine(problem)
    several_builds = several_mxnet_builds()
    if several_builds is not None:
        warnings.warn(str(several_builds), stacklevel=2)


def no_engine(*problems: Problem) -> NoEngineError:
    """Return the error that no engine works, with the problem of each; solving one of them is enough."""
    return NoEngineError(f"{'; or '.join(map(str, problems))}; to check everything else: python -m gluon_aff doctor")


def engine_name(given: Optional[str] = None) -> str:
    """Return the `given` engine, else the one that $GLUON_AFF_ENGINE names: mxnet, torch or auto, which is the default.

    Raises:
        InputError: the name is none of these.
    """
    name = given or os.environ.get(ENGINE_VARIABLE) or AUTO
    if name not in ENGINE_CHOICES:
        raise unknown_name("engine" if given else f"engine, ${ENGINE_VARIABLE}", name, ENGINE_CHOICES)
    return name


def check_variables() -> None:
    """Check the environment variables that MXNet reads as numbers; a wrong one would abort or block the process.

    Raises:
        InputError: a variable has a wrong value. The message names the variable.
    """
    for names, values, said in ((WHOLE_NUMBERS, _INTEGER, "a whole number"), (SWITCHES, _SWITCH, "0 or 1")):
        for name in names:
            value = os.environ.get(name, "")
            if value and not values.fullmatch(value):
                raise InputError(f"{name}={value}: MXNet expects {said} there; change it, or unset it")


def check_torch() -> None:
    """Raise NoEngineError, which says what to install, if PyTorch is not installed or too old."""
    problem = torch_problem()
    if problem is not None:
        raise no_engine(problem._replace(what=f"this needs {problem.what}"))


def check_torch_or_mxnet() -> None:
    """Raise NoEngineError if PyTorch does not work; if MXNet does not either, the message says how to get each."""
    mxnet, torch = platform_problem(), torch_problem()
    if mxnet is None or torch is None:
        check_torch()
    else:
        raise no_engine(mxnet, torch)


def torch_problem() -> Optional[Problem]:
    """Return a problem if PyTorch is not installed or older than 2.4; None otherwise."""
    remedy = "pip install 'torch>=2.4' (https://pytorch.org/get-started has the builds for GPUs and for CPUs)"
    if util.find_spec("torch") is None:
        return Problem("PyTorch", remedy)
    version = _version_of("torch")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < (2, 4):
        return Problem(f"PyTorch 2.4 or newer, and this is {version}", remedy)
    return None


def platform_problem() -> Optional[Problem]:
    """Return the first problem that keeps MXNet 1.9.1 from working here; None if there is none."""
    return python_problem() or machine_problem() or mxnet_problem() or numpy_problem()


def no_wheel() -> Optional[Problem]:
    """Return a problem if MXNet is not installed and pip cannot install it here; None otherwise."""
    return python_problem() or machine_problem() if mxnet_folder() is None else None


def python_problem() -> Optional[Problem]:
    """Return a problem if this Python is too old or too new for MXNet; None otherwise."""
    if (3, 8) <= sys.version_info[:2] < (3, 12):
        return None
    return Problem(
        "to compute, gluon_aff needs MXNet 1.9.1, which runs on Python 3.8, 3.9, 3.10 or 3.11, and this is "
        f"Python {sys.version_info[0]}.{sys.version_info[1]}",
        "make a virtual environment with one of those, and pip install gluon_aff there",
    )


def machine_problem() -> Optional[Problem]:
    """Return a problem if MXNet is not installed and has no wheel for this machine; None otherwise."""
    here = f"{platform.system()} {platform.machine()}"
    if here == "Linux x86_64" or mxnet_folder() is not None:
        return None
    return Problem(
        f"to compute, gluon_aff needs MXNet 1.9.1, which has a wheel for Linux on x86-64 only, and this is {here}",
        "use such a machine or container",
    )


def mxnet_problem() -> Optional[Problem]:
    """Return a problem if MXNet is not installed; None otherwise."""
    if mxnet_folder() is not None:
        return None
    return Problem(
        "to compute, gluon_aff needs MXNet",
        "pip install mxnet==1.9.1 (for NVIDIA GPUs: pip install mxnet-cu112==1.9.1)",
    )


def numpy_problem() -> Optional[Problem]:
    """Return a problem if the installed NumPy is too new for MXNet; None otherwise."""
    numpy = _version_of("numpy")  # pip installs it with MXNet; if it is missing, the import of MXNet says so
    numbers = re.match(r"(\d+)\.(\d+)", numpy)
    if numbers and (int(numbers[1]), int(numbers[2])) >= (1, 24):
        return Problem(f"MXNet 1.9.1 needs np.bool, which NumPy {numpy} lacks", "pip install 'numpy<1.24'")
    return None


def several_mxnet_builds() -> Optional[Problem]:
    """Return a problem if several builds of MXNet are installed over each other in one folder; None otherwise."""
    builds = mxnet_builds()
    if len(builds) < 2:
        return None
    return Problem(
        f"{' and '.join(builds)} are installed over each other",
        f"pip uninstall -y {' '.join(builds)}, then pip install --no-deps the one to keep, such as {builds[-1]}==1.9.1",
    )


def mxnet_builds() -> List[str]:
    """Return the names of the distributions that installed MXNet, such as mxnet-cu112; none if it was built here."""
    folder = mxnet_folder()
    if folder is None:
        return []
    found = (MXNET_BUILD.fullmatch(entry.name) for entry in folder.parent.glob("mxnet*.dist-info"))
    return sorted({match[1].replace("_", "-") for match in found if match})


def mxnet_folder() -> Optional[Path]:
    """Return the folder of the mxnet that would be imported; None if there is none."""
    spec = util.find_spec("mxnet")
    # Without an origin, it is a folder that an uninstalled MXNet left, which Python takes for a namespace package
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _version_of(distribution: str) -> str:
    """Return the installed version of a distribution; an empty string if pip does not know it."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
