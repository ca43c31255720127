"""Set the number of threads with which MXNet computes, by variables that it reads when it is imported."""

from __future__ import annotations

import os

from gluon_aff.machine.resources import cpu_quota
from gluon_aff.machine.system_files import read_text

THREADS = "OMP_NUM_THREADS"
# Number of turns that a thread of libgomp waits for the others before it sleeps. The default is so high that a step
# takes ten times as long if another process uses one of the cores (docs/performance.md).
SPINS, FEW_SPINS = "GOMP_SPINCOUNT", "10000"
WAIT_POLICY = "OMP_WAIT_POLICY"


def use_all_cores() -> None:
    """Make MXNet use one thread for each core of this process, unless the user's environment says otherwise.

    By default, MXNet uses half of the processors that it sees, as if all were pairs of hyperthreads. This must be
    called before MXNet is imported.
    """
    os.environ.setdefault(THREADS, str(usable_cores()))
    if WAIT_POLICY not in os.environ:
        os.environ.setdefault(SPINS, FEW_SPINS)


def usable_cores() -> int:
    """Return the number of cores that this process may use at once.

    The hyperthreads of a core count once, and the limit of a container is taken into account.
    """
    # Only Linux tells which processors a process may use.
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = len({_core(processor) for processor in processors})
    return max(1, int(min(cores, cpu_quota() or cores)))


def _core(processor: int) -> str:
    """Return a name of the processor's core, which is the same for all hyperthreads of the core."""
    return read_text(f"sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list") or str(processor)
