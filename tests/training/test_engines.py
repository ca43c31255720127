"""Which engine a training command takes, what it says of that, and a run that goes from one to the other."""

import json
import os
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: F401  (these tests are left out where one of the engines is not installed)
from tensorboardX.proto.event_pb2 import Event, SessionLog

from gluon_aff import engines
from gluon_aff.cli import main
from gluon_aff.commands import training as training_commands
from gluon_aff.engines import Devices
from gluon_aff.gluon import engine as mxnet_engine
from gluon_aff.pytorch import engine as torch_engine
from gluon_aff.pytorch.learner import TorchLearner
from gluon_aff.results.logs import read_log
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.settings.imagenet import ImageNetSettings
from gluon_aff.training import run as training_run
from gluon_aff.training.setup import processes_needed
from gluon_aff.training.tensorboard import open_board
from gluon_aff.weights.params_format import read_params_file

LINE = (
    "--model resnet --blocks 1 --channel-times 1 --start-layer 3 --batch-size 20 --lr 0.01 --mixup --label-smoothing "
    "--num-epochs 2 --warmup-epochs 0 --mixup-off-epoch 1 --seed 7 -j 0 --gpus="
)
ROOT = Path(__file__).parents[2]
LOG = "logs/train_cifar100-ASKCFuse-resnet-8-c-1-s-3.log"


@pytest.fixture
def train(few_shapes, tmp_path, monkeypatch, capsys):
    """Train in a folder of the test's own with more options; the exit code and what was said."""
    monkeypatch.chdir(tmp_path)

    def run(*more):
        code = main([*LINE.split(), "--data-dir", few_shapes, *more], "train_cifar.py", "train-cifar")
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("flag", "variable", "name"),
    [
        ("torch", None, "PyTorch"),
        ("mxnet", "torch", "MXNet"),
        (None, "torch", "PyTorch"),
        (None, None, "MXNet"),
        ("auto", "torch", "MXNet"),
    ],
)
def test_the_flag_goes_before_the_variable(flag, variable, name, train, monkeypatch):
    if variable:
        monkeypatch.setenv("GLUON_AFF_ENGINE", variable)
    code, said = train(*(["--engine", flag] if flag else []), "--num-epochs", "1")
    assert code == 0, said
    assert said.startswith(f"{name}, device: CPU")
    assert ("PyTorch draws other initial weights than MXNet" in said) == (name == "PyTorch")
    (run,) = read_log(LOG)
    assert run.header["libraries"].startswith(f"{name} ")
    (checkpoint,) = Path("params").glob("*.checkpoint/*/checkpoint.json")
    (session,) = json.loads(checkpoint.read_text())["facts"]["sessions"]
    assert session["engine"] == name


def test_a_finished_run_that_is_resumed_says_so(train):
    assert "nothing is left to train" not in train("--num-epochs", "1")[1]
    code, said = train("--num-epochs", "1", "--resume", "auto")
    assert code == 0
    assert "this run is finished (1 of 1 epochs): nothing is left to train" in said.splitlines()


@pytest.mark.parametrize(("first", "then"), [("mxnet", "torch"), ("torch", "mxnet"), ("torch", "torch")])
def test_a_run_begun_under_one_engine_goes_on_under_either(first, then, train, tmp_path, monkeypatch):
    """As a signal ends it after the first epoch; the log says where the engine changed, if it did."""

    def stop_after_an_epoch(files, learner, state):
        files.stop.signal = 15
        keep(files, learner, state)

    keep = training_run.keep
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "keep", stop_after_an_epoch)
        assert train("--engine", first)[0] == 128 + 15
    code, said = train("--engine", then, "--resume", "auto", "--tensorboard", "board")
    assert code == 0, said
    begun = [event.step for event in all_events(tmp_path / "board") if event.session_log.status == SessionLog.START]
    assert begun == [1]
    lines = Path(LOG).read_text().splitlines()
    name = {"mxnet": "MXNet", "torch": "PyTorch"}[then]
    told = [line for line in lines[2:] if not line.startswith("INFO:root:[Epoch ")]
    assert [lines.index(line) for line in told] == ([3] if first != then else [])
    assert all(line.startswith(f"INFO:root:from epoch 1 on: gluon_aff 0.1.0, {name} ") for line in told)
    (run,) = read_log(LOG)
    assert run.epochs["epoch"].tolist() == [0, 1]
    assert np.isfinite(run.epochs["loss"]).all()


def test_bfloat16_trains_and_says_so(train):
    code, said = train("--engine", "torch", "--amp", "bfloat16", "--num-epochs", "1")
    assert code == 0, said
    assert "mixed precision: convolutions and dense layers compute in bfloat16" in said
    (path,) = Path("params").glob("*.checkpoint/*/parameters.params")
    assert {array.dtype.name for array in read_params_file(str(path)).arrays.values()} == {"float32"}


class OnBytes(TorchLearner):
    """A learner on the CPU that takes pixels, as those on a GPU do."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.takes_pixels = True

    def step(self, images, *more):
        assert images.values.dtype == np.uint8
        return super().step(images, *more)


def test_a_run_on_bytes_that_are_normalised_by_the_learner_is_the_same(train, monkeypatch):
    """With crops, AutoAugment and mixup. Roundings of the images grow with each update."""
    line = ("--engine", "torch", "--auto_aug", "--num-epochs", "1")
    assert train(*line)[0] == 0
    (expected,) = read_log(LOG)
    monkeypatch.setattr("gluon_aff.pytorch.learner.TorchLearner", OnBytes)
    assert train(*line)[0] == 0
    found = read_log(LOG)[-1]
    assert found.epochs["loss"][0] == pytest.approx(expected.epochs["loss"][0], rel=1e-4)
    assert found.epochs["val_acc"][0] == pytest.approx(expected.epochs["val_acc"][0], abs=0.02)


@pytest.mark.parametrize(
    ("engine", "amp", "reason"),
    [("torch", "float16", "float16 needs a GPU"), ("mxnet", "float16", "--amp float16: .*take --engine torch")],
)
def test_mixed_precision_that_cannot_be_is_one_line_and_no_file(engine, amp, reason, train, tmp_path):
    code, said = train("--engine", engine, "--amp", amp)
    assert code == 2
    (line,) = said.splitlines()
    assert line.startswith("train_cifar.py: error: ")
    assert re.search(reason, line)
    assert list(tmp_path.iterdir()) == []


def all_events(folder):
    """The events in the files of TensorBoard's in `folder`, in the order in which they were written."""
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def events(folder):
    """Step, name and value of each figure there."""
    return [
        (event.step, value.tag, value.simple_value) for event in all_events(folder) for value in event.summary.value
    ]


@pytest.mark.parametrize("engine", ["mxnet", "torch"])
def test_the_logs_figures_go_to_tensorboard(engine, train, tmp_path, monkeypatch):
    """Five steps of 20 images, as if they had taken 4 seconds."""
    train_epoch = training_run.train_epoch
    monkeypatch.setattr(training_run, "train_epoch", lambda *arguments: replace(train_epoch(*arguments), seconds=4.0))
    assert train("--engine", engine, "--tensorboard", "board")[0] == 0
    (run,) = read_log(LOG)
    found = {}
    for step, tag, value in events(tmp_path / "board"):
        found.setdefault(tag, {})[step] = value
    columns = {"train": "train_rmse", "val": "val_acc", "loss": "loss", "lr": "lr"}
    assert set(found) == {*columns, "images_per_second"}
    for tag, column in columns.items():
        assert found[tag] == pytest.approx(dict(enumerate(run.epochs[column])), abs=1e-6)
    assert found["images_per_second"] == {0: 25, 1: 25}


def test_a_run_that_goes_on_has_no_epoch_twice_in_tensorboard(tmp_path):
    """The first was killed behind epoch 3 and resumed from its checkpoint of epoch 2; TensorBoard purges by step."""
    for begin, end in ((0, 4), (2, 5)):
        with open_board(str(tmp_path), begin) as board:
            for epoch in range(begin, end):
                board(epoch, {"loss": 10 * begin + epoch})
        (written,) = tmp_path.glob("events*")  # whose name has the second it was made in
        written.rename(tmp_path / f"{begin}")
    shown = {}
    for event in all_events(tmp_path):
        if event.session_log.status == SessionLog.START:
            shown = {step: values for step, values in shown.items() if step < event.step}
        for value in event.summary.value:
            shown.setdefault(event.step, []).append(value.simple_value)
    assert shown == {0: [0], 1: [1], 2: [22], 3: [23], 4: [24]}


def test_a_folder_that_tensorboard_cannot_have_is_refused(train, tmp_path):
    (tmp_path / "board").write_text("a file")
    code, said = train("--tensorboard", "board")
    assert code == 1
    assert re.search("train_cifar.py: error: --tensorboard board cannot be written .*: name another one$", said.strip())


@pytest.mark.parametrize(
    ("settings", "variables", "expected"),
    [
        (CIFARSettings(engine="torch", gpus="0,1,2,3"), {}, 4),
        (CIFARSettings(engine="torch", gpus="1"), {}, 1),
        (CIFARSettings(engine="torch", gpus=""), {}, 1),
        (ImageNetSettings(engine="torch", num_gpus=4), {}, 4),
        (CIFARSettings(engine="torch", gpus="0,1,2,3"), {"RANK": "1"}, 1),
        (CIFARSettings(engine="mxnet", gpus="0,1,2,3"), {}, 1),
    ],
)
def test_pytorch_has_a_process_for_each_gpu(settings, variables, expected, monkeypatch):
    def find_devices(gpus, strict=False):
        numbers = tuple(int(each) for each in gpus.split(",") if each)
        return (Devices("gpu", numbers) if numbers else Devices()), ""

    for each in (mxnet_engine, torch_engine):
        monkeypatch.setattr(each, "find_devices", find_devices)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes_needed(settings) == expected


def test_the_processes_are_this_command_again_as_workers(few_shapes, tmp_path):
    """Two on the CPU here, where there are no GPUs: a step's figures are of all images, and printed once."""
    code = (
        "import sys; from gluon_aff.cli import main; from gluon_aff.training import setup; "
        "setup.processes_needed = lambda settings: 2; sys.exit(main(script='train_cifar.py', command='train-cifar'))"
    )
    more = ("--data-dir", few_shapes, "--engine", "torch", "--num-epochs", "1", "--batch-size", "10")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", code, *LINE.split(), *more],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert [line.split(":")[0] for line in process.stdout.splitlines()] == ["best_val_score", "weights", "log", "curve"]
    (run,) = read_log(str(tmp_path / LOG))
    assert run.header["devices"] == "cpu(0),cpu(0)"
    assert run.header["images_per_step"] == "20"
    assert process.stderr.count("[Epoch 0]") == 1


def test_every_training_command_takes_both_engines():
    names = ("train-cifar", "train-imagenet", "train-segmentation")
    assert {training_commands.COMMANDS[name].engines for name in names} == {("mxnet", "torch")}
    assert engines.engine("auto").NAME == "MXNet"
