"""Threads that MXNet computes with. No MXNet here: it reads the variables as it is imported."""

from __future__ import annotations

import os

from gluon_aff.machine.resources import cpu_quota
from gluon_aff.machine.system_files import read_text

THREADS = "OMP_NUM_THREADS"
# Turns that a thread of libgomp waits for the others before it sleeps. On its own it waits so long that a core which
# another process has taken makes a step ten times as slow (docs/performance.md).
SPINS, FEW_SPINS = "GOMP_SPINCOUNT", "10000"
WAIT_POLICY = "OMP_WAIT_POLICY"


def use_all_cores() -> None:
    """Have MXNet, when it is imported, use a thread for each core of this process, unless the user says otherwise.

    On its own it takes half of the processors it sees, as if they were hyperthreads in pairs, also where they are not.
    """
    os.environ.setdefault(THREADS, str(usable_cores()))
    if WAIT_POLICY not in os.environ:
        os.environ.setdefault(SPINS, FEW_SPINS)


def usable_cores() -> int:
    """Cores that this process may use at once: the hyperthreads of one count once, and a container's limit counts."""
    # Only Linux tells which processors a process may use.
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = len({_core(processor) for processor in processors})
    return max(1, int(min(cores, cpu_quota() or cores)))


def _core(processor: int) -> str:
    """Name that the hyperthreads of a core share."""
    return read_text(f"sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list") or str(processor)
