"""Run one process of a launch on its machine, and make sure that it ends: `guard.py GRACE WORKERS COMMAND...`.

The launcher's orders, TERM and KILL, arrive on standard input, one per line. Standard input closes when the launcher
ends for any reason, or when the connection to another machine breaks; then the process and all that it started are
ended, too. This file is run as a script with Python 3.8 or newer. From the package, installed or not, it imports only
the module that counts cores.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO, List

if __name__ == "__main__":  # python -I ignores PYTHONPATH and the current folder
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from gluon_aff.machine.threads import usable_cores

PR_SET_PDEATHSIG = 1
NOT_EXECUTABLE = 126
ALSO_SIGNALLED = 0.3  # seconds to wait for a signal that was sent to all processes and reached the launcher first
NOT_FOUND = 127


def guard(grace: float, workers: int, command: List[str]) -> int:
    """Run `command` until it ends or is ended, and return its exit code, which is 128 + n after signal n.

    Args:
        grace: seconds between SIGTERM and SIGKILL if the launcher is gone.
        workers: number of workers that share this machine's cores.
        command: program and arguments; DMLC_ROLE in the environment is the role of the process.
    """
    is_worker = os.environ.get("DMLC_ROLE") == "worker"
    if "OMP_NUM_THREADS" not in os.environ:
        cores = usable_cores()
        os.environ["OMP_NUM_THREADS"] = str(max(1, cores // workers))
        if is_worker:
            _say(f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} ({cores} cores, {workers} workers)")
    libc = ctypes.CDLL(None)
    signalled = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signalled.set())
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # in case this process is killed
        )
    except OSError as error:
        _say(f"{command[0]} cannot be started: {error.strerror}")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    orders = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115
    threading.Thread(target=_obey, args=(process.pid, orders, grace, is_worker, signalled), daemon=True).start()
    code = process.wait()
    _signal(process.pid, signal.SIGKILL)  # end what the process has started and left running
    return 128 - code if code < 0 else code


def _obey(group: int, orders: BinaryIO, grace: float, is_worker: bool, signalled: threading.Event) -> None:
    for order in orders:
        if order.strip() == b"KILL":
            _signal(group, signal.SIGKILL)
        elif not signalled.wait(ALSO_SIGNALLED):  # systemd or Slurm would have signalled the group as well
            _signal(group, signal.SIGTERM)
    if is_worker and not signalled.is_set():  # servers are needed until the workers have ended
        _signal(group, signal.SIGTERM)
    time.sleep(grace)
    _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    os._exit(guard(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
