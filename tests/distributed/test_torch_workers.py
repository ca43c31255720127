"""PyTorch's workers on this machine, as processes of their own: `gluon-aff launch` and torchrun start them."""

import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: F401  (these tests are left out where it is not installed)

from gluon_aff.engines import Devices
from gluon_aff.errors import InputError
from gluon_aff.pytorch.cluster import TorchCluster, join_cluster, leave_cluster
from gluon_aff.results.logs import read_log

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SMALL_RUN = [sys.executable, str(HERE / "small_torch_run.py")]
TORCH = {"GLUON_AFF_ENGINE": "torch", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def kept(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def of_one_process(tmp_path_factory, environment_of_runs):
    folder = tmp_path_factory.mktemp("one")
    subprocess.run([*SMALL_RUN, folder], check=True, env={**environment_of_runs, **TORCH})
    return kept(folder / "0.npz")


def check(folder, expected):
    """Both workers have the same weights, those of one process with the whole batch."""
    first, second = (kept(folder / f"{rank}.npz") for rank in (0, 1))
    assert first["figures"][-1][2] == 1  # worker 1 was asked to stop
    np.testing.assert_array_equal(first["figures"], second["figures"])
    np.testing.assert_allclose(first["figures"][:, :2], expected["figures"][:, :2], rtol=1e-6)
    for name, array in expected.items():
        if name != "figures":
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        if name != "figures" and "running_var" not in name:  # which is unbiased, and so counts the images
            np.testing.assert_allclose(first[name], array, rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_worker_that_dies_stops_all_and_restarts_learn_what_one_does_of_twice_the_batch(
    start, tmp_path, of_one_process
):
    launched = start("-n", 2, "--restarts", 1, "--grace", 2, "--", *SMALL_RUN, tmp_path, "die", **TORCH).end()
    assert launched.code == 0, launched.err
    assert "worker 1 ended with exit code 137 (SIGKILL)" in launched.err
    assert "starting again (1 of 1)" in launched.err
    check(tmp_path, of_one_process)


def test_what_workers_of_torchrun_tell_each_other(tmp_path, environment_of_runs):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, SMALL_RUN[1], str(tmp_path), "tell"]
    ended = subprocess.run(command, env={**environment_of_runs, **TORCH}, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    for rank in (0, 1):
        told = kept(tmp_path / f"{rank}.npz")
        np.testing.assert_array_equal(told["sum"], [3, 1])
        assert (told["size"], told["local_size"]) == (2, 2)
        np.testing.assert_array_equal(told["int64"], [2**62 + 1, -1])
        assert told["scalar"] == 5
        assert told["float32"].tobytes() == np.array([-0.0, 1e-45, np.inf, np.nan], np.float32).tobytes()
        assert told["empty"].shape == (0, 3)
        np.testing.assert_array_equal(told["features.0.running_mean"], [0.5] * 3)
        np.testing.assert_array_equal(told["features.0.bias"], [0.5] * 3)
    weights = [kept(tmp_path / f"{rank}.npz")["features.1.weight"] for rank in (0, 1)]
    np.testing.assert_array_equal(weights[0] + 1, weights[1])
    # A first step is linear in the gradient, whose mean over the workers counts
    after_a_step = runpy.run_path(SMALL_RUN[1])["after_a_step"]
    alone = [after_a_step(TorchCluster(), step) for step in (0, 1)]
    for name in alone[0]:
        mean = (alone[0][name] + alone[1][name]) / 2
        for rank in (0, 1):
            found = kept(tmp_path / f"{rank}.npz")[f"stepped {name}"]
            np.testing.assert_allclose(found, mean, rtol=1e-9, atol=1e-12, err_msg=name)
        assert "weight" not in name or (alone[0][name] != alone[1][name]).any()


@pytest.mark.long  # test_engines.py has the same in two processes that the command starts itself
def test_a_documented_command_trains_on_two_workers(start, tmp_path, few_shapes):
    line = (
        "--model resnet --blocks 1 --channel-times 1 --start-layer 3 --auto_aug --mixup --label-smoothing --cosine "
        "--batch-size 10 --num-epochs 2 --warmup-epochs 1 --mixup-off-epoch 1 --lr 0.05 --seed 7 -j 0 "
        "--kvstore dist_sync --gpus="
    )
    command = [sys.executable, str(ROOT / "train_cifar.py"), *line.split(), "--data-dir", few_shapes]
    launched = start("-n", 2, "--", *command, **TORCH).end()
    assert launched.code == 0, launched.err
    (run,) = read_log(str(tmp_path / "logs/train_cifar100-ASKCFuse-resnet-8-c-1-s-3.log"))
    assert run.header["devices"] == "cpu(0),cpu(0)"
    assert run.header["images_per_step"] == "20"
    assert len(run.epochs["epoch"]) == 2
    assert len(re.findall(r"\[Epoch \d\]", launched.err)) == 2  # worker 0 says it, and nobody else


@pytest.mark.parametrize(
    ("kvstore", "said"),
    [
        ("dist_sync", "needs other workers .*gluon-aff launch -n WORKERS.*torchrun"),
        ("dist_device_sync", "needs other workers"),
        ("horovod", "--kvstore horovod is for MXNet"),
        ("dist_async", "key-value store"),
    ],
)
def test_a_store_without_workers_is_refused(kvstore, said, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match=said):
        join_cluster(kvstore)


def test_each_worker_has_one_gpu():
    gpus = Devices("gpu", (3, 5))
    assert [TorchCluster(rank, 2, rank, 2).devices(gpus) for rank in (0, 1)] == [
        Devices("gpu", (3,)),
        Devices("gpu", (5,)),
    ]
    assert TorchCluster(1, 2, 1, 2).devices(Devices()) == Devices()
    assert TorchCluster().devices(Devices("gpu", (3,))) == Devices("gpu", (3,))
    with pytest.raises(InputError, match="1 workers on this machine for 2 GPUs"):
        TorchCluster().devices(gpus)


OF_ONE = {
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


def test_a_worker_leaves_before_python_ends(environment_of_runs):
    """One in fifty that did not was aborted by gloo's threads: "terminate called without an active exception"."""
    code = (
        "import atexit, torch.distributed as dist\n"
        "from gluon_aff.pytorch.cluster import join_cluster\n"
        "atexit.register(lambda: print(dist.is_initialized()))\n"
        "join_cluster('dist_sync')\n"
        "print(dist.is_initialized())\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**environment_of_runs, **TORCH, **OF_ONE, "MASTER_PORT": port}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stdout.split()) == (0, ["True", "False"])


@pytest.mark.parametrize(("gpus", "backend"), [(True, "cpu:gloo,cuda:nccl"), (False, "gloo")])
def test_workers_with_gpus_talk_by_nccl_too_and_leave_once(monkeypatch, gpus, backend):
    for name, value in OF_ONE.items():
        monkeypatch.setenv(name, value)
    backends, at_exit = [], []
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus)
    monkeypatch.setattr("torch.distributed.init_process_group", backends.append)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: bool(backends))
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 1)
    monkeypatch.setattr("torch.distributed.destroy_process_group", backends.pop)
    monkeypatch.setattr("atexit.register", at_exit.append)
    assert join_cluster("dist_sync") == join_cluster("dist_sync") == TorchCluster()
    assert (backends, at_exit) == ([backend], [leave_cluster])
    for leave in (*at_exit, leave_cluster):
        leave()
        assert backends == []


def test_workers_that_do_not_find_each_other_say_so(monkeypatch):
    def fail(backend):
        raise ValueError("a long story\nno answer")

    for name, value in OF_ONE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.distributed.init_process_group", fail)
    with pytest.raises(InputError, match=r"the workers of this run do not find each other \(no answer\)"):
        join_cluster("dist_sync")
    leave_cluster()  # which there is none to leave


def test_sums_are_in_float32():
    assert TorchCluster().sum([2**24 + 1, 0]) == [2**24, 0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"RANK": "first"}, "RANK=first is no whole number: start the command with gluon-aff launch"),
        ({"LOCAL_RANK": ""}, "LOCAL_RANK= is no whole number"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT=http is no whole number"),
        ({"RANK": "1"}, "worker 1 of 1, 0 of 1 on its machine: RANK has to be less than WORLD_SIZE"),
        ({"LOCAL_RANK": "1"}, "worker 0 of 1, 1 of 1 on its machine"),
        ({"LOCAL_WORLD_SIZE": "2"}, "worker 0 of 1, 0 of 2 on its machine"),
    ],
)
def test_workers_that_cannot_be_numbered_so_are_not_waited_for(changed, message, monkeypatch):
    for name, value in {**OF_ONE, **changed}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_: pytest.fail("it would wait"))
    with pytest.raises(InputError, match=message):
        join_cluster("dist_sync")
