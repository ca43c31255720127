"""One process's part in a cluster: what it needs, what it shares, what its trainer does."""

import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from mxnet.gluon import nn

from gluon_aff.distributed import KVSTORES
from gluon_aff.engines import Devices
from gluon_aff.errors import InputError
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
    assert (cluster.rank, cluster.size) == (0, 2)
    net = nn.Dense(1, use_bias=False, in_units=3)
    net.initialize(mx.init.One())
    trainer = make_trainer(net.collect_params(), "sgd", {"learning_rate": 0.5}, cluster)
    before = net.weight.data().asnumpy()
    images = np.arange(12, dtype=np.float32).reshape(4, 3)
    with mx.autograd.record():
        outputs = net(mx.nd.array(images))
    outputs.backward()
    trainer.step(2 * len(images))
    np.testing.assert_allclose(net.weight.data().asnumpy(), before - 0.5 * 2 * images.sum(0) / (2 * len(images)))
    np.testing.assert_array_equal(cluster.total(mx.nd.array([3.0])).asnumpy(), [6.0])
    assert cluster.sum([3, 0.5]) == [6, 1]


@pytest.mark.parametrize("name", ["dist_sync", "dist_device_sync"])
def test_servers_are_launchs(name, monkeypatch):
    for variable in ("DMLC_ROLE", "DMLC_PS_ROOT_URI"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(
        InputError, match=f"--kvstore {name} needs its servers .*: start the command with gluon-aff launch"
    ):
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
    given = {"DMLC_ROLE": "worker", "DMLC_PS_ROOT_URI": "127.0.0.1", "DMLC_PS_ROOT_PORT": "1", "DMLC_NUM_WORKER": "2"}
    for name, each in {**given, "DMLC_NUM_SERVER": "1", variable: value}.items():
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

    assert share(0, 1) == (0, 1, 2, 3, 4)
    assert [share(rank, 2) for rank in (0, 1)] == [(0, 2, 4), (1, 3)]
    assert share(1, 2, kvstore="horovod") == (1,)
    with pytest.raises(InputError, match="6 workers on this machine for 5 GPUs"):
        share(5, 6)
    assert Cluster(local_rank=1, local_size=2).devices(Devices()) == Devices()
