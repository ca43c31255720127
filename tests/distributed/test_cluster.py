"""Workers that train together: processes on this machine, started as users do."""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

STAND_INS = str(Path(__file__).parent / "stand_ins")
STEPS = 12


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def trained(folder, rank=0):
    """Parameters and momentum that a worker ended with."""
    return {name: value for name, value in arrays(folder / f"{rank}.npz").items() if name not in ("figures", "seconds")}


def assert_same(one, other):
    assert sorted(one) == sorted(other)
    for name, value in one.items():
        assert value.tobytes() == other[name].tobytes(), name


def assert_close(one, other):
    assert sorted(one) == sorted(other)
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def alone(small_run, tmp_path_factory):
    """Folder of a run of one process, on the same global batches."""
    folder = tmp_path_factory.mktemp("alone")
    before = signal.getsignal(signal.SIGTERM)
    assert runpy.run_path(small_run[1])["main"]("device", str(folder)) == 0
    signal.signal(signal.SIGTERM, before)
    return folder


@pytest.fixture(scope="module")
def together(small_run, environment_of_runs, tmp_path_factory):
    """Folder of a run of two workers with two devices each, and one server; what it said is in FOLDER/said."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "gluon_aff", "launch", "-n", "2", "-s", "1", "--"]
    result = subprocess.run(
        [*command, *small_run, "dist_sync", str(folder), "tell=1"],
        env=environment_of_runs,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    (folder / "said").write_text(result.stderr)
    return folder


def test_servers_run_nothing_that_they_are_sent(together):
    """MXNet's own would unpickle the optimizer that a worker, or anyone who reaches their port, sends them."""
    assert "server 0 | TypeError: 'NoneType' object is not callable" in (together / "said").read_text()
    assert not (together / "exploded").exists()


def test_both_workers_end_with_the_same_parameters_and_momentum(together):
    assert_same(trained(together, 0), trained(together, 1))


def test_two_workers_do_what_one_does_with_the_same_global_batch(together, alone):
    assert_close(trained(together), trained(alone))
    figures = arrays(together / "0.npz")["figures"]
    assert figures.shape == (STEPS, 2)
    np.testing.assert_allclose(figures, arrays(alone / "0.npz")["figures"], rtol=1e-5)
    np.testing.assert_array_equal(figures, arrays(together / "1.npz")["figures"])


def test_all_start_with_worker_0s_parameters(together, alone, small_run, tmp_path):
    """Each worker draws others; one process draws those of worker 0."""
    sys.path.insert(0, str(Path(small_run[1]).parent))
    try:
        from small_run import network
    finally:
        sys.path.pop(0)
    draws = [network([mx.cpu()], seed)[0].weight.data().asnumpy() for seed in (7, 8)]
    assert np.abs(draws[0] - draws[1]).max() > 0.1
    assert_close(trained(together), trained(alone))


@pytest.fixture(scope="module")
def told(together):
    """What each worker was told."""
    return [arrays(together / f"told{rank}.npz") for rank in (0, 1)]


def test_totals_are_sums_over_the_workers(told):
    for one in told:
        np.testing.assert_array_equal(one["float16"], np.full((2, 3), 3, np.float16))
        assert one["float16"].dtype == np.float16
        np.testing.assert_array_equal(one["slow"], [2, 2])
        for dtype in ("int64", "float64"):
            assert str(one[f"{dtype}_total"]).endswith(f"not {dtype}")


def test_totals_are_not_waited_for(told):
    for one in told:
        assert one["asked_after"] < one["answered_after"] / 2


def test_worker_0s_arrays_arrive_bit_for_bit(told):
    expected = {
        "int64": np.array([2**62 + 1, -1]),
        "scalar": np.array(5),
        "bytes": np.frombuffer(np.random.default_rng(0).bytes(700_000), np.uint8),
        "float32": np.array([-0.0, 1e-45, np.inf, np.nan, 1 / 3], np.float32),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "array": np.full((2, 2), 2, np.float32),
    }
    for one in told:
        for name, value in expected.items():
            assert one[name].dtype == value.dtype, name
            assert one[name].shape == value.shape, name
            assert one[name].tobytes() == value.tobytes(), name


def test_running_statistics_are_averaged_over_workers_and_devices(told):
    for one in told:
        np.testing.assert_array_equal(one["running_mean"], np.full((2, 3), (0 + 1 + 10 + 11) / 4))
        np.testing.assert_array_equal(one["running_var"], np.ones(3))


@pytest.mark.long
def test_a_killed_worker_ends_the_job_and_a_restart_completes_it(start, small_run, together, tmp_path):
    command = [*small_run, "dist_sync", tmp_path, "kill=5"]
    launched = start("-n", 2, "-s", 1, "--restarts", 1, "--grace", 2, "--", *command).end()
    since_the_kill = time.time() - (tmp_path / "killed").stat().st_mtime
    assert (launched.code, launched.alive()) == (0, [])
    assert "worker 1 ended with exit code 137 (SIGKILL)" in launched.err
    assert "killing worker 0" in launched.err  # it waits for the other
    assert "starting again (1 of 1)" in launched.err
    assert launched.out.splitlines() == [f"worker 0 | step {step}" for step in range(STEPS)]
    assert since_the_kill < 30  # the restart included
    for rank in (0, 1):
        assert_same(trained(tmp_path, rank), trained(together))


def test_a_signal_stops_all_workers_after_the_same_step(start, small_run, tmp_path):
    command = [*small_run, "dist_sync", tmp_path, "pause=0.1", "steps=1000"]
    launched = start("-n", 2, "-s", 1, "--grace", 30, "--", *command)
    launched.wait_until((tmp_path / "checkpoint.npz").exists)
    launched.process.terminate()
    launched.end()
    assert (launched.code, launched.alive()) == (143, [])
    figures = [arrays(tmp_path / f"{rank}.npz")["figures"] for rank in (0, 1)]
    np.testing.assert_array_equal(*figures)
    assert figures[0][-1, 1] >= 1
    assert len(figures[0]) == arrays(tmp_path / "checkpoint.npz")["arr_0"] < 1000
    assert_same(trained(tmp_path, 0), trained(tmp_path, 1))


@pytest.mark.long
def test_a_worker_that_fails_does_not_wait_for_the_others(start, small_run, tmp_path):
    launched = start("-n", 2, "--grace", 2, "--", *small_run, "dist_sync", tmp_path, "raise=1").end()
    assert launched.code == 1
    assert "worker 1 | gluon_aff.errors.InputError: as asked" in launched.err
    assert "worker 1 ended with exit code 1" in launched.err
    assert launched.alive() == []


@pytest.mark.long
@pytest.mark.parametrize(("workers", "servers", "kvstore"), [(1, 1, "dist_sync"), (3, 2, "dist_device_sync")])
def test_other_numbers_of_workers_and_servers(workers, servers, kvstore, start, small_run, alone, tmp_path):
    launched = start("-n", workers, "-s", servers, "--", *small_run, kvstore, tmp_path, "tell=1").end()
    assert (launched.code, launched.alive()) == (0, []), launched.err
    told = [arrays(tmp_path / f"told{rank}.npz") for rank in range(workers)]
    for rank in range(workers):
        assert_same(trained(tmp_path, 0), trained(tmp_path, rank))
        assert told[rank]["rounded"] == 2048 + workers - 1  # 2048 + 1 is 2048 in float16
    assert_close(trained(tmp_path), trained(alone))
    test_worker_0s_arrays_arrive_bit_for_bit(told)


@pytest.mark.long
def test_workers_on_two_machines(start, small_run, alone, tmp_path):
    """Both are this one, behind a stand-in for ssh."""
    (tmp_path / "hosts.txt").write_text("node-a\nnode-b\n")
    path = f"{STAND_INS}{os.pathsep}{os.environ['PATH']}"
    launched = start(
        *("-n", 2, "-H", "hosts.txt", "--address", "127.0.0.1", "--"), *small_run, "dist_sync", tmp_path, PATH=path
    ).end()
    assert (launched.code, launched.alive()) == (0, []), launched.err
    assert_same(trained(tmp_path, 0), trained(tmp_path, 1))
    assert_close(trained(tmp_path), trained(alone))


@pytest.mark.long
def test_nothing_is_left_of_a_cluster_whose_launcher_is_killed(start, small_run, tmp_path):
    command = [*small_run, "dist_sync", tmp_path, "pause=0.1", "steps=1000"]
    launched = start("-n", 2, "-s", 1, "--grace", 5, "--", *command)
    launched.wait_until((tmp_path / "checkpoint.npz").exists)
    assert len(launched.alive()) == 9  # the launcher; scheduler, server and workers, each with a guard
    launched.process.kill()
    launched.wait_until(lambda: not launched.alive(), timeout=15)
    steps = [len(arrays(tmp_path / f"{rank}.npz")["figures"]) for rank in (0, 1)]
    assert steps[0] == steps[1]  # they ended as after a signal


@pytest.mark.long
@pytest.mark.parametrize("role", ["server", "scheduler"])
def test_a_killed_server_or_scheduler_ends_the_job(role, start, small_run, tmp_path):
    launched = start(
        *("-n", 2, "-s", 1, "--grace", 2, "--"), *small_run, "dist_sync", tmp_path, "pause=0.1", "steps=1000"
    )
    launched.wait_until((tmp_path / "checkpoint.npz").exists)
    for number, words in launched.processes(DMLC_ROLE=role).items():
        if not any(word.endswith("guard.py") for word in words):
            os.kill(number, signal.SIGKILL)
    launched.end(timeout=30)
    assert launched.code == 137
    assert f"{role} ended with exit code 137" in launched.err.replace("server 0", "server")
    assert launched.alive() == []


@pytest.mark.long
def test_parameters_of_a_network_that_inferred_reach_all_workers(start, tmp_path):
    """MXNet's own initialization of the store fails on them at times: they are in oneDNN's layouts."""
    script = tmp_path / "infer.py"
    script.write_text(
        "import mxnet as mx, numpy as np\n"
        "from gluon_aff.gluon.cluster import join_cluster, make_trainer\n"
        "from gluon_aff.gluon.networks.zoo import cifar_resnet\n"
        "cluster = join_cluster('dist_sync')\n"
        "net = cifar_resnet('AFF', 2, 4, classes=10, prefix='net_')\n"
        "mx.random.seed(cluster.rank)\n"
        "net.initialize(mx.init.Xavier())\n"
        "net(mx.nd.zeros((1, 3, 32, 32))).wait_to_read()\n"
        "before = {name: each.data().asnumpy() for name, each in net.collect_params().items()}\n"
        "make_trainer(net.collect_params(), 'nag', {}, cluster)\n"
        "after = {name: each.data().asnumpy() for name, each in net.collect_params().items()}\n"
        "np.savez(f'before{cluster.rank}.npz', **before)\n"
        "np.savez(f'after{cluster.rank}.npz', **after)\n"
    )
    launched = start("-n", 2, "--grace", 2, "--", sys.executable, script).end()
    assert launched.code == 0, launched.err
    first = arrays(tmp_path / "before0.npz")
    assert any(value.tobytes() != first[name].tobytes() for name, value in arrays(tmp_path / "before1.npz").items())
    for rank in (0, 1):
        assert_same(arrays(tmp_path / f"after{rank}.npz"), first)


@pytest.mark.long
def test_horovods_workers_do_the_same(start, small_run, alone, tmp_path):
    """Through a stand-in for horovod.mxnet that does what its documentation says."""
    path = os.pathsep.join(filter(None, [STAND_INS, os.environ.get("PYTHONPATH")]))
    launched = start("-n", 2, "--", *small_run, "horovod", tmp_path, "tell=1", PYTHONPATH=path).end()
    assert (launched.code, launched.alive()) == (0, []), launched.err
    assert_same(trained(tmp_path, 0), trained(tmp_path, 1))
    assert_close(trained(tmp_path), trained(alone))
    told = [arrays(tmp_path / f"told{rank}.npz") for rank in (0, 1)]
    test_totals_are_sums_over_the_workers(told)
    test_worker_0s_arrays_arrive_bit_for_bit(told)
    test_running_statistics_are_averaged_over_workers_and_devices(told)
