"""Runs that are killed, stopped and resumed, as processes of their own: nothing done is lost, nothing done twice."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from gluon_aff._platform import torch_problem
from gluon_aff.cli import main
from gluon_aff.results.logs import read_log
from gluon_aff.training.stopping import stop_on_signals
from gluon_aff.weights.params_format import read_params_file

ROOT = Path(__file__).parents[2]
NAME = "cifar100-ASKCFuse-resnet-8-c-1-s-3"
CHECKPOINTS = f"params/{NAME}.checkpoint"


def words(epochs, data, *extra):
    """Of the command line, without the script."""
    line = (
        f"--model resnet --blocks 1 --channel-times 1 --start-layer 3 --auto_aug --mixup --label-smoothing --cosine "
        f"--batch-size 20 --num-epochs {epochs} --warmup-epochs 2 --mixup-off-epoch 3 --lr 0.05 --seed 7 -j 1"
    )
    return [*line.split(), "--data-dir", data, *extra]


def command(*arguments):
    return [sys.executable, str(ROOT / "train_cifar.py"), *words(*arguments)]


def start(folder, *arguments):
    """The run as a process, whose stderr goes into a file that can be watched."""
    with open(folder / "stderr", "w") as stderr:
        return subprocess.Popen(
            command(*arguments),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def said(folder):
    return (folder / "stderr").read_text()


def wait_until_it_trains(process, folder):
    while "Namespace(" not in said(folder) and "continuing from" not in said(folder):
        assert process.poll() is None, said(folder)
        time.sleep(0.01)


def furthest(folder):
    """Epochs in the newest checkpoint, -1 without one."""
    found = [path.name for path in (folder / CHECKPOINTS).glob("epoch-*") if path.suffix != ".partial"]
    return max((int(name.split("-")[1]) for name in found), default=-1)


def finish(folder, *arguments):
    process = start(folder, *arguments)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said(folder)
    return out


def log_of(folder):
    text = (folder / f"logs/train_{NAME}.log").read_text()
    return re.sub(r" time: .*", "", text)


def newest(folder):
    (path,) = (folder / CHECKPOINTS).glob("epoch-*")
    return path


def arrays(folder):
    path = newest(folder)
    return {
        **read_params_file(str(path / "parameters.params")).arrays,
        **read_params_file(str(path / "optimizer.params")).arrays,
    }


def check_same(folder, undisturbed, epochs):
    assert log_of(folder) == log_of(undisturbed)
    (run,) = read_log(str(folder / f"logs/train_{NAME}.log"))
    assert run.epochs["epoch"].tolist() == list(range(epochs))
    assert {path.name for path in folder.glob("params/*.params")} == {
        p.name for p in undisturbed.glob("params/*.params")
    }
    expected, found = arrays(undisturbed), arrays(folder)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    for path in undisturbed.glob("params/*.params"):
        assert (folder / "params" / path.name).read_bytes() == path.read_bytes()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("mxnet", marks=[pytest.mark.engine, pytest.mark.long]),
        pytest.param("torch", marks=pytest.mark.skipif(torch_problem() is not None, reason="needs PyTorch")),
    ],
)
def engine(request):
    """Of the runs, which look for it in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLUON_AFF_ENGINE", request.param)
        yield request.param


@pytest.fixture(scope="module", params=[6, pytest.param(12, marks=pytest.mark.long)], ids="of {} epochs".format)
def epochs(request):
    """Number of a run's."""
    return request.param


@pytest.fixture(scope="module")
def undisturbed(engine, epochs, few_shapes, tmp_path_factory):
    """Folder of a run that nothing happened to, its seconds until it trains, and those of an epoch."""
    folder = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    process = start(folder, epochs, few_shapes, "--resume", "auto")
    wait_until_it_trains(process, folder)
    trains_after = time.monotonic() - began
    process.communicate(timeout=200)
    assert process.returncode == 0, said(folder)
    return folder, trains_after, (time.monotonic() - began - trains_after) / epochs


def test_a_killed_run_ends_as_if_it_had_not_been(epochs, undisturbed, few_shapes, tmp_path):
    """Of 20 kills, every fourth comes before it trains, and every fourth once more is kept than at those before."""
    expected, trains_after, epoch = undisturbed
    kills = range(20) if epochs > 6 else (2,)
    dice = random.Random(len(kills))
    survived = []
    for number in kills:
        process = start(tmp_path, epochs, few_shapes, "--resume", "auto")
        if number % 4 == 0:
            time.sleep(dice.uniform(0, trains_after))
        else:
            wait_until_it_trains(process, tmp_path)
            while number % 4 == 2 and furthest(tmp_path) <= max([0, *survived]):
                time.sleep(0.01)
            time.sleep(dice.uniform(0, 0.8 * epoch))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it had ended before: let there be more epochs"
        survived.append(furthest(tmp_path))
    print(f"epochs kept at each of {len(kills)} kills: {survived}")
    assert survived == sorted(survived)
    assert survived[-1] > 0
    finish(tmp_path, epochs, few_shapes, "--resume", "auto")
    check_same(tmp_path, expected, epochs)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_a_signal_ends_the_step_and_says_how_to_go_on(number, epochs, undisturbed, few_shapes, tmp_path):
    process = start(tmp_path, epochs, few_shapes)
    while said(tmp_path).count("[Epoch ") < 2:
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=100)
    assert process.returncode == 128 + number
    last = said(tmp_path).strip().splitlines()[-1]
    assert f"stopped by {number.name}" in last
    assert "the same command with --resume auto" in last
    assert newest(tmp_path).name in last
    assert not list((tmp_path / CHECKPOINTS).glob("*.partial"))
    finish(tmp_path, epochs, few_shapes, "--resume", "auto")
    assert log_of(tmp_path) == log_of(undisturbed[0]).replace("resume='auto'", "resume=None")
    for name, array in arrays(undisturbed[0]).items():
        np.testing.assert_array_equal(arrays(tmp_path)[name], array, err_msg=name)


def test_a_second_signal_stops_at_once():
    code = (
        "import time; from gluon_aff.training.stopping import stop_on_signals\n"
        "with stop_on_signals() as stop:\n"
        "    print(stop(), flush=True)\n"
        "    while not stop(): time.sleep(0.01)\n"
        "    print(stop.signal, flush=True)\n"
        "    time.sleep(100)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "False\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == f"{signal.SIGINT:d}\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert err == "SIGINT: stopping after this step, with a checkpoint; a second signal stops at once\n"


def test_a_thread_that_cannot_handle_signals_is_never_asked_to_stop():
    asked = []

    def run():
        with stop_on_signals() as stop:
            asked.append(stop())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert asked == [False]


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.signal == signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.engine
def test_a_second_run_in_the_same_directory_is_refused(few_shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    process = start(tmp_path, 6, few_shapes)
    wait_until_it_trains(process, tmp_path)
    assert main(words(6, few_shapes), "train_cifar.py", "train-cifar") == 2
    assert f"in use by process {process.pid} on " in capsys.readouterr().err.splitlines()[-1]
    process.kill()  # after which a run goes on: the dead one's lock does not count
    process.communicate()


def test_a_finished_run_has_nothing_to_go_on_with(epochs, undisturbed, few_shapes, monkeypatch, capsys):
    folder, _, _ = undisturbed
    monkeypatch.chdir(folder)
    before = log_of(folder)
    best = json.loads((newest(folder) / "checkpoint.json").read_text())["state"]["best"]
    assert main([*words(epochs, few_shapes), "--resume", "auto"], "train_cifar.py", "train-cifar") == 0
    assert f"best_val_score:  {best}\n" in capsys.readouterr().out
    assert log_of(folder) == before
