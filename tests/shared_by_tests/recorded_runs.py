"""Runs of the training commands with a record of what reaches their epochs: the wiring tests look at nothing else.

What is wrapped is wrapped here only: an epoch of training, the score of a validation (the test says which scores come,
so that it knows which epoch is the best), and MXNet's and Python's own functions.
"""

import contextlib
import io
import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List

import mxnet as mx
import numpy as np
import pytest

from gluon_aff.cli import main
from gluon_aff.errors import InputError
from gluon_aff.training import run as training_run

VALIDATION_SECONDS = 0.03  # at least
OF_EITHER_ENGINE = {"engine", "amp", "tensorboard"}  # settings that test_engines.py looks at


@dataclass
class Epoch:
    """One epoch of a run.

    Attributes:
        weights: all parameters before the first step, by name.
        batches: images and labels as they were loaded.
        mixup: weight of each batch against its reverse.
        inputs: what the network saw in each step.
        targets: what cross-entropy, if that is the loss, compared that with.
        rates: learning rate of each step.
        checkpoints: names of those there when the epoch began.
        seconds: that training took.
        validation: images and labels that the network was validated on, in order.
        validated: parameters of the network that was validated.
        answer: the first images of that, and what the network made of them.
    """

    weights: Dict[str, np.ndarray]
    mixup: np.ndarray
    checkpoints: List[str]
    batches: List[Any] = field(default_factory=list)
    inputs: List[np.ndarray] = field(default_factory=list)
    targets: List[np.ndarray] = field(default_factory=list)
    rates: List[float] = field(default_factory=list)
    seconds: float = 0.0
    validation: Any = None
    validated: Dict[str, np.ndarray] = field(default_factory=dict)
    answer: Any = None


@dataclass
class Run:
    """What a command did.

    Attributes:
        folder: where it ran.
        code: its exit code.
        out: what it printed.
        err: what it said on stderr.
        epochs: that it trained.
        seeds: all that MXNet's random numbers were given.
        data_workers: processes that it started to prepare data.
        net: the trained network.
        trainer: its trainer.
        contexts: the devices.
        compiled: whether the trained network was hybridized, and the validated one.
        files: that were in the folder at the end, but those of checkpoints.
    """

    folder: Path
    code: int = 0
    out: str = ""
    err: str = ""
    epochs: List[Epoch] = field(default_factory=list)
    seeds: List[int] = field(default_factory=list)
    data_workers: int = 0
    net: Any = None
    trainer: Any = None
    contexts: Any = None
    compiled: Any = None
    files: List[str] = field(default_factory=list)

    @property
    def checkpoint(self):
        """What the run's last checkpoint says, and its name."""
        (path,) = self.folder.glob("*/*.checkpoint/epoch-*/checkpoint.json")
        return {**json.loads(path.read_text()), "name": path.parent.name}

    @property
    def log(self):
        """Lines of the log."""
        (name,) = (name for name in self.files if "train_" in name and name.endswith(".log"))
        return (self.folder / name).read_text().splitlines()

    def logged(self, figure):
        """What the log says of each epoch."""
        return [float(line.split(f" {figure}")[1].split()[0]) for line in self.log if "[Epoch " in line]

    @property
    def rates(self):
        return [rate for epoch in self.epochs for rate in epoch.rates]

    @property
    def decay(self):
        """Weight decay of each trained parameter, by name, with its multiplier."""
        names = {id(parameter): name for name, parameter in self.net._collect_params_with_prefix().items()}
        trained = [(i, each) for i, each in enumerate(self.trainer._params) if each.grad_req != "null"]
        return {names[id(each)]: wd for (i, each), wd in zip(trained, self._decays([i for i, _ in trained]))}

    def _decays(self, numbers):
        return self.trainer.optimizer._get_wds(numbers)


@dataclass
class Seen:
    """Where a flag is seen: in which run, how, and what is seen there; `against` is a run that sees something else."""

    run: str
    look: Callable
    expected: Any
    against: str = "defaults"


def record(folder, command, scorer, scores, gpus=0):
    """Run a command line such as `train-cifar --lr 1`; its validation, `scorer`, gives these `scores`."""
    name, *argv = command.split()
    run = Run(folder)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(mx.context, "num_gpus", lambda: gpus)
        _watch(patch, run, scorer, iter(scores))
        run.code = main(argv, f"{name}.py", name)
    run.out, run.err = out.getvalue(), err.getvalue()
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    run.files = sorted(str(path) for path in found if ".checkpoint" not in str(path))
    return run


def _watch(patch, run, scorer, scores):
    train_epoch, seed, popen = training_run.train_epoch, mx.random.seed, subprocess.Popen
    cross_entropy = mx.gluon.loss.SoftmaxCrossEntropyLoss.forward

    def recorded_epoch(learner, batches, mixup, epoch, stop, begun, observer):
        if not run.epochs:
            run.net, run.trainer, run.contexts = learner.net, learner.trainer, learner.contexts
            learner.net.register_forward_pre_hook(lambda net, inputs: run.epochs[-1].inputs.append(numpy(inputs[0])))
        checkpoints = sorted(path.name for path in run.folder.rglob("epoch-*"))
        now = Epoch(arrays(learner.net), np.array(mixup), checkpoints)
        run.epochs.append(now)

        def loaded():
            for batch in batches:
                now.batches.append(batch)
                yield batch

        def observed(step, metric, rate):
            now.rates.append(rate)

        done = train_epoch(learner, loaded(), mixup, epoch, stop, begun, observed)
        now.seconds = done.seconds
        return done

    def recorded_loss(self, output, target, *more):
        run.epochs[-1].targets.append(numpy(target))
        return cross_entropy(self, output, target, *more)

    def scored(network, batches, *more):
        images, labels = zip(*batches)
        time.sleep(VALIDATION_SECONDS)
        now = run.epochs[-1]
        now.validation = np.concatenate(images), np.concatenate(labels)
        now.answer = images[0], network.infer(images[0])()
        now.validated, run.compiled = arrays(network.net), (run.net._active, network.net._active)
        return next(scores)

    def recorded_seed(number, *more):
        run.seeds.append(number)
        seed(number, *more)

    class Counted(popen):
        def __init__(self, arguments, *more, **named):
            run.data_workers += any("gluon_aff.data.workers" in str(argument) for argument in arguments)
            super().__init__(arguments, *more, **named)

    patch.setattr(training_run, "train_epoch", recorded_epoch)
    patch.setattr(mx.gluon.loss.SoftmaxCrossEntropyLoss, "forward", recorded_loss)
    patch.setattr(scorer, scored)
    patch.setattr(mx.random, "seed", recorded_seed)
    patch.setattr(subprocess, "Popen", Counted)


def planned(monkeypatch, command, look):
    """What `look` sees in the plan of a command line's run, which is not carried out."""
    name, *argv = command.split()
    seen = []

    def plan_only(setup, plan):
        seen.append(look(plan))
        raise InputError("no run here")

    monkeypatch.setattr(f"gluon_aff.training.{name.partition('-')[2]}.train", plan_only)
    assert main(argv, f"{name}.py", name) == 2
    return seen[0]


def amp_and_sync_bn(plan):
    """What the learner is asked for; `test_engines.py` shows that it does so."""
    return plan.learner.amp, plan.learner.sync_bn


def numpy(array):
    return array.asnumpy().copy()


def arrays(net):
    """All parameters of a network by name; those that have no array yet are left out."""
    found = net._collect_params_with_prefix().items()
    return {name: numpy(each.list_data()[0]) for name, each in found if not each._deferred_init}


def same(one, other):
    """Whether two sets of named arrays are the same to the bit."""
    return one.keys() == other.keys() and all((array == other[name]).all() for name, array in one.items())


def fits(net, epoch):
    """Whether a network with the weights that were validated would have given the same answer as that one."""
    net.initialize()
    images, answer = epoch.answer
    net(mx.nd.array(images[:1]))
    parameters = net._collect_params_with_prefix()
    if {name: each.shape for name, each in parameters.items()} != {n: a.shape for n, a in epoch.validated.items()}:
        return False
    for name, array in epoch.validated.items():
        parameters[name].set_data(mx.nd.array(array))
    return bool(np.allclose(net(mx.nd.array(images)).asnumpy(), answer, rtol=1e-3, atol=1e-4))


def initialised(net, initializer, seed, images):
    """The parameters of a network with new weights."""
    mx.random.seed(seed)
    net.initialize(initializer)
    net(mx.nd.array(images[:2]))
    return arrays(net)


def draws(seed, epoch, purpose):
    """The random numbers of an epoch: 0 the order of the images, 1 augmentation, 2 mixup, 3 MXNet's seeds."""
    return np.random.Generator(np.random.PCG64((seed, epoch, purpose)))
