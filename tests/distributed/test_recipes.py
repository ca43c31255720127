"""The recipes on two workers of one machine: the run of one process with as many devices."""

import os
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from gluon_aff.cli import main
from gluon_aff.engines import Devices
from gluon_aff.errors import InputError
from gluon_aff.results.logs import read_log
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.training.cifar import train_cifar
from gluon_aff.weights.params_format import read_params_file

ROOT = Path(__file__).parents[2]
NAME = "cifar100-ASKCFuse-resnet-8-c-1-s-3"
LOG = f"logs/train_{NAME}.log"
CHECKPOINTS = f"params/{NAME}.checkpoint"
EPOCHS = 3


def command(data, *extra):
    line = (
        "--model resnet --blocks 1 --channel-times 1 --start-layer 3 --auto_aug --mixup --label-smoothing --cosine "
        f"--batch-size 10 --num-epochs {EPOCHS} --warmup-epochs 1 --mixup-off-epoch 1 --lr 0.05 --seed 7 -j 0"
    )
    return [sys.executable, str(ROOT / "train_cifar.py"), *line.split(), "--data-dir", data, *extra]


def figures(path, columns=("epoch", "train_rmse", "loss", "lr", "val_acc")):
    (run,) = read_log(str(path))
    return {column: run.epochs[column] for column in columns}


def arrays(folder):
    (path,) = (folder / CHECKPOINTS).glob("epoch-*")
    return read_params_file(str(path / "parameters.params")).arrays


@pytest.fixture(scope="module")
def of_one_process(few_shapes, tmp_path_factory):
    """Folder of the run of one process with two devices."""
    folder = tmp_path_factory.mktemp("one")
    before = os.getcwd()
    os.chdir(folder)
    try:
        settings = CIFARSettings(
            channel_times=1,
            start_layer=3,
            auto_aug=True,
            mixup=True,
            label_smoothing=True,
            cosine=True,
            batch_size=10,
            num_epochs=EPOCHS,
            warmup_epochs=1,
            mixup_off_epoch=1,
            lr=0.05,
            seed=7,
            num_workers=0,
            data_dir=few_shapes,
        )
        train_cifar(settings, Devices("cpu", (0, 1)))
    finally:
        os.chdir(before)
    return folder


def assert_the_same_run(folder, of_one_process):
    found, expected = figures(folder / LOG), figures(of_one_process / LOG)
    assert found["epoch"].tolist() == list(range(EPOCHS))
    for column in ("train_rmse", "loss", "lr"):
        np.testing.assert_allclose(found[column], expected[column], atol=2e-3, err_msg=column)
    np.testing.assert_allclose(found["loss"][0], expected["loss"][0], atol=2e-6)
    weights, others = arrays(folder), arrays(of_one_process)
    assert weights.keys() == others.keys()
    for name, array in weights.items():
        np.testing.assert_allclose(array, others[name], rtol=0.05, atol=0.02, err_msg=name)


def test_two_workers_are_one_process_with_two_devices(start, few_shapes, of_one_process, tmp_path):
    launched = start("-n", 2, "-s", 1, "--", *command(few_shapes, "--kvstore", "dist_sync")).end()
    assert launched.code == 0, launched.err
    assert_the_same_run(tmp_path, of_one_process)
    assert "devices cpu(0),cpu(0), 20 images per step" in (tmp_path / LOG).read_text()
    assert launched.out.count("best_val_score") == 1
    assert not [line for line in launched.err.splitlines() if line.startswith("worker 1 |") and "Epoch" in line]
    assert launched.alive() == []


@pytest.mark.long
def test_a_killed_worker_ends_the_job_and_a_restart_completes_it(start, few_shapes, of_one_process, tmp_path):
    parts = [
        "-n",
        2,
        "-s",
        1,
        "--restarts",
        1,
        "--",
        *command(few_shapes, "--kvstore", "dist_sync", "--resume", "auto"),
    ]
    launched = start(*parts)
    launched.wait_until(lambda: (tmp_path / CHECKPOINTS / "epoch-1").is_dir())
    (worker,) = (
        number for number, words in launched.processes(DMLC_WORKER_ID="1").items() if "train_cifar.py" in words[1]
    )
    os.kill(worker, signal.SIGKILL)
    launched.end()
    assert launched.code == 0, launched.err
    assert "worker 1 ended with exit code 137 (SIGKILL)" in launched.err
    assert "continuing from" in launched.err
    assert_the_same_run(tmp_path, of_one_process)


@pytest.mark.long
def test_sigterm_at_the_launcher_writes_one_checkpoint(start, few_shapes, of_one_process, tmp_path):
    launched = start("-n", 2, "-s", 1, "--", *command(few_shapes, "--kvstore", "dist_sync"))
    launched.wait_until((tmp_path / LOG).exists)
    launched.wait_until(lambda: "[Epoch 0]" in (tmp_path / LOG).read_text())
    launched.process.send_signal(signal.SIGTERM)
    launched.end()
    assert launched.code == 128 + signal.SIGTERM, launched.err
    (place,) = set(re.findall(r"stopped by SIGTERM after (\S+)\.", launched.err))  # the same for both
    assert f"worker 0 | train_cifar.py: stopped by SIGTERM after {place}. Kept: {CHECKPOINTS}/{place}." in launched.err
    resumed = start("-n", 2, "-s", 1, "--", *command(few_shapes, "--kvstore", "dist_sync", "--resume", "auto")).end()
    assert resumed.code == 0, resumed.err
    assert_the_same_run(tmp_path, of_one_process)


@pytest.mark.engine
def test_a_cluster_without_a_launcher_is_one_line(few_shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, _, *words = command(few_shapes, "--kvstore", "dist_sync")
    assert main(words, "train_cifar.py", "train-cifar") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "gluon-aff launch -n WORKERS" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.engine
def test_sync_bn_on_several_cpus_is_refused(few_shapes, tmp_path, monkeypatch):
    """MXNet's SyncBatchNorm can hang there."""
    monkeypatch.chdir(tmp_path)
    settings = CIFARSettings(
        channel_times=1, batch_size=10, num_epochs=1, num_workers=0, data_dir=few_shapes, sync_bn=True
    )
    with pytest.raises(InputError, match=r"--sync-bn: .*several CPU devices"):
        train_cifar(settings, Devices("cpu", (0, 1)))
    assert list(tmp_path.iterdir()) == []
    train_cifar(settings, Devices())
