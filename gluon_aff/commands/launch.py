"""The command that starts the processes of a distributed run."""

from __future__ import annotations

import argparse
from typing import Dict, List

from gluon_aff._platform import ENGINES, check_mxnet, check_torch_or_mxnet, engine_name
from gluon_aff.commands import Command, not_negative, positive
from gluon_aff.errors import InputError, NoEngineError

HOW = """
Every worker runs COMMAND, which needs --kvstore dist_sync (or dist_device_sync, which sums over
the GPUs of a worker on them first). Each step takes one batch on each worker, and all end with
the same weights; worker 0 writes them. --batch-size counts per device, so the number of workers
is part of a recipe, like the number of GPUs. Several workers on one machine share its GPUs and
its cores; under PyTorch each has one GPU.

MXNet has servers, which sum what the workers send, and a scheduler, which brings them together.
Both are started here, run no code of COMMAND, and end with the workers. PyTorch's workers sum
among themselves; COMMAND finds torchrun's variables (RANK, WORLD_SIZE, MASTER_ADDR, ...). If a
process dies, the others are stopped, and it is said which: with --restarts, and --resume auto in
COMMAND, all start again from the last checkpoint. Ctrl-C or SIGTERM lets the workers finish their
step and save; a second one kills them.

On several machines, hosts.txt has a host a line, and slots=N behind those that take N workers:

    node-a                # worker 0 runs here, and writes
    node-b slots=2

They are reached by SSH without a password, and have the command, the data and this directory
under the same paths; worker 0's machine keeps logs and weights, and --resume needs --save-dir on
a file system that all share. Only trusted networks: nothing that the processes send each other is
encrypted, or asks for a password.
Variables that start with MXNET_, PS_, TORCH_, NCCL_, GLOO_ or GLUON_AFF_, PATH, PYTHONPATH,
LD_LIBRARY_PATH, OMP_NUM_THREADS and DMLC_INTERFACE (the network interface of MXNet's workers,
such as eth0; PyTorch's have GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME) are passed on.

exit code: 0 if all workers ended with 0; otherwise the first failing process's, 128 + n after
signal n; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
"""


def _add_launch_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.usage = "%(prog)s -n WORKERS [-s SERVERS] [-H HOSTS] [--restarts K] [...] -- COMMAND ..."
    parser.epilog = f"{HOW}\n{parser.epilog}"
    parser.add_argument("-n", "--workers", type=positive, required=True, metavar="WORKERS", help="workers to start")
    parser.add_argument(
        "-s", "--servers", type=not_negative, metavar="SERVERS", help="MXNet's servers to start (default: one a "
        "machine; with --engine torch in COMMAND, or where PyTorch is the engine, 0: neither servers nor a scheduler)"
    )  # fmt: skip
    parser.add_argument("-H", "--hosts", metavar="FILE", help="file of machines (default: this one)")
    parser.add_argument("--address", metavar="IP", help="of the first machine (default: its name's)")
    parser.add_argument(
        "--port", type=_port, help="where the workers meet, on the first machine (default: a free one here)"
    )
    parser.add_argument(
        "--restarts", type=not_negative, default=0, metavar="K", help="start again up to K times after a failure "
        "(default: 0)"
    )  # fmt: skip
    parser.add_argument(
        "--grace", type=_seconds, default=120.0, metavar="SECONDS", help="time to finish a step and to save, once "
        "asked to end (default: 120)"
    )  # fmt: skip
    parser.add_argument("worker_command", nargs="+", metavar="COMMAND", help="what each worker runs, behind --")


def _port(text: str) -> int:
    number = int(text)
    if not 0 < number < 2**16:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 10**6:
        raise ValueError
    return seconds


def _launch(options: argparse.Namespace) -> int:
    from gluon_aff.distributed.launch import Job, Machine, first_address, launch, place, read_hosts, say

    hosts = read_hosts(options.hosts) if options.hosts else [Machine(slots=options.workers)]
    if options.address and not options.hosts:
        raise InputError("--address goes with -H: without it, all runs on this machine")
    used = set(place(options.workers, hosts))
    servers = options.servers
    if servers is None:
        servers = 0 if _engine_of(options.worker_command) == "torch" else len(used)
    if servers and not options.hosts:
        check_mxnet()  # it is what a server is
    elif options.servers is None and not options.hosts:
        check_torch_or_mxnet()
    if options.restarts and not any(word.partition("=")[0] == "--resume" for word in options.worker_command):
        say("COMMAND has no --resume auto, so a restart would begin anew")
    return launch(
        Job(
            options.worker_command,
            options.workers,
            servers,
            hosts,
            first_address(hosts, options.address),
            options.port,
            options.restarts,
            options.grace,
        )
    )


def _engine_of(command: List[str]) -> str:
    """The engine that a worker's command takes: its --engine, the environment's, or the one that there is."""
    words = [part for word in command for part in word.split("=", 1)]
    named = words[words.index("--engine") + 1 :][:1] if "--engine" in words else []
    name = named[0] if named else engine_name()
    if name in ENGINES:
        return name
    try:
        check_mxnet()
    except NoEngineError:
        return "torch"
    return "mxnet"


COMMANDS: Dict[str, Command] = {
    "launch": Command(
        "start a training command on several workers, here or on several machines",
        _add_launch_options,
        _launch,
        (
            "-n 2 -- gluon-aff train-cifar --kvstore dist_sync --model resnet --blocks 1 --gpus ''",
            "-n 2 -H hosts.txt --restarts 10 -- gluon-aff train-imagenet --kvstore dist_device_sync --resume auto",
        ),
        engines=ENGINES,
    ),
}
