"""Cores, memory and disk space, of this machine and of others in containers."""

import os
import shutil
import subprocess
import sys

import pytest

from gluon_aff.errors import InputError
from gluon_aff.machine import resources
from gluon_aff.machine.findings import MEND, NOTE, OK
from gluon_aff.machine.resources import (
    check_disk,
    check_memory,
    check_settings,
    check_threads,
    cpu_quota,
    memory_limit,
    peak_memory,
)

GIB = 2**30


@pytest.fixture
def cores(monkeypatch):
    """Function that sets how many of how many cores this process may use, and OMP_NUM_THREADS."""

    def set_up(usable, total, threads=None):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(usable)))
        monkeypatch.setattr(os, "cpu_count", lambda: total)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if threads is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", threads)

    return set_up


@pytest.mark.parametrize(
    ("usable", "total", "threads", "state", "message"),
    [
        (4, 4, None, OK, "4 cores"),
        (1, 8, None, OK, "1 core of 8"),
        (4, 8, "4", OK, "4 cores of 8; OMP_NUM_THREADS=4"),
        (4, 4, "8", NOTE, "4 cores; OMP_NUM_THREADS=8: more threads than can run at once"),
        (4, 4, "2,1", OK, "4 cores; OMP_NUM_THREADS=2,1"),
        (4, 4, "²", OK, "4 cores; OMP_NUM_THREADS=²"),  # a digit that is no number
        (4, 4, "1" * 5000, OK, f"4 cores; OMP_NUM_THREADS={'1' * 5000}"),  # Python makes no number of so many
    ],
)
def test_threads(cores, system, usable, total, threads, state, message):
    cores(usable, total, threads)
    finding = check_threads()
    assert (finding.state, finding.message) == (state, message)


def test_a_container_with_less_time_than_cores(cores, system):
    system("proc/self/cgroup", "0::/")
    system("sys/fs/cgroup/cpu.max", "150000 100000\n")
    cores(8, 8)
    finding = check_threads()
    assert (finding.state, finding.remedy) == (NOTE, "export OMP_NUM_THREADS=1")
    assert "8 cores, and the container is limited to 1.5" in finding.message
    cores(8, 8, "1")
    assert check_threads().state == OK


def test_limits_of_the_unified_hierarchy(system):
    system("proc/self/cgroup", "0::/user.slice/job.scope\n")
    system("sys/fs/cgroup/user.slice/job.scope/cpu.max", "max 100000")
    system("sys/fs/cgroup/user.slice/cpu.max", "400000 100000")
    system("sys/fs/cgroup/user.slice/job.scope/memory.max", f"{6 * GIB}")
    system("sys/fs/cgroup/user.slice/memory.max", "max")
    assert (cpu_quota(), memory_limit()) == (4.0, 6 * GIB)


@pytest.mark.parametrize("tight", ["user.slice/job.scope", "user.slice", ""])
def test_the_tightest_of_nested_groups_counts(tight, system):
    """A process gets what each group around it leaves it, whichever is the tightest (cgroups(7))."""
    system("proc/self/cgroup", "0::/user.slice/job.scope\n")
    for folder in ("user.slice/job.scope", "user.slice", ""):
        system(f"sys/fs/cgroup/{folder}/cpu.max", "150000 100000" if folder == tight else "800000 100000")
        system(f"sys/fs/cgroup/{folder}/memory.max", str((3 if folder == tight else 16) * GIB))
    assert (cpu_quota(), memory_limit()) == (1.5, 3 * GIB)


def test_limits_of_version_1(system):
    system("proc/self/cgroup", "12:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/docker/abc\n")
    system("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000")
    system("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    system("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", f"{2 * GIB}")
    system("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    assert (cpu_quota(), memory_limit()) == (0.5, 2 * GIB)


def test_no_limits(system):
    assert (cpu_quota(), memory_limit()) == (None, None)
    system("proc/self/cgroup", "4:cpu:/\n0::/")
    system("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1")
    system("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    assert (cpu_quota(), memory_limit()) == (None, None)


@pytest.mark.parametrize(
    ("available", "limit", "state", "message"),
    [
        (20, None, OK, "20.0 GiB of 32.0 GiB are free"),
        (20, 8, OK, "20.0 GiB of 32.0 GiB are free, of which the container may use 8.0 GiB"),
        (20, 2, NOTE, "20.0 GiB of 32.0 GiB are free, of which the container may use 2.0 GiB; AFF-ResNet-32"),
        (3, None, NOTE, "3.0 GiB of 32.0 GiB are free; AFF-ResNet-32"),
    ],
)
def test_memory(system, available, limit, state, message):
    system("proc/meminfo", f"MemTotal: {32 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {available * 2**20} kB\n")
    system("proc/self/cgroup", "0::/")
    if limit:
        system("sys/fs/cgroup/memory.max", str(limit * GIB))
    finding = check_memory()
    assert finding.state == state
    assert finding.message.startswith(message)


def test_this_machine():
    for check in (check_threads, check_memory):
        assert check().state in (OK, NOTE)


@pytest.mark.parametrize(("free", "state"), [(100, OK), (2, NOTE), (0.3, MEND)])
def test_disk(monkeypatch, tmp_path, free, state):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, int(free * GIB)))
    finding = check_disk()
    assert finding.state == state
    assert f"{free:.1f} GiB are free in {tmp_path}" in finding.message


def test_directory_that_cannot_be_written_to(monkeypatch):
    monkeypatch.setattr(resources.os, "access", lambda *_: False)
    assert check_disk().state == MEND


def test_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MXNET_")]:
        monkeypatch.delenv(name)
    assert check_settings().message == "no MXNET_* variable is set"
    monkeypatch.setenv("MXNET_SAFE_ACCUMULATION", "1")
    assert (check_settings().state, check_settings().message) == (OK, "MXNET_SAFE_ACCUMULATION=1")
    monkeypatch.setenv("MXNET_ENGINE_TYPE", "NaiveEngine")
    finding = check_settings()
    assert (finding.state, finding.remedy) == (NOTE, "unset MXNET_ENGINE_TYPE")


def test_peak_is_of_this_process_and_not_of_its_parent():
    """These 200 MiB are in this process, and not in the child, which getrusage would count them for."""
    held = bytearray(b"x") * (200 * 2**20)
    code = "from gluon_aff.machine.resources import peak_memory; print(peak_memory())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 5 < float(child.stdout) < peak_memory() - 150
    assert len(held) == 200 * 2**20


def test_a_system_that_does_not_tell_the_peak(system):
    with pytest.raises(InputError, match=r"this system does not report the peak memory of a process .*: use Linux"):
        peak_memory()
