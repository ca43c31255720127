"""One process's part in a cluster: what it needs, what it shares, what its trainer does."""

import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from mxnet.gluon import nn

from gluon_aff.distributed import KVSTORES
from gluon_aff.engines import Devices
from gluon_aff.errors import InputError
from gluon_aff.gluon import cluster as cluster_module
from gluon_aff.gluon.cluster import Cluster, average_running_statistics, join_cluster, make_trainer

STAND_INS = str(Path(__file__).parents[1] / "distributed" / "stand_ins")


class Doubling:
    """A store of two workers with the same gradients."""

    num_workers = 2

    def init(self, key, value):
        pass

    def pushpull(self, key, array):
        array *= 2


@pytest.fixture
def horovod_of_two(monkeypatch):
    """The stand-in for horovod.mxnet, as worker 0 of two that do the same."""
    monkeypatch.syspath_prepend(STAND_INS)
    for name in ("horovod", "horovod.mxnet"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("DMLC_WORKER_ID", "0")
    monkeypatch.setattr(mx.kv, "create", lambda name: Doubling())
    yield
    for name in ("horovod", "horovod.mxnet"):
        sys.modules.pop(name, None)


def test_a_step_of_horovods_takes_the_sum_over_the_global_batch(horovod_of_two):
    """w - lr * (sum of all workers' gradients) / (images of all workers), in NumPy."""
    cluster = join_cluster("horovod")
    assert (cluster.rank, cluster.size, cluster.local_rank, cluster.local_size) == (0, 2, 0, 2)
    net = nn.Dense(1, use_bias=False, in_units=3)
    net.initialize(mx.init.One())
    trainer = make_trainer(net.collect_params(), "sgd", {"learning_rate": 0.5}, cluster)
    before = net.weight.data().asnumpy()
    np.testing.assert_array_equal(before, np.full((1, 3), 2))  # a sum, to which both gave their ones
    images = np.arange(12, dtype=np.float32).reshape(4, 3)
    with mx.autograd.record():
        outputs = net(mx.nd.array(images))
    outputs.backward()
    trainer.step(2 * len(images))
    np.testing.assert_allclose(net.weight.data().asnumpy(), before - 0.5 * 2 * images.sum(0) / (2 * len(images)))
    np.testing.assert_array_equal(cluster.total(mx.nd.array([3.0])).asnumpy(), [6.0])
    assert cluster.sum([3, 0.5]) == [6, 1]


def test_horovod_waits_for_no_initialisation(horovod_of_two):
    """Its broadcast would, in a worker that has not seen a batch."""
    net = nn.Dense(1)
    net.initialize()
    with pytest.raises(gluon.parameter.DeferredInitializationError):
        make_trainer(net.collect_params(), "sgd", {}, join_cluster("horovod"))


def test_one_worker_of_horovods_sums_nothing(horovod_of_two, monkeypatch):
    monkeypatch.setattr(Doubling, "num_workers", 1)
    assert join_cluster("horovod").add is None


class Exchange:
    """What the workers of a run, threads here, send to the servers."""

    def __init__(self, workers):
        self.barrier = threading.Barrier(workers, timeout=10)
        self.sent = [None] * workers
        self.shapes = {}

    def total(self, rank, key, array):
        """Sum of all workers' arrays, in float32, and in their type again."""
        assert self.shapes[key] == array.shape
        self.sent[rank] = (key, array.astype("float32"))
        self.barrier.wait()
        keys, arrays = zip(*self.sent)
        self.barrier.wait()
        assert set(keys) == {key}
        return sum(arrays[1:], arrays[0]).astype(array.dtype)


class Store(mx.kv.KVStoreBase):
    """A worker's store of servers, which take a shape for each key."""

    type, handle, rank, num_workers = "dist_sync", "a handle", None, None

    def __init__(self, exchange, rank):
        self.exchange, self.rank, self.num_workers = exchange, rank, len(exchange.sent)
        self.commands, self.keys = [], set()

    @staticmethod
    def is_capable(capability):
        return True

    def set_optimizer(self, optimizer):
        pytest.fail("the servers would unpickle it")

    def _send_command_to_servers(self, number, text):
        self.commands.append((number, text))

    def init(self, key, value):
        assert key not in self.keys
        self.keys.add(key)
        assert self.exchange.shapes.setdefault(key, value.shape) == value.shape

    def pushpull(self, key, value, out=None, priority=0):
        given = value if isinstance(value, list) else [value]
        first, *others = (each.asnumpy() for each in given)
        total = self.exchange.total(self.rank, key, sum(others, first))
        out = given if out is None else out
        for each in out if isinstance(out, list) else [out]:
            each[:] = total


GIVEN = {"DMLC_ROLE": "worker", "DMLC_PS_ROOT_URI": "127.0.0.1", "DMLC_PS_ROOT_PORT": "1", "DMLC_NUM_WORKER": "2"}


@pytest.fixture
def workers(monkeypatch):
    """Function that runs a function of a cluster in each worker, a thread; `workers.exits` has their way to end."""
    for name, each in {**GIVEN, "DMLC_NUM_SERVER": "1"}.items():
        monkeypatch.setenv(name, each)
    monkeypatch.delenv("DMLC_WORKER_ID", raising=False)
    here = threading.local()

    def run(work, ranks=(0, 1)):
        exchange = Exchange(len(ranks))
        monkeypatch.setattr(mx.kv, "create", lambda name: Store(exchange, here.rank))

        def worker(rank):
            here.rank = rank
            return work(join_cluster("dist_sync"))

        with ThreadPoolExecutor(len(ranks)) as pool:
            return list(pool.map(worker, ranks))

    run.exits = []
    monkeypatch.setattr(
        cluster_module._LIB, "MXKVStoreSetBarrierBeforeExit", lambda *given: run.exits.append(given) or 0
    )
    return run


def test_servers_sum_in_float32_and_a_worker_that_ends_waits_for_nobody(workers):
    commands = workers(lambda cluster: cluster.kvstore.commands)
    number = mx.kvstore.kvstore._get_kvstore_server_command_type("kSetMultiPrecision")
    assert commands == [[(number, "")]] * 2
    assert [(handle, flag.value) for handle, flag in workers.exits] == [("a handle", 0)] * 2


def test_sums_over_the_workers(workers):
    arrived = []

    def sums(cluster):
        first, second = cluster.total(mx.nd.full((2, 3), cluster.rank + 1)), cluster.sum([cluster.rank, 0.5])
        again = cluster.total(mx.nd.full((2, 3), 10.0))  # under the key of the first
        half = cluster.total(mx.nd.full((2, 3), cluster.rank + 2, dtype="float16"))
        time.sleep(0.02 * cluster.rank)
        arrived.append(cluster.rank)
        cluster.barrier()
        assert sorted(arrived) == [0, 1]
        for dtype in ("int32", "float64"):
            with pytest.raises(TypeError, match=f"workers sum float32 and float16, not {dtype}"):
                cluster.total(mx.nd.zeros(2, dtype=dtype))
        assert half.dtype == np.float16
        return [each.asnumpy().max() for each in (first, again, half)], second

    assert workers(sums) == [([3, 20, 5], [1, 1])] * 2


@pytest.mark.parametrize(
    ("own", "others"),
    [
        (np.array([2**62 + 1, -1]), np.array([5, 6])),
        (np.array(5), np.array(6)),
        (np.frombuffer(np.random.default_rng(0).bytes(300_000), np.uint8), np.zeros(300_000, np.uint8)),
        (np.array([[-0.0, 1e-45, np.inf], [np.nan, 1 / 3, 0]], np.float32), np.ones((2, 3), np.float32)),
        (np.array([True, False]), np.array([False, False])),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (mx.nd.full((2, 2), 2), mx.nd.full((2, 2), 3)),
    ],
    ids=["int64", "number", "bytes", "float32", "bool", "empty", "array"],
)
def test_worker_0s_arrays_arrive_bit_for_bit(own, others, workers):
    expected = own.asnumpy() if isinstance(own, mx.nd.NDArray) else own
    for found in workers(lambda cluster: cluster.broadcast(others if cluster.rank else own)):
        assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def test_running_statistics_are_means_over_workers_and_devices(workers):
    devices = [mx.cpu(0), mx.cpu(1)]

    def averaged(cluster):
        norm = nn.BatchNorm(in_channels=3)
        norm.initialize(ctx=devices)
        for device in (0, 1):
            norm.running_mean.data(devices[device])[:] = mx.nd.arange(3) + 10 * cluster.rank + device
            norm.gamma.data(devices[device])[:] = cluster.rank
        average_running_statistics(norm, cluster)
        means = [norm.running_mean.data(device).asnumpy().tolist() for device in devices]
        return [*means, norm.running_var.data(devices[1]).asnumpy().tolist(), norm.gamma.data(devices[0]).asnumpy()[0]]

    for rank, found in enumerate(workers(averaged)):
        assert found == [[5.5, 6.5, 7.5], [5.5, 6.5, 7.5], [1, 1, 1], rank]


@pytest.mark.parametrize("devices", [1, 2])
def test_all_start_with_worker_0s_weights_and_step_together(devices, workers):
    """w - lr * (sum of all workers' gradients) / (images of all workers), in NumPy."""
    images = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")

    def trained(cluster):
        net = nn.Dense(1, use_bias=False, in_units=3)
        net.initialize(mx.init.Constant(cluster.rank + 0.5), ctx=list(map(mx.cpu, range(devices))))
        trainer = make_trainer(net.collect_params(), "sgd", {"learning_rate": 0.5}, cluster)
        start = [each.asnumpy() for each in net.weight.list_data()]
        cluster.barrier()  # a sum of the run's own, whose key is not one of the trainer's
        with mx.autograd.record():
            x = mx.nd.array(images[2 * cluster.rank :][:2])
            outputs = [net(x[i::devices].as_in_context(mx.cpu(i))) for i in range(devices)]
        mx.autograd.backward(outputs)
        trainer.step(4)
        return start, [each.asnumpy() for each in net.weight.list_data()]

    for start, end in workers(trained):
        np.testing.assert_array_equal(start, np.full((devices, 1, 3), 0.5))
        np.testing.assert_allclose(end, np.full((devices, 1, 3), 0.5 - 0.5 * images.sum(axis=0) / 4), rtol=1e-5)


def test_numbers_are_launchs_or_else_the_stores(workers, monkeypatch):
    def numbers(cluster):
        return cluster.rank, cluster.size, cluster.local_rank, cluster.local_size

    assert workers(numbers) == [(0, 2, 0, 1), (1, 2, 0, 1)]
    monkeypatch.setenv("GLUON_AFF_LOCAL_RANK", "2")
    monkeypatch.setenv("GLUON_AFF_LOCAL_SIZE", "3")
    monkeypatch.setenv("DMLC_WORKER_ID", "0")
    assert workers(lambda cluster: numbers(replace(cluster, size=4)), ranks=(0,)) == [(0, 4, 2, 3)]
    with pytest.raises(InputError, match="DMLC_WORKER_ID has to be 0 to 1, each once: use gluon-aff launch"):
        workers(numbers)


def test_a_worker_that_waits_long_is_told_why(workers, monkeypatch, capsys):
    monkeypatch.setattr(cluster_module, "PATIENCE_SECONDS", 0.02)
    workers(lambda cluster: None, ranks=(0,))
    time.sleep(0.04)
    assert capsys.readouterr() == ("", "")
    with monkeypatch.context() as patched:
        patched.setattr(mx.kv, "create", lambda name: time.sleep(0.1) or pytest.skip("no store"))
        with pytest.raises(pytest.skip.Exception):
            join_cluster("dist_sync")
    out, err = capsys.readouterr()
    assert (out, "the other processes have not answered for 0.02 s" in err) == ("", True)


@pytest.mark.parametrize("name", ["dist_sync", "dist_device_sync"])
@pytest.mark.parametrize("variable", ["DMLC_ROLE", "DMLC_NUM_SERVER"])
def test_servers_are_launchs(name, variable, monkeypatch):
    for each in GIVEN:
        monkeypatch.setenv(each, "1")
    monkeypatch.setenv("DMLC_NUM_SERVER", "1")
    monkeypatch.delenv(variable)
    message = f"--kvstore {name} needs its servers ({variable} is not set): start the command with gluon-aff launch"
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        join_cluster(name)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DMLC_NUM_WORKER", "two"),
        ("DMLC_NUM_SERVER", ""),
        ("DMLC_PS_ROOT_PORT", "-1"),
        ("DMLC_WORKER_ID", "first"),
        ("GLUON_AFF_LOCAL_RANK", "0.5"),
        ("GLUON_AFF_LOCAL_SIZE", "²"),
    ],
)
def test_a_variable_without_a_number_is_named_before_mxnet_waits(variable, value, monkeypatch):
    for name, each in {**GIVEN, "DMLC_NUM_SERVER": "1", variable: value}.items():
        monkeypatch.setenv(name, each)
    monkeypatch.setattr(mx.kv, "create", lambda name: pytest.fail("it would wait"))
    with pytest.raises(InputError, match=f"^{variable}={value} is no whole number: start the command with gluon-aff"):
        join_cluster("dist_sync")


def test_names_of_stores():
    assert KVSTORES == ("local", "device", "dist_sync", "dist_device_sync", "horovod")
    with pytest.raises(InputError, match="did you mean dist_sync"):
        join_cluster("dist_async")


@pytest.mark.parametrize("name", ["local", "device"])
def test_a_worker_that_would_train_alone_is_told(name, monkeypatch):
    monkeypatch.setenv("DMLC_ROLE", "worker")
    with pytest.raises(InputError, match="add --kvstore dist_sync"):
        join_cluster(name)


def test_without_horovod_the_error_says_what_to_do():
    with pytest.raises(InputError, match=r"HOROVOD_WITH_MXNET=1 pip install horovod.*dist_sync"):
        join_cluster("horovod")


def test_one_worker_needs_nobody():
    cluster = join_cluster("device")
    assert (cluster, cluster.rank, cluster.size) == (Cluster("device"), 0, 1)
    figures = mx.nd.array([1, 2], dtype="int64")
    assert cluster.total(figures) is figures
    np.testing.assert_array_equal(cluster.broadcast(figures), [1, 2])
    assert cluster.broadcast(5) == 5
    assert cluster.sum([1, 0.5]) == [1, 0.5]
    net = nn.BatchNorm()  # not initialised
    average_running_statistics(net, cluster)


def test_one_workers_trainer_is_gluons_own():
    net = nn.Dense(2)  # of an input yet unknown
    net.initialize()
    trainer = make_trainer(net.collect_params(), "nag", {"learning_rate": 0.5}, Cluster("local"))
    assert type(trainer) is gluon.Trainer
    assert trainer._kvstore_params == {"kvstore": "local", "update_on_kvstore": None}
    assert trainer.learning_rate == 0.5


def test_the_workers_of_a_machine_share_its_gpus():
    gpus = Devices("gpu", tuple(range(5)))

    def share(rank, size, **others):
        own = Cluster(local_rank=rank, local_size=size, **others).devices(gpus)
        assert own.kind == "gpu"
        return own.numbers

    assert share(0, 1) == Cluster().devices(gpus).numbers == (0, 1, 2, 3, 4)
    assert [share(rank, 2) for rank in (0, 1)] == [(0, 2, 4), (1, 3)]
    assert share(1, 2, kvstore="horovod") == (1,)
    with pytest.raises(InputError, match="6 workers on this machine for 5 GPUs"):
        share(5, 6)
    assert Cluster(local_rank=1, local_size=2).devices(Devices()) == Devices()
