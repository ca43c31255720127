"""Check the machine's resources, which are cores, memory and disk space, and the environment variables."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Iterator, Optional

from gluon_aff._platform import check_variables
from gluon_aff.errors import InputError
from gluon_aff.machine.findings import Finding, mend, note, ok
from gluon_aff.machine.system_files import read_text

MIB, GIB = 2**20, 2**30
MEMORY = 4 * GIB
LITTLE_DISK, ENOUGH_DISK = GIB // 2, 5 * GIB


def check_threads() -> Finding:
    """Check that MXNet does not use more threads than this process has cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    total = os.cpu_count() or cores
    said = f"{cores} core{'s' * (cores != 1)}" + (f" of {total}" if total != cores else "")
    quota = cpu_quota()
    if quota is not None and quota < cores:
        said += f", and the container is limited to {quota:g}"
    threads = os.environ.get("OMP_NUM_THREADS", "")
    said += f"; OMP_NUM_THREADS={threads}" if threads else ""
    usable = max(1, int(min(cores, quota or cores)))
    wanted = int(threads) if re.fullmatch("[0-9]{1,9}", threads) else cores  # others, such as 2,1, are for levels
    if wanted > usable:
        return note("threads", f"{said}: more threads than can run at once", f"export OMP_NUM_THREADS={usable}")
    return ok("threads", said)


def check_settings() -> Finding:
    """Check the environment variables that MXNet reads."""
    try:
        check_variables()
    except InputError as error:
        return mend("settings", str(error), "correct or unset it: MXNet would end the process")
    found = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("MXNET_")]
    if os.environ.get("MXNET_ENGINE_TYPE") == "NaiveEngine":
        return note("settings", f"{', '.join(found)}: NaiveEngine is slow, for debugging", "unset MXNET_ENGINE_TYPE")
    return ok("settings", ", ".join(found) or "no MXNET_* variable is set")


def check_memory() -> Finding:
    """Check that enough memory is free for a run."""
    lines = dict(line.split(":", 1) for line in read_text("proc/meminfo").splitlines())
    total, available = (1024 * int(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    limit = memory_limit()
    said = f"{gib(available)} of {gib(total)} are free"
    if limit is not None and limit < total:
        said += f", of which the container may use {gib(limit)}"
        available = min(available, limit)
    if available < MEMORY:
        return note("memory", f"{said}; AFF-ResNet-32 at 128 images per step takes 3.6 GiB", "a smaller --batch-size")
    return ok("memory", said)


def check_disk() -> Finding:
    """Check that the working directory, where runs write, is writable and has enough space."""
    folder = os.getcwd()
    free = shutil.disk_usage(folder).free
    said = f"{gib(free)} are free in {folder}"
    if not os.access(folder, os.W_OK):
        return mend("disk", f"{folder} cannot be written to", "change into a directory of your own")
    if free < LITTLE_DISK:
        return mend("disk", said, "make room, or change into a directory with more")
    if free < ENOUGH_DISK:
        return note(
            "disk",
            f"{said}; weights are written at each new best: 32 MB for CIFAR, 114 MB or more for ImageNet",
            "--keep-one-best keeps only the last",
        )
    return ok("disk", said)


def cpu_quota() -> Optional[float]:
    """Return the number of cores to which control groups limit this process; None if there is no limit."""
    pairs = [read_text(f"{folder}/cpu.max").split() for folder in _groups("")]
    pairs += [[read_text(f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period")] for folder in _groups("cpu")]
    limits = [pair for pair in pairs if len(pair) == 2 and all(number.isdigit() for number in pair)]
    return min((int(quota) / int(period) for quota, period in limits), default=None)


def memory_limit() -> Optional[int]:
    """Return the number of bytes to which control groups limit this process; None if there is no limit."""
    texts = [read_text(f"{folder}/memory.max") for folder in _groups("")]
    texts += [read_text(f"{folder}/memory.limit_in_bytes") for folder in _groups("memory")]
    return min((int(text) for text in texts if text.isdigit()), default=None)


def peak_memory() -> float:
    """Return the most memory that this process has held so far, in MiB.

    Raises:
        InputError: this system does not provide the figure.
    """
    # getrusage would include memory that the parent held when it started this process.
    lines = [line for line in read_text("proc/self/status").splitlines() if line.startswith("VmHWM")]
    if not lines:
        raise InputError("this system does not report the peak memory of a process (/proc/self/status): use Linux")
    return int(lines[0].split()[1]) * 1024 / MIB


def gib(size: int) -> str:
    """Format a size in bytes, such as `1.5 GiB`."""
    return f"{size / GIB:.1f} GiB"


def _groups(controller: str) -> Iterator[str]:
    """Yield the folders of this process's control group and of all groups that contain it.

    An empty `controller` stands for the unified hierarchy.
    """
    for line in read_text("proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controller in controllers.split(","):
            for part in (group, *map(str, Path(group).parents)):
                yield os.path.join("sys/fs/cgroup", controller, part.lstrip("/"))
