"""A training run small enough for tests, alone or as a worker: `small_run.py KVSTORE FOLDER [OPTION=VALUE...]`.

Options: tell=1 (write what the workers tell each other), kill=STEP (worker 1 kills itself before this step, once),
raise=RANK (this worker finds its input wrong), pause=SECONDS (before each step), steps=NUMBER. Writes FOLDER/RANK.npz:
parameters, momentum and figures; worker 0 also FOLDER/checkpoint.npz after each step, from which the next run goes on.
"""

import contextlib
import os
import pickle
import signal
import sys
import time
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn

from gluon_aff.errors import InputError
from gluon_aff.gluon.cluster import average_running_statistics, join_cluster, make_trainer

GLOBAL_BATCH = 16
STEPS = 12
SET_OPTIMIZER = 0  # MXNet's number of the command whose text its servers unpickle


def images_of(step):
    """The global batch of a step: images and labels."""
    draw = np.random.default_rng(step)
    return draw.normal(size=(GLOBAL_BATCH, 3, 8, 8)).astype("float32"), draw.integers(0, 4, GLOBAL_BATCH)


def network(contexts, seed):
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(
            nn.Conv2D(16, 3, in_channels=3, activation="relu"),
            nn.Conv2D(32, 3, in_channels=16, activation="relu"),  # wide enough for oneDNN's own layouts
            nn.Dense(4, in_units=512),
        )
    mx.random.seed(seed)
    net.initialize(mx.init.Xavier(), ctx=contexts)
    return net


def step(net, trainer, cluster, contexts, number, stop):
    """One update; losses summed over the workers, and how many of them want to stop."""
    batch = [array[cluster.rank :: cluster.size] for array in images_of(number)]
    losses = []
    with autograd.record():
        for x, y in zip(*(gluon.utils.split_and_load(mx.nd.array(each), contexts, even_split=False) for each in batch)):
            losses.append(gluon.loss.SoftmaxCrossEntropyLoss()(net(x), y))
    autograd.backward(losses)
    trainer.step(GLOBAL_BATCH)
    loss = sum(each.sum().as_in_context(mx.cpu()) for each in losses)
    return cluster.total(mx.nd.concat(loss, mx.nd.array([float(stop)]), dim=0))


def momenta(trainer):
    return [trainer._updaters[0].states[key] for key in sorted(trainer._updaters[0].states)]


def save(path, net, trainer, steps):
    arrays = [each._reduce().asnumpy() for each in trainer._params] + [each.asnumpy() for each in momenta(trainer)]
    with open(f"{path}.partial", "wb") as file:
        np.savez(file, np.array(steps), *arrays)
    os.replace(f"{path}.partial", path)


def resumed(path, net, cluster):
    """Steps done, arrays of the checkpoint, those that worker 0 has."""
    steps = np.array(0)
    arrays = []
    if cluster.rank == 0 and path.exists():
        with np.load(path) as file:
            steps, *arrays = (file[name] for name in file.files)
    steps = int(cluster.broadcast(steps))
    if not steps:
        return 0, []
    parameters = [each.data(each.list_ctx()[0]) for _, each in sorted(net.collect_params().items())]
    templates = [each.asnumpy() for each in parameters] * 2
    return steps, [cluster.broadcast(array) for array in (arrays or templates)]


def train(cluster, folder, options):
    contexts = [mx.cpu(0)] if isinstance(cluster.kvstore, str) else [mx.cpu(0), mx.cpu(1)]
    net = network(contexts, seed=7 + cluster.rank)
    checkpoint = folder / "checkpoint.npz"
    done, arrays = resumed(checkpoint, net, cluster)
    parameters = [each for _, each in sorted(net.collect_params().items())]
    for parameter, value in zip(parameters, arrays):
        parameter.set_data(value)
    schedule = mx.lr_scheduler.FactorScheduler(4, 0.5, base_lr=0.2)
    trainer = make_trainer(
        net.collect_params(), "nag", {"momentum": 0.9, "wd": 1e-3, "lr_scheduler": schedule}, cluster
    )
    if done:
        for updater, context in zip(trainer._updaters, contexts):
            states = arrays[len(parameters) :]
            updater.states = {key: mx.nd.array(state, ctx=context) for key, state in enumerate(states)}
            updater.states_synced = dict.fromkeys(updater.states, True)
        trainer.optimizer.begin_num_update = done
        trainer.optimizer.num_update = done
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    figures, started, already = [], time.monotonic(), folder / "killed"
    for number in range(done, int(options.get("steps", STEPS))):
        if cluster.rank == 1 and number == int(options.get("kill", -1)) and not already.exists():
            already.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "pause" in options:
            time.sleep(float(options["pause"]))
        figures.append(step(net, trainer, cluster, contexts, number, bool(asked)).asnumpy())
        if cluster.rank == 0:
            save(checkpoint, net, trainer, number + 1)
            with contextlib.suppress(BrokenPipeError):  # the launcher may be gone
                print(f"step {number}", flush=True)
        if figures[-1][1]:
            break
    seconds = time.monotonic() - started
    np.savez(
        folder / f"{cluster.rank}.npz",
        figures=np.array(figures),
        seconds=seconds,
        **{parameter.name: parameter.data(contexts[-1]).asnumpy() for parameter in parameters},
        **{f"momentum{key}": state.asnumpy() for key, state in enumerate(momenta(trainer))},
    )
    return 128 + signal.SIGTERM if figures and figures[-1][1] else 0


class Bomb:
    """Makes FOLDER/exploded where it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "exploded"),)


def tell(cluster, folder):
    """What the workers tell each other, to FOLDER/told{rank}.npz; and a bomb for the servers."""
    rank = cluster.rank
    told = {
        "float16": cluster.total(mx.nd.full((2, 3), rank + 1, dtype="float16")).asnumpy(),
        "rounded": cluster.total(mx.nd.full((1,), 1 if rank else 2048, dtype="float16")).asnumpy(),
    }
    for dtype in ("int64", "float64"):
        try:
            cluster.total(mx.nd.zeros(2, dtype=dtype))
        except TypeError as error:
            told[f"{dtype}_total"] = np.array(str(error))
    numbers = np.random.default_rng(rank)
    for name, array in {
        "int64": np.array([2**62 + 1 + rank, -1 - rank]),
        "scalar": np.array(5 + rank),
        "bytes": np.frombuffer(numbers.bytes(700_000), np.uint8),
        "float32": np.array([-0.0, 1e-45, np.inf, np.nan, 1 / 3], np.float32) if rank == 0 else np.ones(5, np.float32),
        "bool": np.array([True, False]) if rank == 0 else np.array([False, False]),
        "empty": np.zeros((0, 3)),
        "array": mx.nd.full((2, 2), rank + 2),
    }.items():
        told[name] = cluster.broadcast(array)
    norm = nn.BatchNorm(in_channels=3)
    norm.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    for context in (0, 1):
        norm.running_mean.data(mx.cpu(context))[:] = 10 * rank + context
    average_running_statistics(norm, cluster)
    told["running_mean"] = np.stack([norm.running_mean.data(mx.cpu(context)).asnumpy() for context in (0, 1)])
    told["running_var"] = norm.running_var.data(mx.cpu(0)).asnumpy()
    cluster.total(mx.nd.zeros(2)).wait_to_read()  # the first sum of a shape is waited for
    started = time.monotonic()
    slow = mx.nd.ones((2000, 2000))
    for _ in range(3):
        slow = mx.nd.dot(slow, slow) / 2000
    total = cluster.total(slow[0, :2])
    told["asked_after"] = time.monotonic() - started
    told["slow"] = total.asnumpy()
    told["answered_after"] = time.monotonic() - started
    cluster.barrier()
    if rank == 0 and not isinstance(cluster.kvstore, str):
        cluster.kvstore._send_command_to_servers(SET_OPTIMIZER, pickle.dumps(Bomb(folder), 0).decode())
    np.savez(folder / f"told{rank}.npz", size=cluster.size, **told)


def main(kvstore, folder, *options):
    cluster = join_cluster(kvstore)
    options = dict(each.split("=") for each in options)
    if "tell" in options:
        tell(cluster, Path(folder))
    if options.get("raise") == str(cluster.rank):
        raise InputError("as asked")
    return train(cluster, Path(folder), options)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
