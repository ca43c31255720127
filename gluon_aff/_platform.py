"""Can this Python run MXNet 1.9.1? Answered from what is on disk, before anything that would crash is imported."""

from __future__ import annotations

import re
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Optional

MXNET_BUILD = re.compile(r"(mxnet(?:[-_](?:cu\d+|mkl|native))*)-[^-]+\.dist-info")


def platform_problem() -> Optional[str]:
    """What keeps MXNet 1.9.1 from working here, in one line with the remedy; None if nothing does."""
    if not (3, 8) <= sys.version_info[:2] < (3, 12):
        return (
            "gluon_aff needs Python 3.8, 3.9, 3.10 or 3.11, which MXNet 1.9.1 runs on, and this is "
            f"Python {sys.version_info[0]}.{sys.version_info[1]}: make a virtual environment with one of those"
        )
    if _mxnet_folder() is None:
        return "gluon_aff needs MXNet: pip install mxnet==1.9.1 (for NVIDIA GPUs: pip install mxnet-cu112==1.9.1)"
    numpy = _numpy_version()
    numbers = re.match(r"(\d+)\.(\d+)", numpy)
    if numbers and (int(numbers[1]), int(numbers[2])) >= (1, 24):
        return f"MXNet 1.9.1 needs np.bool, which NumPy {numpy} lacks: pip install 'numpy<1.24'"
    return None


def several_mxnet_builds() -> Optional[str]:
    """A warning, with the remedy, if several builds of MXNet are installed over each other in one folder."""
    folder = _mxnet_folder()
    if folder is None:
        return None
    found = (MXNET_BUILD.fullmatch(entry.name) for entry in folder.parent.glob("mxnet*.dist-info"))
    builds = sorted({match[1].replace("_", "-") for match in found if match})
    if len(builds) < 2:
        return None
    return (
        f"{' and '.join(builds)} are installed over each other: pip uninstall -y {' '.join(builds)}, "
        f"then pip install --no-deps the one to keep, such as {builds[-1]}==1.9.1"
    )


def _mxnet_folder() -> Optional[Path]:
    spec = util.find_spec("mxnet")
    # no origin: a folder that an uninstalled MXNet left behind, which Python takes for a namespace package
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _numpy_version() -> str:
    try:
        return metadata.version("numpy")
    except metadata.PackageNotFoundError:
        return ""  # pip installs it with MXNet; where it is missing all the same, MXNet's import says so
