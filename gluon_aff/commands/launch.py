"""The command `launch`, which starts the processes of a distributed run."""

from __future__ import annotations

import argparse
from typing import Dict, List

from gluon_aff._platform import ENGINES, check_mxnet, check_torch_or_mxnet, engine_name
from gluon_aff.commands import Command, not_negative, positive
from gluon_aff.errors import InputError, NoEngineError

HOW = """
Every worker runs COMMAND, which needs --kvstore dist_sync (or dist_device_sync, which first sums
over the GPUs of a worker). In each step, every worker trains on one batch, and all of them end
with the same weights; worker 0 writes the files. --batch-size counts for each device, so the
number of workers is part of a recipe, like the number of GPUs. Workers on one machine share its
GPUs and cores; with PyTorch, each worker uses one GPU.

MXNet also needs servers, which sum the gradients of the workers, and a scheduler, which connects
the processes. Both are started here, run no code of COMMAND, and end with the workers. PyTorch's
workers need neither; COMMAND finds the variables of torchrun (RANK, WORLD_SIZE, MASTER_ADDR, ...).
If a process dies, a message says which, and the others are stopped. With --restarts, and with
--resume auto in COMMAND, all of them start again from the last checkpoint. After Ctrl-C or
SIGTERM, the workers finish their step and save a checkpoint; a second signal kills them.

For several machines, write hosts.txt with one host in each line, followed by slots=N if it takes
N workers:

    node-a                # worker 0 runs here and writes the files
    node-b slots=2

The machines must accept SSH without a password, and have the command, the data and this directory
under the same paths. Logs and weights are on the machine of worker 0; --resume needs a --save-dir
on a file system that all machines share. Use trusted networks only: the processes talk to each
other without encryption and without a password.
These environment variables are passed on: PATH, PYTHONPATH, LD_LIBRARY_PATH, OMP_NUM_THREADS,
DMLC_INTERFACE, and those that start with MXNET_, PS_, TORCH_, NCCL_, GLOO_ or GLUON_AFF_. To choose
a network interface, such as eth0, set DMLC_INTERFACE for MXNet, or GLOO_SOCKET_IFNAME and
NCCL_SOCKET_IFNAME for PyTorch.

exit code: 0 if all workers ended with 0, otherwise that of the first process that failed, or
128 + n if signal n ended it; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
"""


def _add_launch_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.usage = "%(prog)s -n WORKERS [-s SERVERS] [-H HOSTS] [--restarts K] [...] -- COMMAND ..."
    parser.epilog = f"{HOW}\n{parser.epilog}"
    parser.add_argument(
        "-n", "--workers", type=positive, required=True, metavar="WORKERS", help="number of workers to start"
    )
    parser.add_argument(
        "-s", "--servers", type=not_negative, metavar="SERVERS", help="number of MXNet's servers to start (default: "
        "one for each machine with MXNet; 0 with PyTorch, which needs neither servers nor a scheduler)"
    )  # fmt: skip
    parser.add_argument("-H", "--hosts", metavar="FILE", help="text file with the machines (default: only this one)")
    parser.add_argument(
        "--address", metavar="IP", help="IP address of the first machine (default: the address that its name has)"
    )
    parser.add_argument(
        "--port", type=_port, help="port of the first machine at which the workers connect (default: a free port)"
    )
    parser.add_argument(
        "--restarts", type=not_negative, default=0, metavar="K", help="start again up to K times after a failure "
        "(default: 0)"
    )  # fmt: skip
    parser.add_argument(
        "--grace", type=_seconds, default=120.0, metavar="SECONDS", help="seconds that workers have, after a signal, "
        "to finish their step and save (default: 120)"
    )  # fmt: skip
    parser.add_argument(
        "worker_command", nargs="+", metavar="COMMAND", help="command that each worker runs; write it after --"
    )


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
        raise InputError("--address needs -H: without -H, everything runs on this machine")
    used = set(place(options.workers, hosts))
    servers = options.servers
    if servers is None:
        servers = 0 if _engine_of(options.worker_command) == "torch" else len(used)
    if servers and not options.hosts:
        check_mxnet()  # a server is a process of MXNet
    elif options.servers is None and not options.hosts:
        check_torch_or_mxnet()
    if options.restarts and not any(word.partition("=")[0] == "--resume" for word in options.worker_command):
        say("COMMAND has no --resume auto, so a restart would begin from scratch")
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
    """Return the engine of a worker's command: from its --engine, the environment, or what works on this machine."""
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
        about="The first example runs on the CPU, as --gpus '' says.\n\n"
        "Engine: that of COMMAND, from its --engine or $GLUON_AFF_ENGINE; MXNet where it works, else PyTorch.",
    ),
}
