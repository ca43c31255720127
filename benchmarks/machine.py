"""Describe the machine of a benchmark, without importing MXNet, which reads OMP_NUM_THREADS when it is imported."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Dict

from gluon_aff.machine.system_files import read_text
from gluon_aff.machine.threads import THREADS, usable_cores


def description() -> Dict[str, str]:
    """Return processor, number of cores, number of threads, and versions."""
    return {
        "processor": processor(),
        "cores": str(usable_cores()),
        THREADS: os.environ.get(THREADS, "not set"),
        "versions": ", ".join(
            [f"{name} {version(name)}" for name in ("gluon_aff", "mxnet", "numpy", "pillow")]
            + [f"Python {platform.python_version()}"]
        ),
    }


def processor() -> str:
    """Return the name of the processor."""
    lines = read_text("proc/cpuinfo").splitlines()
    models = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(models)) or platform.machine()
