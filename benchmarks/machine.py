"""What a benchmark ran on. No MXNet here: it reads OMP_NUM_THREADS as it is imported."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Dict

from gluon_aff.machine.resources import cpu_quota
from gluon_aff.machine.system_files import read_text

THREADS = "OMP_NUM_THREADS"


def use_all_cores() -> None:
    """Have MXNet, when it is imported, use a thread for each core of this process, unless the user says otherwise.

    On its own it takes half of the processors it sees, as if they were hyperthreads in pairs, also where they are not.
    """
    os.environ.setdefault(THREADS, str(usable_cores()))


def usable_cores() -> int:
    """Cores that this process may use at once: the hyperthreads of one count once, and a container's limit counts."""
    # Only Linux tells which processors a process may use.
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = len({_core(processor) for processor in processors})
    return max(1, int(min(cores, cpu_quota() or cores)))


def _core(processor: int) -> str:
    """Name that the hyperthreads of a core share."""
    return read_text(f"sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list") or str(processor)


def description() -> Dict[str, str]:
    """Processor, cores, threads and versions."""
    return {
        "processor": _processor(),
        "cores": str(usable_cores()),
        THREADS: os.environ.get(THREADS, "not set"),
        "versions": ", ".join(
            [f"{name} {version(name)}" for name in ("gluon_aff", "mxnet", "numpy", "pillow")]
            + [f"Python {platform.python_version()}"]
        ),
    }


def _processor() -> str:
    lines = read_text("proc/cpuinfo").splitlines()
    models = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(models)) or platform.machine()
