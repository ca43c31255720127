"""States that are written without MXNet are those that MXNet writes, and MXNet goes on from them."""

import io
import pickle

import mxnet as mx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mxnet import autograd, gluon
from shared_by_tests.original_schedule import original_schedule

from gluon_aff.engines import Optimizer
from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.schedule import Schedule
from gluon_aff.weights.optimizer_states import (
    CLASSES,
    ArrayKind,
    fitting_states,
    gluoncv_scheduler,
    named_arrays,
    optimizer_attributes,
    state_of,
)
from gluon_aff.weights.states_format import write_states
from gluon_aff.weights.states_pickle import read_pickle

MODES = ("cosine", "poly", "step", "linear", "constant")
RATES = {"fixed": 0.1, **{mode: Schedule(mode, 0.1, 2, 8, 3, (3, 5), 0.5, 1.5) for mode in MODES}}
BATCH = 3


class Products(gluon.HybridBlock):
    """A float16 weight in an operation that CPUs have for it, one that does not train, and a float32 one."""

    def __init__(self):
        super().__init__(prefix="products_")
        self.first = self.params.get("first", shape=(3, 4), dtype="float16", init=mx.init.One())
        self.fixed = self.params.get("fixed", shape=(4,), init=mx.init.One(), grad_req="null")
        self.last = self.params.get("last", shape=(4,), init=mx.init.One())

    def hybrid_forward(self, F, x, first, fixed, last):
        return F.broadcast_mul(x * F.cast(first, "float32"), F.expand_dims(last * fixed, 0)).square().sum()


def products():
    net = Products()
    net.initialize()
    return net


def trainer_of(net, optimizer, multi_precision):
    rate = optimizer.rate
    options = {"learning_rate": rate} if rate == 0.1 else {"lr_scheduler": original_schedule(rate)}
    options.update(wd=optimizer.wd, momentum=optimizer.momentum, multi_precision=multi_precision)
    return gluon.Trainer(net.collect_params(), optimizer.name, options)


def train(net, trainer, first, steps):
    for step in range(first, first + steps):
        with autograd.record():
            loss = net(mx.nd.array(np.random.RandomState(step).rand(3, 4)))
        loss.backward()
        trainer.step(BATCH)


def numpy_state(state):
    return tuple(map(numpy_state, state)) if isinstance(state, tuple) else state if state is None else state.asnumpy()


def written(trainer, optimizer, steps, multi_precision, path):
    """The states of the trainer, written without MXNet."""
    states = {index: numpy_state(state) for index, state in trainer._updaters[0].states.items()}
    attributes = optimizer_attributes(optimizer, steps, [0, 2], BATCH, multi_precision)
    write_states(str(path), CLASSES[optimizer.name], states, attributes)
    return path.read_bytes()


def tree(content):
    return read_pickle("a.states", io.BytesIO(content))


@pytest.mark.parametrize("steps", [0, 1, 4, 9, 30])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("multi_precision", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["nag", "sgd"])
@pytest.mark.filterwarnings("ignore:Accumulating with float16:UserWarning")
def test_the_file_says_what_mxnets_says(name, momentum, multi_precision, rate, steps, tmp_path):
    net, optimizer = products(), Optimizer(name, RATES[rate], 1e-4, momentum)
    trainer = trainer_of(net, optimizer, multi_precision)
    train(net, trainer, 0, steps)
    trainer.save_states(str(tmp_path / "mxnet.states"))
    found = tree(written(trainer, optimizer, steps, multi_precision, tmp_path / "a.states"))
    assert found == tree((tmp_path / "mxnet.states").read_bytes())
    assert len(found[0]) == (2 if steps else 0)


@pytest.mark.parametrize("rate", ["fixed", "cosine"])
@pytest.mark.parametrize("multi_precision", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["nag", "sgd"])
@pytest.mark.filterwarnings("ignore:Accumulating with float16:UserWarning")
def test_mxnet_goes_on_to_the_same_weights(name, momentum, multi_precision, rate, tmp_path):
    net, optimizer = products(), Optimizer(name, RATES[rate], 1e-4, momentum)
    trainer = trainer_of(net, optimizer, multi_precision)
    train(net, trainer, 0, 9)
    written(trainer, optimizer, 9, multi_precision, tmp_path / "a.states")
    net.save_parameters(str(tmp_path / "a.params"))
    train(net, trainer, 9, 5)
    resumed = products()
    resumed.load_parameters(str(tmp_path / "a.params"))
    fresh = trainer_of(resumed, Optimizer(name, 0.1, 0.5, 0.3), multi_precision)
    fresh.load_states(str(tmp_path / "a.states"))
    train(resumed, fresh, 9, 5)
    for one, other in zip(net.collect_params().values(), resumed.collect_params().values()):
        np.testing.assert_array_equal(one.data().asnumpy(), other.data().asnumpy())
    assert fresh.optimizer._index_update_count is fresh.optimizer._all_index_update_counts[0]


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Schedule,
        mode=st.sampled_from(MODES),
        base=st.floats(1e-6, 10),
        warmup_epochs=st.integers(0, 4),
        num_epochs=st.integers(1, 5),
        steps_per_epoch=st.integers(1, 4),
        cuts=st.lists(st.integers(-10, 8), max_size=4).map(tuple),
    ),
    st.integers(0, 25),
)
@example(Schedule("cosine", 0.1, 1, 1, 1), 3)  # one step, of the warm-up
@example(Schedule("cosine", 0.1, 1, 2, 1), 3)  # a warm-up of one step, number 0, for which no rate is asked
@example(Schedule("cosine", 0.1, 3, 1, 4), 25)  # never through the warm-up
@example(Schedule("linear", 0.1, 0, 1, 1), 3)
def test_the_schedule_is_gluoncvs_after_any_number_of_updates(schedule, updates):
    original = original_schedule(schedule)
    for update in range(1, updates + 1):
        original(update)
    assert gluoncv_scheduler(schedule, updates) == tree(pickle.dumps(original, 3))


def test_arrays_of_a_state_have_names_and_come_back():
    momentum, copy = object(), object()
    for state in (None, momentum, (None, copy), (momentum, copy)):
        assert state_of("a.weight", state, named_arrays("a.weight", state)) == state
    assert list(named_arrays("a.weight", (None, copy))) == ["a.weight:1"]
    with pytest.raises(KeyError, match=r"a\.weight:0"):
        state_of("a.weight", (momentum, copy), {"a.weight:1": copy})


ONE, HALF = ArrayKind((2, 3), np.dtype("f4")), ArrayKind((2, 3), np.dtype("f2"))
VALUES = np.arange(6, dtype="f").reshape(2, 3)


def saved_states(tmp_path, states, updates=3):
    """The path of a file with these states."""
    counts = {0: dict.fromkeys(states, updates)} if updates else {}
    path = str(tmp_path / "a.states")
    write_states(path, "NAG", states, {"num_update": updates, "_all_index_update_counts": counts})
    return path


@pytest.mark.parametrize(
    ("kind", "state"), [(None, None), (ONE, VALUES), ((ONE, ONE), (VALUES, VALUES)), ((None, ONE), (None, VALUES))]
)
def test_states_that_fit_are_read(kind, state, tmp_path):
    found = fitting_states(saved_states(tmp_path, {0: None, 5: state}), "NAG", {0: ("b", None), 5: ("a", kind)})
    assert repr(found.states[5]) == repr(state)


@pytest.mark.parametrize(
    ("kind", "state", "message"),
    [
        ((ONE, ONE), VALUES, "float32 2x3 for a, but this run needs (float32 2x3, float32 2x3): give --momentum and"),
        ((ONE, ONE), (VALUES,), "(float32 2x3) for a, but this run needs (float32 2x3, float32 2x3): give"),
        (ONE, (None, VALUES), "(nothing, float32 2x3) for a, but this run needs float32 2x3: give"),
        (ONE, None, "nothing for a, but this run needs float32 2x3: give"),
        (None, VALUES, "float32 2x3 for a, but this run needs nothing: give"),
        ((None, HALF), (None, VALUES), "float32 2x3 for a, but this network needs float16 2x3: name"),
        (ONE, VALUES.T, "float32 3x2 for a, but this network needs float32 2x3: name"),
        ((None, ONE), (None, VALUES * np.nan), "NaN or infinity for a: use states from before"),
    ],
)
def test_states_that_do_not_fit_are_described(kind, state, message, tmp_path):
    path = saved_states(tmp_path, {0: None, 5: state})
    with pytest.raises(InputError) as error:
        fitting_states(path, "NAG", {0: ("b", None), 5: ("a", kind)})
    assert str(error.value).startswith(f"{path} has {message}")


def test_states_of_other_parameters_or_of_another_optimizer_do_not_fit(tmp_path):
    expected = {0: ("a", None)}
    assert fitting_states(saved_states(tmp_path, {}, 0), "NAG", expected).states == {}
    for states, updates in (({}, 3), ({5: None}, 3), ({5: None}, 0), ({0: None, 5: None}, 3)):
        path = saved_states(tmp_path, states, updates)
        with pytest.raises(InputError, match=rf"has states of {len(states)} parameters, but this run trains 1: name"):
            fitting_states(path, "NAG", expected)
    with pytest.raises(InputError, match=r"has states of NAG, but this run's optimizer is SGD: name"):
        fitting_states(path, "SGD", expected)


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "a.states"
    path.write_bytes(b"before")
    with pytest.raises(GluonAFFError, match="cast it to float32"):
        write_states(str(path), "NAG", {0: np.zeros(2), 1: np.zeros(2, complex)}, {})
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"before", [path])
