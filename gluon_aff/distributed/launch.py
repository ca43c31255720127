"""Starting the processes of a distributed run, here or over SSH, and seeing that they end together.

A run has workers, which train. Under MXNet it has servers too, which sum what the workers send them, and a scheduler,
through which they find each other; these are MXNet processes that do nothing else. PyTorch's workers meet at worker 0
and sum among themselves. Every process runs under a `guard`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import queue
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, List, Optional, Sequence, Tuple, cast

from gluon_aff.errors import InputError
from gluon_aff.files import read_text
from gluon_aff.interpreter import LEAVE_OUT_CURRENT_FOLDER
from gluon_aff.printing import CONTROL_SEQUENCE, show

GUARD = str(Path(__file__).with_name("guard.py"))
# Importing MXNet serves until the workers are done. Its servers would unpickle, that is run, what anyone sends them.
SERVE = f"{LEAVE_OUT_CURRENT_FOLDER}; import pickle; pickle.loads = None; import mxnet"
LOOPBACK = "127.0.0.1"
LOCALHOST = "localhost"
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
SSH_FAILED = 255
# Variables that processes on other machines get too, by name or by how the name starts
PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "DMLC_INTERFACE")
PASSED_ON_PREFIXES = ("MXNET_", "PS_", "TORCH_", "NCCL_", "GLOO_", "GLUON_AFF_")

LARGEST_HOST_FILE = 1 << 20  # bytes of a file of hosts
USAGE_ERROR = 2
GRACE_SECONDS = 120.0  # to finish a step and to save
STOP_SECONDS = 10.0  # between SIGTERM and SIGKILL for those that wait for a process that is gone
SERVERS_STOP_SECONDS = 2.0
CUT_SECONDS = 5.0  # between SIGKILL and giving up on a machine that does not answer
LAST_LINES_SECONDS = 2.0
CUT = b"CUT"
STOPPED = (130, 137, 143)  # how processes end that are being stopped
LINE_LIMIT = 2**16
UNPRINTABLE = re.compile(CONTROL_SEQUENCE.pattern + rb"|[\x00-\x08\x0a-\x1f\x7f]|\xc2[\x80-\x9f]")


@dataclass(frozen=True)
class Machine:
    """A machine: its name for SSH, "localhost" for this one, and how many workers it takes."""

    name: str = LOCALHOST
    slots: int = 1


@dataclass(frozen=True)
class Job:
    """What to start.

    Attributes:
        command: of each worker.
        workers: how many.
        servers: how many; 0 starts no scheduler either, and tells the workers what torchrun would.
        hosts: where; the first ones are filled first.
        address: the first host's IP address, at which the others reach the scheduler, or worker 0.
        port: where they do; a free one if None.
        restarts: how often to start again after a failure.
        grace: seconds that workers have to end after SIGTERM.
        labelled: each line of a process begins with its name.
    """

    command: Sequence[str]
    workers: int
    servers: int
    hosts: Sequence[Machine]
    address: str
    port: Optional[int]
    restarts: int
    grace: float
    labelled: bool = True


@dataclass(frozen=True)
class PlannedProcess:
    """A process to start: its name in the output, where, in what environment, how many workers are there, and what."""

    label: str
    host: str
    environment: Dict[str, str]
    workers_there: int
    command: Sequence[str]


def read_hosts(path: str) -> List[Machine]:
    """Hosts of a file: a name a line, `slots=N` behind it for N workers, comments behind #.

    Raises:
        InputError: naming the file, and the line.
    """
    try:
        lines = read_text(path, LARGEST_HOST_FILE).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"-H {path} cannot be read ({error})") from None
    hosts = []
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        found = re.fullmatch(r"([^\s=-][^\s=]*)(?: slots=([1-9]\d{0,3}))?", " ".join(words))
        if not found or not found[1].isprintable():
            raise InputError(f"{path}, line {number}: {line.strip()!r} is not a host name, or a name and slots=N")
        hosts.append(Machine(found[1], int(found[2] or 1)))
    if not hosts:
        raise InputError(f"{path} names no host")
    return hosts


def first_address(hosts: Sequence[Machine], given: Optional[str]) -> str:
    """IP address at which all hosts reach the first one: the one `given`, or that of its name.

    Raises:
        InputError: if its name has none, or one that others cannot use.
    """
    name = hosts[0].name
    remedy = "give the first host's address on the network of the others with --address"
    if given is None and {host.name for host in hosts} == {LOCALHOST}:
        return LOOPBACK
    try:
        address = socket.gethostbyname(given or name)
    except (OSError, UnicodeError):
        raise InputError(f"{given or name} has no address here: {remedy}") from None
    if given is None and len(hosts) > 1 and ipaddress.ip_address(address).is_loopback:
        raise InputError(f"{name} is {address} here, which the other hosts cannot reach: {remedy}")
    return address


def place(workers: int, hosts: Sequence[Machine]) -> List[Machine]:
    """Machine of each worker, in order.

    Raises:
        InputError: if there are fewer slots.
    """
    slots = [host for host in hosts for _ in range(host.slots)]
    if len(slots) < workers:
        raise InputError(f"-n {workers}: the hosts have {len(slots)} slots; add hosts, or slots=N behind their names")
    return slots[:workers]


def plans(job: Job, port: int) -> List[PlannedProcess]:
    """The processes of a job: scheduler and servers, then workers."""
    places = place(job.workers, job.hosts)
    names = [host.name for host in places]  # a machine may stand on several lines, each with its slots
    used = list(dict.fromkeys(names))
    common = {
        "DMLC_PS_ROOT_URI": job.address,
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_WORKER": str(job.workers),
        "DMLC_NUM_SERVER": str(job.servers),
        "PYTHONUNBUFFERED": "1",
    }
    if ipaddress.ip_address(job.address).is_loopback:
        common["DMLC_NODE_HOST"] = job.address

    def plan(role: str, number: int, host: str, command: Sequence[str], own: Dict[str, str]) -> PlannedProcess:
        label = role if role == "scheduler" else f"{role} {number}"
        return PlannedProcess(label, host, {**common, "DMLC_ROLE": role, **own}, names.count(host), command)

    serve = (sys.executable, "-c", SERVE)
    processes = [plan("scheduler", 0, used[0], serve, {})] if job.servers else []
    processes += [plan("server", number, used[number % len(used)], serve, {}) for number in range(job.servers)]
    for number, host in enumerate(names):
        own = {
            "DMLC_WORKER_ID": str(number),
            "GLUON_AFF_LOCAL_RANK": str(names[:number].count(host)),
            "GLUON_AFF_LOCAL_SIZE": str(names.count(host)),
        }
        if not job.servers:
            own["RANK"], own["WORLD_SIZE"] = str(number), str(job.workers)
            own["LOCAL_RANK"], own["LOCAL_WORLD_SIZE"] = own["GLUON_AFF_LOCAL_RANK"], own["GLUON_AFF_LOCAL_SIZE"]
            own["MASTER_ADDR"], own["MASTER_PORT"] = job.address, str(port)
        processes.append(plan("worker", number, host, job.command, own))
    return processes


def guarded(plan: PlannedProcess, grace: float) -> Tuple[List[str], Dict[str, str]]:
    """Command line, and environment, that start the process of `plan` under its guard."""
    command = [sys.executable, "-I", GUARD, str(grace), str(plan.workers_there), *plan.command]
    if plan.host == LOCALHOST:
        return command, {**os.environ, **plan.environment}
    passed_on = {
        name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    assignments = [f"{name}={value}" for name, value in {**passed_on, **plan.environment}.items()]
    there = f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(['env', *assignments, *command])}"
    return [*SSH, plan.host, there], dict(os.environ)


def launch_here(command: Sequence[str], workers: int) -> int:
    """Run a command as that many workers of this machine, without servers; return the exit code.

    What they print is shown as if one process had printed it. A signal gives them two minutes to save.
    """
    here = [Machine(slots=workers)]
    return launch(Job(command, workers, 0, here, LOOPBACK, None, 0, GRACE_SECONDS, labelled=False))


def launch(job: Job) -> int:
    """Run a job until all its workers have ended; return 0 if they all did well.

    Otherwise the exit code of the first one that failed, 128 + n after signal n; 130, 143 or 129 if this process got
    SIGINT, SIGTERM or SIGHUP, which the workers get as SIGTERM; a second one kills them. What was wrong to begin with,
    exit code 2, is not started again.

    Raises:
        InputError: if other machines are named and there is no ssh, or they have too few slots.
    """
    if shutil.which(SSH[0]) is None and any(host.name != LOCALHOST for host in job.hosts):
        raise InputError("-H needs the program ssh, which is not installed here")
    events: queue.SimpleQueue = queue.SimpleQueue()
    with _signals_to(events):
        for restart in range(job.restarts + 1):
            run = _Run(plans(job, job.port or _free_port()), job.grace, events, job.labelled)
            code = run.wait()
            if code in (0, USAGE_ERROR) or run.interrupted or restart == job.restarts:
                break
            say(f"starting again ({restart + 1} of {job.restarts})")
    return code


@contextlib.contextmanager
def _signals_to(events: queue.SimpleQueue) -> Iterator[None]:
    """Put the numbers of the signals that arrive into `events`."""
    before = {
        number: signal.signal(number, lambda received, frame: events.put(received))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # as under nohup
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Process:
    """A process under way; puts itself into `events` once it has ended and its last lines are out."""

    def __init__(
        self, plan: PlannedProcess, grace: float, out: threading.Lock, events: queue.SimpleQueue, labelled: bool
    ) -> None:
        self.label = plan.label
        self.host = plan.host
        self.is_worker = plan.environment["DMLC_ROLE"] == "worker"
        command, environment = guarded(plan, grace)
        self._popen = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the launcher only
        )
        prefix = f"{plan.label} | ".encode() if labelled else b""
        self._readers = [
            threading.Thread(target=_pass_on, args=(source, sink.buffer, prefix, out), daemon=True)
            for source, sink in ((self._popen.stdout, sys.stdout), (self._popen.stderr, sys.stderr))
        ]
        for thread in (*self._readers, threading.Thread(target=self._wait, args=(events,), daemon=True)):
            thread.start()

    @property
    def code(self) -> int:
        """Exit code, once it has ended."""
        code = int(self._popen.returncode)
        return 128 - code if code < 0 else code

    def order(self, order: bytes) -> None:
        """Have the guard send a signal."""
        stdin = cast(BinaryIO, self._popen.stdin)
        with contextlib.suppress(BrokenPipeError):  # it is about to end
            stdin.write(order + b"\n")
            stdin.flush()

    def cut(self) -> None:
        """End the guard, or the connection to it."""
        self._popen.kill()

    def _wait(self, events: queue.SimpleQueue) -> None:
        self._popen.wait()
        for reader in self._readers:
            reader.join(LAST_LINES_SECONDS)
        events.put(self)


class _Run:
    """All processes of a job, once."""

    def __init__(
        self, processes: Sequence[PlannedProcess], grace: float, events: queue.SimpleQueue, labelled: bool
    ) -> None:
        self.interrupted: Optional[int] = None
        self._grace = grace
        self._events = events
        self._failure = 0
        self._orders: List[Tuple[float, bytes]] = []  # still to be given, and when
        self._started = time.monotonic()
        out = threading.Lock()
        self._running = [_Process(each, grace, out, events, labelled) for each in processes]

    def wait(self) -> int:
        """See all processes to their end; return the exit code."""
        while self._running:
            timeout = max(0.0, self._orders[0][0] - time.monotonic()) if self._orders else None
            try:
                event = self._events.get(timeout=timeout)
            except queue.Empty:
                self._give(self._orders.pop(0)[1])
                continue
            if isinstance(event, _Process):
                self._ended(event)
            else:
                self._interrupt(event)
        return self._failure if self.interrupted is None else 128 + self.interrupted

    def _workers(self) -> List[_Process]:
        return [process for process in self._running if process.is_worker]

    def _ended(self, process: _Process) -> None:
        self._running.remove(process)
        stopping = bool(self._orders)
        if process.code and (self._workers() or process.is_worker) and not self._failure:
            if not stopping or process.code not in STOPPED:
                self._failure = process.code
                say(f"{process.label} ended with {_described(process)} after {time.monotonic() - self._started:.0f} s")
            if not stopping and self._workers():
                say("stopping the others")
                self._stop(min(self._grace, STOP_SECONDS))
        if not self._workers():
            self._stop(SERVERS_STOP_SECONDS)

    def _interrupt(self, number: int) -> None:
        if self.interrupted is not None:
            self._orders = []
            self._stop(0.0)
        elif self._workers():
            self.interrupted = number
            if not self._orders:
                name = signal.Signals(number).name
                say(f"{name}: the workers have {self._grace:.0f} s to end; again to kill them")
                self._stop(self._grace)

    def _stop(self, grace: float) -> None:
        """End the workers, or, once they have ended, the others; those that have not in `grace` seconds, by force."""
        now = time.monotonic()
        self._orders = [(now, b"TERM"), (now + grace, b"KILL"), (now + grace + CUT_SECONDS, CUT)]

    def _give(self, order: bytes) -> None:
        if order == b"KILL" and self._workers():
            say(f"killing {', '.join(process.label for process in self._workers())}")
        for process in (self._workers() or self._running) if order == b"TERM" else self._running:
            if order == CUT:
                process.cut()
            else:
                process.order(order)


def _described(process: _Process) -> str:
    """The exit code of a process, and what it means."""
    code = process.code
    if code == SSH_FAILED and process.host != LOCALHOST:
        return f"exit code {code}: does `ssh {process.host} true` work without a password?"
    try:
        return f"exit code {code} ({signal.Signals(code - 128).name})"
    except ValueError:
        return f"exit code {code}"


def _pass_on(source: BinaryIO, sink: BinaryIO, prefix: bytes, out: threading.Lock) -> None:
    """Write the lines of `source` to `sink`, each whole and behind `prefix`."""
    for line in _lines(source.fileno()):
        with out, contextlib.suppress(OSError, ValueError):  # nobody may be reading any more; the run goes on
            sink.write(prefix + line + b"\n")
            sink.flush()


def _lines(source: int) -> Iterator[bytes]:
    """Lines that can be read from a file descriptor, as a terminal would show them in the end."""
    rest = b""
    while True:
        data = os.read(source, LINE_LIMIT)
        *lines, rest = (rest + data).split(b"\n")
        if rest and (not data or len(rest) > LINE_LIMIT):  # the last one, or one of a progress bar without an end
            lines.append(rest)
            rest = b""
        for line in lines:
            # What follows a carriage return is written over what is before it.
            yield UNPRINTABLE.sub(b"", line.rstrip(b"\r").rpartition(b"\r")[2])
        if not data:
            return


def say(text: str) -> None:
    """Tell the user, between the processes' lines."""
    show(f"gluon-aff launch: {text}", file=sys.stderr, flush=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])
