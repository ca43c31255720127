"""Start the processes of a distributed run, on this machine or over SSH, and make sure that they end together.

The workers of a run train. Under MXNet, a run also has servers, which sum what the workers send them, and a scheduler,
through which all find each other; these are MXNet processes that do nothing else. PyTorch's workers meet at worker 0
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
# Importing MXNet in these roles serves until the workers have ended. Its servers would unpickle, and thereby execute,
# whatever anyone sends them.
SERVE = f"{LEAVE_OUT_CURRENT_FOLDER}; import pickle; pickle.loads = None; import mxnet"
LOOPBACK = "127.0.0.1"
LOCALHOST = "localhost"
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
SSH_FAILED = 255
# Environment variables that are passed on to other machines, by their names or by the beginnings of their names
PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "DMLC_INTERFACE")
PASSED_ON_PREFIXES = ("MXNET_", "PS_", "TORCH_", "NCCL_", "GLOO_", "GLUON_AFF_")

LARGEST_HOST_FILE = 1 << 20  # bytes
USAGE_ERROR = 2
GRACE_SECONDS = 120.0  # for workers to finish a step and to save
STOP_SECONDS = 10.0  # between SIGTERM and SIGKILL for processes that wait for one that has ended
SERVERS_STOP_SECONDS = 2.0
CUT_SECONDS = 5.0  # between SIGKILL and closing the connection to a machine that does not answer
LAST_LINES_SECONDS = 2.0
CUT = b"CUT"
STOPPED = (130, 137, 143)  # exit codes of processes that are being stopped
LINE_LIMIT = 2**16
UNPRINTABLE = re.compile(CONTROL_SEQUENCE.pattern + rb"|[\x00-\x08\x0a-\x1f\x7f]|\xc2[\x80-\x9f]")


@dataclass(frozen=True)
class Machine:
    """A machine: its name for SSH, or "localhost" for this one, and the number of workers that it takes."""

    name: str = LOCALHOST
    slots: int = 1


@dataclass(frozen=True)
class Job:
    """A distributed run to start.

    Attributes:
        command: command line of each worker.
        workers: number of workers.
        servers: number of servers; 0 also starts no scheduler, and gives the workers the variables of torchrun.
        hosts: machines to use; the first ones are filled first.
        address: IP address of the first host, at which the others reach the scheduler or worker 0.
        port: port at that address; None takes a free one.
        restarts: how often to start again after a failure.
        grace: seconds that workers have to end after SIGTERM.
        labelled: whether each line of output begins with the name of its process.
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
    """A process to start.

    Attributes:
        label: name of the process in the output, such as `worker 0`.
        host: name of its machine.
        environment: environment variables that it gets in addition.
        workers_there: number of workers on that machine.
        command: program and arguments.
    """

    label: str
    host: str
    environment: Dict[str, str]
    workers_there: int
    command: Sequence[str]


def read_hosts(path: str) -> List[Machine]:
    """Read a file of hosts: one name per line, optionally followed by `slots=N` for N workers; # begins a comment.

    Raises:
        InputError: the file cannot be read, names no host, or has an invalid line, which the message names.
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
    """Return the IP address at which all hosts reach the first one: the one `given`, or that of its name.

    Raises:
        InputError: the name has no address, or one that other machines cannot reach.
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
    """Return the machine of each worker, in the order of the workers.

    Raises:
        InputError: the hosts have fewer slots than there are workers.
    """
    slots = [host for host in hosts for _ in range(host.slots)]
    if len(slots) < workers:
        raise InputError(f"-n {workers}: the hosts have {len(slots)} slots; add hosts, or slots=N after their names")
    return slots[:workers]


def plans(job: Job, port: int) -> List[PlannedProcess]:
    """Plan the processes of a job: the scheduler and the servers, then the workers."""
    places = place(job.workers, job.hosts)
    names = [host.name for host in places]  # a machine may have several lines, each with its slots
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
    """Return the command line and the environment that start a planned process under its guard."""
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
    """Run a command in several workers on this machine, without servers, and return the exit code.

    Their output is shown as if one process had printed it. A signal gives them two minutes to save.
    """
    here = [Machine(slots=workers)]
    return launch(Job(command, workers, 0, here, LOOPBACK, None, 0, GRACE_SECONDS, labelled=False))


def launch(job: Job) -> int:
    """Run a job until all its workers have ended, and return the exit code.

    A signal to this process, SIGINT, SIGTERM or SIGHUP, is passed on to the workers as SIGTERM; a second one kills
    them. After a failure the job is started again as often as it says, except after exit code 2, which means that the
    command line or the data is wrong.

    Returns:
        0 if all workers succeeded, otherwise the exit code of the first that failed, which is 128 + n after signal n;
        130, 143 or 129 if this process received SIGINT, SIGTERM or SIGHUP.

    Raises:
        InputError: other machines are named and ssh is not installed, or the machines have too few slots.
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
    """Put the number of each signal that arrives into `events`."""
    before = {
        number: signal.signal(number, lambda received, frame: events.put(received))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # for example under nohup
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Process:
    """A running process, which puts itself into `events` after it has ended and its last lines have been printed."""

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
            start_new_session=True,  # so that Ctrl-C reaches the launcher only
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
        """Return the exit code of the process, which must have ended."""
        code = int(self._popen.returncode)
        return 128 - code if code < 0 else code

    def order(self, order: bytes) -> None:
        """Order the guard to send a signal: TERM or KILL."""
        stdin = cast(BinaryIO, self._popen.stdin)
        with contextlib.suppress(BrokenPipeError):  # the guard is ending
            stdin.write(order + b"\n")
            stdin.flush()

    def cut(self) -> None:
        """Kill the guard, or the connection to it."""
        self._popen.kill()

    def _wait(self, events: queue.SimpleQueue) -> None:
        self._popen.wait()
        for reader in self._readers:
            reader.join(LAST_LINES_SECONDS)
        events.put(self)


class _Run:
    """All processes of one start of a job."""

    def __init__(
        self, processes: Sequence[PlannedProcess], grace: float, events: queue.SimpleQueue, labelled: bool
    ) -> None:
        self.interrupted: Optional[int] = None
        self._grace = grace
        self._events = events
        self._failure = 0
        self._orders: List[Tuple[float, bytes]] = []  # orders that are still to be given, with their times
        self._started = time.monotonic()
        out = threading.Lock()
        self._running = [_Process(each, grace, out, events, labelled) for each in processes]

    def wait(self) -> int:
        """Wait until all processes have ended, and return the exit code."""
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
                say(f"{name}: the workers have {self._grace:.0f} s to end; a second signal kills them")
                self._stop(self._grace)

    def _stop(self, grace: float) -> None:
        """End the workers or, after them, the other processes; kill those that are left after `grace` seconds."""
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
    """Return a text with the exit code of a process and what it means."""
    code = process.code
    if code == SSH_FAILED and process.host != LOCALHOST:
        return f"exit code {code}: does `ssh {process.host} true` work without a password?"
    try:
        return f"exit code {code} ({signal.Signals(code - 128).name})"
    except ValueError:
        return f"exit code {code}"


def _pass_on(source: BinaryIO, sink: BinaryIO, prefix: bytes, out: threading.Lock) -> None:
    """Write the lines of `source` to `sink`, each in one piece and after `prefix`."""
    for line in _lines(source.fileno()):
        with out, contextlib.suppress(OSError, ValueError):  # the run continues even if nobody reads its output
            sink.write(prefix + line + b"\n")
            sink.flush()


def _lines(source: int) -> Iterator[bytes]:
    """Yield the lines of a file descriptor as a terminal would finally show them."""
    rest = b""
    while True:
        data = os.read(source, LINE_LIMIT)
        *lines, rest = (rest + data).split(b"\n")
        if rest and (not data or len(rest) > LINE_LIMIT):  # the last line, or an endless one of a progress bar
            lines.append(rest)
            rest = b""
        for line in lines:
            # Text after a carriage return overwrites the text before it.
            yield UNPRINTABLE.sub(b"", line.rstrip(b"\r").rpartition(b"\r")[2])
        if not data:
            return


def say(text: str) -> None:
    """Print a message of the launcher between the lines of the processes."""
    show(f"gluon-aff launch: {text}", file=sys.stderr, flush=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])
