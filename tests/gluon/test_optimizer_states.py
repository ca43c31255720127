"""Optimizer states: a resumed run is the run that went on; what fits no trainer or is damaged is refused."""

import os
import pickle
import random

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from shared_by_tests.original_schedule import LRScheduler, LRSequential, original_schedule

from gluon_aff.errors import InputError
from gluon_aff.gluon.optimizer_states import load_states, save_states
from gluon_aff.gluon.schedule import Scheduler
from gluon_aff.gluon.trainer_states import set_updates
from gluon_aff.schedule import Schedule

STEPS = 6  # half of a run
ONE_CPU = (mx.cpu(),)
TWO_CPUS = (mx.cpu(0), mx.cpu(1))


def schedule(rate=0.1):
    return Schedule("cosine", rate, warmup_epochs=2, num_epochs=2 + STEPS, steps_per_epoch=2)


def scheduler(rate=0.1):
    return Scheduler(schedule(rate))


def network(contexts=ONE_CPU, hidden=5):
    """Dense layers with a frozen parameter between the others, so that the states' numbers have a gap."""
    mx.random.seed(1)
    net = gluon.nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(gluon.nn.Dense(hidden, in_units=4, activation="relu"), gluon.nn.Dense(3, in_units=hidden))
    net.initialize(mx.init.Xavier(), ctx=list(contexts))
    net[0].bias.grad_req = "null"
    return net


def trainer_of(net, optimizer="nag", update_on_kvstore=None, **arguments):
    arguments = {"lr_scheduler": scheduler(), "wd": 1e-3, "momentum": 0.9, **arguments}
    return gluon.Trainer(net.collect_params(), optimizer, arguments, update_on_kvstore=update_on_kvstore)


def train(net, trainer, first, steps, contexts=ONE_CPU):
    """Learning rates of `steps` steps on data that depend on the step alone."""
    rates = []
    for step in range(first, first + steps):
        images = np.random.RandomState(step).rand(8, 4).astype("float32")
        parts = gluon.utils.split_and_load(mx.nd.array(images), list(contexts))
        with autograd.record():
            losses = [(net(part) ** 2).sum() for part in parts]
        autograd.backward(losses)
        trainer.step(8)
        rates.append(trainer.learning_rate)
    return rates


def weights_of(net):
    return [parameter.data().asnumpy() for parameter in net.collect_params().values()]


def save_as_the_original(trainer, path):
    """By MXNet, with GluonCV's schedule."""
    trainer.optimizer.lr_scheduler = original_schedule(schedule())
    trainer.save_states(path)


def begun(path, write=save_states, contexts=ONE_CPU, **arguments):
    """A network trained for a few steps, its rates, and its states in the file at `path`."""
    net = network(contexts)
    trainer = trainer_of(net, **arguments)
    rates = train(net, trainer, 0, STEPS, contexts)
    write(trainer, str(path))
    return net, trainer, rates


def copy_of(net, contexts=ONE_CPU):
    copy = network(contexts)
    for name, parameter in net._collect_params_with_prefix().items():
        copy._collect_params_with_prefix()[name].set_data(parameter.data())
    return copy


@pytest.fixture
def small(tmp_path):
    """A trainer, and the states of another one after a few steps, as bytes and in a file."""
    path = tmp_path / "small.states"
    begun(path)
    return trainer_of(network()), path, path.read_bytes()


@pytest.mark.parametrize("write", [save_states, save_as_the_original], ids=["ours", "the original's"])
@pytest.mark.parametrize(
    ("contexts", "arguments"),
    [
        (ONE_CPU, {}),
        (ONE_CPU, {"optimizer": "sgd"}),
        (ONE_CPU, {"momentum": 0.0}),
        (ONE_CPU, {"optimizer": "sgd", "momentum": 0.0}),
        (TWO_CPUS, {"update_on_kvstore": True}),
        (TWO_CPUS, {"update_on_kvstore": False}),
    ],
    ids=["NAG", "SGD", "NAG without momentum", "SGD without momentum", "two devices", "two devices, own updates"],
)
def test_a_resumed_run_is_the_run_that_went_on(write, contexts, arguments, tmp_path):
    """Bit for bit, with the same learning rates."""
    net, trainer, _ = begun(tmp_path / "a.states", write, contexts, **arguments)
    resumed = copy_of(net, contexts)
    expected = train(net, trainer, STEPS, STEPS, contexts)

    fresh = trainer_of(resumed, **arguments)
    assert load_states(fresh, str(tmp_path / "a.states")) == STEPS
    assert train(resumed, fresh, STEPS, STEPS, contexts) == expected
    assert len(set(expected)) == STEPS
    for one, other in zip(weights_of(resumed), weights_of(net)):
        np.testing.assert_array_equal(one, other)


def test_without_states_a_resumed_run_differs(tmp_path):
    """Else the tests above would show nothing."""
    net, trainer, _ = begun(tmp_path / "a.states")
    resumed = copy_of(net)
    train(net, trainer, STEPS, 1)
    fresh = trainer_of(resumed)
    set_updates(fresh, STEPS)
    assert train(resumed, fresh, STEPS, 1) == [trainer.learning_rate]
    assert any((one != other).any() for one, other in zip(weights_of(resumed), weights_of(net)))


def test_a_run_resumed_twice(tmp_path):
    net, trainer, _ = begun(tmp_path / "a.states")
    resumed = copy_of(net)
    expected = train(net, trainer, STEPS, 4)
    rates = []
    for first in (STEPS, STEPS + 2):
        fresh = trainer_of(resumed)
        load_states(fresh, str(tmp_path / "a.states"))
        rates += train(resumed, fresh, first, 2)
        save_states(fresh, str(tmp_path / "a.states"))
    assert rates == expected
    for one, other in zip(weights_of(resumed), weights_of(net)):
        np.testing.assert_array_equal(one, other)


def test_schedule_and_weight_decay_are_the_new_runs(tmp_path):
    """The original went on with the schedule in the file, whatever --lr and --num-epochs said (paper_spec 6.2)."""
    begun(tmp_path / "a.states")
    net = network()
    fresh = trainer_of(net, lr_scheduler=scheduler(0.5), wd=0.25, momentum=0.5)
    load_states(fresh, str(tmp_path / "a.states"))
    assert train(net, fresh, STEPS, 3) == [scheduler(0.5)(STEPS + step) for step in (1, 2, 3)]
    assert (fresh.optimizer.wd, fresh.optimizer.momentum) == (0.25, 0.5)


def test_states_move_between_one_and_two_devices(tmp_path):
    """Each device counts its updates; one that the file does not know must not hold the schedule back."""
    begun(tmp_path / "one.states")
    net = network(TWO_CPUS)
    fresh = trainer_of(net, update_on_kvstore=False)
    load_states(fresh, str(tmp_path / "one.states"))
    assert train(net, fresh, STEPS, 2, TWO_CPUS) == [scheduler()(STEPS + 1), scheduler()(STEPS + 2)]
    assert fresh.optimizer.num_update == STEPS + 2


@pytest.mark.parametrize("devices", [TWO_CPUS, ONE_CPU, (mx.cpu(1),)], ids=["two", "one", "another one"])
def test_counts_go_on_without_states(devices):
    net = network(devices)
    fresh = trainer_of(net)
    set_updates(fresh, 7)
    assert fresh.learning_rate == scheduler()(7)
    assert train(net, fresh, 0, 2, devices) == [scheduler()(8), scheduler()(9)]


def test_the_original_goes_on_from_what_is_written(tmp_path):
    net, trainer, _ = begun(tmp_path / "a.states")
    resumed = copy_of(net)
    expected = train(net, trainer, STEPS, STEPS)
    fresh = trainer_of(resumed, lr_scheduler=original_schedule(schedule(rate=7.0)))
    fresh.load_states(str(tmp_path / "a.states"))
    assert train(resumed, fresh, STEPS, STEPS) == expected
    for one, other in zip(weights_of(resumed), weights_of(net)):
        np.testing.assert_array_equal(one, other)
    assert os.listdir(tmp_path) == ["a.states"]


def test_states_from_before_the_first_step(tmp_path):
    save_states(trainer_of(network()), str(tmp_path / "a.states"))
    fresh = trainer_of(network())
    assert load_states(fresh, str(tmp_path / "a.states")) == 0
    assert fresh.optimizer.num_update == 0


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_that_wrote_such_files(protocol, tmp_path):
    """Python 3.0 to 3.7 wrote 3, later ones 4; protocol 2 is Python 2's, and is refused."""
    _, trainer, _ = begun(tmp_path / "a.states", save_as_the_original)
    content = (trainer._updaters[0].states, trainer.optimizer)
    (tmp_path / "a.states").write_bytes(pickle.dumps(content, protocol))
    if protocol == 2:
        with pytest.raises(InputError, match=r"contains __builtin__\.bytearray"):
            load_states(trainer_of(network()), str(tmp_path / "a.states"))
    else:
        assert load_states(trainer_of(network()), str(tmp_path / "a.states")) == STEPS


@pytest.mark.parametrize(
    "schedule",
    [
        mx.lr_scheduler.FactorScheduler(3, 0.5),
        mx.lr_scheduler.MultiFactorScheduler([3, 5], 0.5),
        mx.lr_scheduler.PolyScheduler(30),
        mx.lr_scheduler.CosineScheduler(30),
        LRScheduler("poly", niters=30),
        LRSequential([LRScheduler("step", niters=30, step_iter=[3])]),
        None,
    ],
)
def test_every_schedule_and_numpy_numbers_can_be_in_a_file(schedule, tmp_path):
    rate = {"lr_scheduler": None, "learning_rate": 0.1} if schedule is None else {"lr_scheduler": schedule}
    begun(tmp_path / "a.states", gluon.Trainer.save_states, wd=np.float64(1e-4), clip_gradient=np.float32(2), **rate)
    assert load_states(trainer_of(network()), str(tmp_path / "a.states")) == STEPS


class Halves(gluon.HybridBlock):
    """Float16 weights in an operation that a CPU has for them."""

    def __init__(self):
        super().__init__(prefix="halves_")
        self.weight = self.params.get("weight", shape=(3, 4), dtype="float16", init=mx.init.One())
        self.scale = self.params.get("scale", shape=(4,), dtype="float32", init=mx.init.One())

    def hybrid_forward(self, F, x, weight, scale):
        return F.broadcast_mul(x * F.cast(weight, "float32"), F.expand_dims(scale, 0)).sum()


@pytest.mark.parametrize("optimizer", ["nag", "sgd"])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_float16_weights_keep_their_float32_copies(optimizer, momentum, tmp_path):
    def run(net, trainer, steps):
        for _ in range(steps):
            with autograd.record():
                loss = net(mx.nd.ones((3, 4)) / 3)
            loss.backward()
            trainer.step(1)

    def make():
        net = Halves()
        net.initialize()
        return net, trainer_of(net, optimizer, multi_precision=True, momentum=momentum)

    net, trainer = make()
    run(net, trainer, STEPS)
    save_states(trainer, str(tmp_path / "a.states"))
    net.save_parameters(str(tmp_path / "a.params"))
    run(net, trainer, STEPS)
    other, fresh = make()
    other.load_parameters(str(tmp_path / "a.params"))
    load_states(fresh, str(tmp_path / "a.states"))
    run(other, fresh, STEPS)
    copies = [one._updaters[0].states[1][1] for one in (trainer, fresh)]
    assert copies[0].dtype == np.float32
    assert (copies[0].astype("float16").astype("float32") != copies[0]).asnumpy().any()
    for one, two in zip([*weights_of(net), copies[0].asnumpy()], [*weights_of(other), copies[1].asnumpy()]):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "sgd"}, "has states of NAG, but this run's optimizer is SGD"),
        ({"momentum": 0.0}, "has float32 5x4 for net_dense0_weight, but this run needs nothing: give --momentum"),
    ],
)
def test_states_of_another_optimizer(arguments, message, small):
    with pytest.raises(InputError, match=message):
        load_states(trainer_of(network(), **arguments), str(small[1]))


def test_states_of_another_network(small):
    _, path, _ = small
    with pytest.raises(InputError, match=r"has float32 5x4 for \S+, but this network needs float32 6x4: name a"):
        load_states(trainer_of(network(hidden=6)), str(path))
    net = network()
    net[0].bias.grad_req = "write"
    fresh = trainer_of(net)
    with pytest.raises(InputError, match="states of 3 parameters, but this run trains 4"):
        load_states(fresh, str(path))
    assert (fresh.optimizer.num_update, fresh._updaters[0].states) == (0, {})


def test_params_are_no_states(tmp_path):
    network().save_parameters(str(tmp_path / "some.params"))
    with pytest.raises(InputError, match=r"is a \.params file"):
        load_states(trainer_of(network()), str(tmp_path / "some.params"))


def test_states_of_another_type(tmp_path):
    """Of the right shape."""
    _, trainer, _ = begun(tmp_path / "a.states", save_as_the_original)
    states = {index: state.astype("float64") for index, state in trainer._updaters[0].states.items()}
    (tmp_path / "a.states").write_bytes(pickle.dumps((states, trainer.optimizer)))
    with pytest.raises(InputError, match=r"has float64 5x4 for \S+, but this network needs float32 5x4"):
        load_states(trainer_of(network()), str(tmp_path / "a.states"))


def test_states_of_a_run_in_another_number_format(tmp_path):
    net = Halves()
    net.initialize()
    trainer = trainer_of(net, multi_precision=True)
    with autograd.record():
        loss = net(mx.nd.ones((3, 4)))
    loss.backward()
    trainer.step(1)
    save_states(trainer, str(tmp_path / "a.states"))
    net.cast("float32")
    with pytest.raises(
        InputError, match=r"\(float32 3x4, float32 3x4\) for \S+, but this run needs float32 3x4.*--dtype"
    ):
        load_states(trainer_of(net), str(tmp_path / "a.states"))


def test_one_array_under_many_numbers_is_not_copied(tmp_path):
    """As much memory as the file has: 40 GB otherwise."""
    net = network()
    trainer = trainer_of(net, lr_scheduler=original_schedule(schedule()))
    train(net, trainer, 0, 1)
    array = mx.nd.zeros((10**6,))
    content = (dict.fromkeys(range(10**4), array), trainer.optimizer)
    (tmp_path / "a.states").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="10000 parameters, but this run trains 3"):
        load_states(trainer_of(network()), str(tmp_path / "a.states"))


def loads(trainer, path):
    """Whether the file is loaded; a refusal has to be an InputError."""
    try:
        load_states(trainer, str(path))
    except InputError:
        return False
    return True


def test_damaged_files_are_refused_or_harmless(small):
    """A crash of MXNet would end this process; what still loads fits the network, with other numbers."""
    fresh, path, content = small
    chance = random.Random(5)
    loaded = 0
    for variant in range(600):
        damaged = bytearray(content)
        if variant % 3 == 0:
            del damaged[chance.randrange(len(damaged)) :]
        elif variant % 3 == 1:
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        else:
            start = chance.randrange(len(damaged))
            damaged[start : start + 4] = bytes(chance.randrange(256) for _ in range(4))
        path.write_bytes(damaged)
        loaded += loads(fresh, path)
    assert loaded < 200  # bits of the momentum's values, and of the optimizer's unused attributes


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_parameter_has_had_the_updates_of_the_device_with_the_most(order, tmp_path):
    """Whichever of them the file names last."""
    _, trainer, _ = begun(tmp_path / "a.states", save_as_the_original)
    all_counts = trainer.optimizer._index_update_count
    behind = {index: count - 1 for index, count in all_counts.items()}
    trainer.optimizer._all_index_update_counts = {device: (all_counts, behind)[device] for device in order}
    trainer.save_states(str(tmp_path / "a.states"))
    fresh = trainer_of(network())
    assert load_states(fresh, str(tmp_path / "a.states")) == STEPS
    assert set(fresh.optimizer._index_update_count.values()) == {STEPS}


def test_counts_from_before_mxnet_counted_by_device(tmp_path):
    _, trainer, _ = begun(tmp_path / "a.states", save_as_the_original)
    del trainer.optimizer._all_index_update_counts
    trainer.save_states(str(tmp_path / "a.states"))
    assert load_states(trainer_of(network()), str(tmp_path / "a.states")) == STEPS


def test_states_without_their_optimizer(tmp_path):
    _, trainer, _ = begun(tmp_path / "a.states", save_as_the_original)
    (tmp_path / "a.states").write_bytes(trainer._updaters[0].get_states(dump_optimizer=False))
    with pytest.raises(InputError, match="does not hold states and their optimizer"):
        load_states(trainer_of(network()), str(tmp_path / "a.states"))
