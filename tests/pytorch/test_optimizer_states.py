"""A run's optimizer states go from either engine to the other: the same names, numbers and files."""

import mxnet as mx
import numpy as np
import pytest
import torch
from mxnet import gluon

from gluon_aff import get_model as gluon_model
from gluon_aff import list_models
from gluon_aff.engines import Optimizer
from gluon_aff.errors import InputError
from gluon_aff.gluon.imports import out_of_sight
from gluon_aff.gluon.optimizer_states import load_states as load_into_gluon
from gluon_aff.gluon.optimizer_states import save_states as save_from_gluon
from gluon_aff.gluon.schedule import Scheduler
from gluon_aff.gluon.trainer_states import state_arrays
from gluon_aff.operators import OPERATORS
from gluon_aff.pytorch import get_model
from gluon_aff.pytorch.gluon_names import gluon_names, in_trainer_order
from gluon_aff.pytorch.networks.layers import ImageNorm
from gluon_aff.pytorch.optimizer_states import load_states, save_states
from gluon_aff.pytorch.parameters import parameter_names
from gluon_aff.schedule import Schedule
from gluon_aff.weights.states_pickle import read_pickle

SCHEDULE = Schedule("cosine", 0.1, 1, 4, 3)
STEPS, BATCH = 4, 2
SMALL = ("resnet20_b1", {"classes": 2})


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """The ImageNet networks have 16 channels and multiples in each stage."""
    for engine in ("gluon", "pytorch"):
        monkeypatch.setattr(f"gluon_aff.{engine}.networks.resnet.WIDTHS", (16, 16, 32, 32))


def in_gluon(name, **arguments):
    """The network as a learner builds it, with names as in a fresh process."""
    with mx.name.NameManager():
        return gluon_model(name, **arguments)


def compare_names(name, **arguments):
    theirs = in_gluon(name, **arguments)._collect_params_with_prefix()
    with torch.device("meta"):  # no values
        ours = get_model(name, **arguments)
    assert gluon_names(ours) == {key: each.name for key, each in theirs.items()}


@pytest.mark.parametrize("name", list_models())
def test_names_of_every_model(name):
    compare_names(name)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("aff_resnet18", {"layers": (2, 1, 1, 1), "start_layer": 1, "dilated": True}),
        ("aff_resnet50", {"layers": (1, 1, 2, 1), "deep_stem": False, "avg_down": False}),
        ("aff_resnext50_32x4d", {"layers": (1, 2, 1, 1), "use_se": True, "start_layer": 2}),
        ("aff_resnext50_32x4d", {"layers": (1, 1, 1, 2), "deep_stem": False}),
        ("resnet20_fpn_b1", {}),
        ("inception_resnet20_b1", {}),
    ],
)
def test_names_with_every_operator(name, arguments, operator):
    compare_names(name, fusion=operator, **arguments)


def test_a_trainer_has_the_parameters_in_that_order():
    """Block 10 comes before block 2."""
    arguments = {"layers": (1, 2, 9, 1)}
    theirs = in_gluon("aff_resnet18", **arguments)
    theirs.initialize(mx.init.Zero())
    names = {each.name: key for key, each in theirs._collect_params_with_prefix().items()}
    trainer = gluon.Trainer(theirs.collect_params(), "sgd")
    assert in_trainer_order(get_model("aff_resnet18", **arguments)) == [names[each.name] for each in trainer._params]


@pytest.mark.parametrize("attention", ["SE", "GE", "CBAM", "ECA"])
@pytest.mark.parametrize("name", ["afi_resnet50", "afi_b_resnet50"])
def test_names_with_every_attention(name, attention):
    compare_names(name, attention=attention, stages=[2, 3])


def trained_in_gluon(optimizer, dtype="float32", steps=STEPS):
    """A Gluon network and its trainer after steps on gradients that depend on the step alone."""
    name, arguments = SMALL
    net = in_gluon(name, **arguments)
    net.cast(dtype)
    net.initialize(mx.init.Xavier())
    net.infer_shape(mx.nd.zeros((1, 3, 32, 32), dtype=dtype))
    for each in net.collect_params().values():
        each._finish_deferred_init()
    trainer = trainer_of(net, optimizer, dtype)
    train(trainer, 0, steps)
    return net, trainer


def trainer_of(net, optimizer, dtype="float32"):
    fixed = isinstance(optimizer.rate, float)
    rate = {"learning_rate": optimizer.rate} if fixed else {"lr_scheduler": Scheduler(optimizer.rate)}
    options = {**rate, "wd": optimizer.wd, "momentum": optimizer.momentum, "multi_precision": dtype != "float32"}
    return gluon.Trainer(net.collect_params(), optimizer.name, options)


def train(trainer, first, steps):
    for step in range(first, first + steps):
        with mx.autograd.record():
            losses = [
                (each.data().astype("float32") * mx.nd.array(np.random.RandomState(step).normal(size=each.shape))).sum()
                for each in trainer._params
                if each.grad_req != "null"
            ]
        mx.autograd.backward(losses)
        trainer.step(BATCH)


def in_torch(dtype=torch.float32):
    name, arguments = SMALL
    return get_model(name, **arguments).to(dtype)


def tree(path):
    with open(path, "rb") as file:
        return read_pickle(path, file)


OPTIMIZERS = [
    Optimizer(name, rate, 1e-4, momentum)
    for name, momentum, rate in (("nag", 0.9, SCHEDULE), ("sgd", 0.9, 0.1), ("nag", 0.0, SCHEDULE), ("sgd", 0.0, 0.1))
]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: f"{optimizer.name}-{optimizer.momentum}")
def test_states_of_gluon_are_read_and_written_back(optimizer, dtype, tmp_path):
    net, trainer = trained_in_gluon(optimizer, dtype)
    theirs, ours = str(tmp_path / "theirs.states"), str(tmp_path / "ours.states")
    save_from_gluon(trainer, theirs)
    halved = dtype == "float16"
    arrays, updates = load_states(theirs, in_torch(), optimizer, halved)
    expected = state_arrays(trainer, net)
    assert (updates, set(arrays)) == (STEPS, set(expected))
    assert bool(arrays) == (halved or optimizer.momentum > 0)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])
    save_states(ours, in_torch(), optimizer, arrays, updates, BATCH, halved)
    assert tree(ours) == tree(theirs)


@pytest.mark.parametrize("load", [load_into_gluon, gluon.Trainer.load_states], ids=["ours", "MXNet's"])
def test_gluon_goes_on_from_states_that_pytorch_writes(load, tmp_path):
    optimizer = OPTIMIZERS[0]
    net, trainer = trained_in_gluon(optimizer)
    path = str(tmp_path / "a.states")
    save_states(path, in_torch(), optimizer, state_arrays(trainer, net), STEPS, BATCH, False)
    net.save_parameters(str(tmp_path / "a.params"))
    train(trainer, STEPS, 3)
    resumed = in_gluon(SMALL[0], **SMALL[1])
    resumed.load_parameters(str(tmp_path / "a.params"))
    fresh = trainer_of(resumed, optimizer)
    with out_of_sight("torch"):  # MXNet's own imports GluonCV
        load(fresh, path)
    train(fresh, STEPS, 3)
    assert fresh.learning_rate == SCHEDULE.rate(STEPS + 3)
    for one, other in zip(net.collect_params().values(), resumed.collect_params().values()):
        np.testing.assert_array_equal(one.data().asnumpy(), other.data().asnumpy())


def test_states_from_before_the_first_update(tmp_path):
    _, trainer = trained_in_gluon(OPTIMIZERS[0], steps=0)
    save_from_gluon(trainer, str(tmp_path / "theirs.states"))
    save_states(str(tmp_path / "ours.states"), in_torch(), OPTIMIZERS[0], {}, 0, BATCH, False)
    assert (tmp_path / "ours.states").read_bytes() == (tmp_path / "theirs.states").read_bytes()
    assert load_states(str(tmp_path / "ours.states"), in_torch(), OPTIMIZERS[0], False) == ({}, 0)


def test_a_parameter_without_gradient_keeps_its_number(tmp_path):
    """Those of the images' BatchNorm, as in Gluon."""
    optimizer = OPTIMIZERS[0]
    net = get_model("resnet20_b1")
    frozen = {name for name, layer in net.named_modules() if isinstance(layer, ImageNorm)}
    assert frozen == {"features.0"}
    names = parameter_names(net)
    arrays = {
        names[key]: np.full(tuple(each.shape), number, np.float32)
        for number, (key, each) in enumerate(net.named_parameters())
        if each.requires_grad
    }
    save_states(str(tmp_path / "a.states"), net, optimizer, arrays, STEPS, BATCH, False)
    theirs = in_gluon("resnet20_b1")
    theirs.initialize()
    theirs.infer_shape(mx.nd.zeros((1, 3, 32, 32)))
    for each in theirs.collect_params().values():
        each._finish_deferred_init()
    trainer = trainer_of(theirs, optimizer)
    assert load_into_gluon(trainer, str(tmp_path / "a.states")) == STEPS
    found = state_arrays(trainer, theirs)
    assert set(found) == set(arrays)
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name])


def test_float64_weights_have_no_copies(tmp_path):
    net, optimizer = in_torch(torch.float64), OPTIMIZERS[0]
    _, trainer = trained_in_gluon(optimizer, "float64")
    save_from_gluon(trainer, str(tmp_path / "a.states"))
    arrays, _ = load_states(str(tmp_path / "a.states"), net, optimizer, False)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float64)}
    with pytest.raises(InputError, match=r"has float64 .*, but this network needs float32"):
        load_states(str(tmp_path / "a.states"), in_torch(), optimizer, False)


@pytest.mark.parametrize(
    ("optimizer", "halved", "message"),
    [
        (Optimizer("sgd", 0.1, 0.0, 0.9), False, "has states of NAG, but this run's optimizer is SGD"),
        (Optimizer("nag", 0.1, 0.0, 0.0), False, "has float32 64 for .*batchnorm1_beta, but this run needs nothing"),
        (
            Optimizer("nag", 0.1, 0.0, 0.9),
            True,
            r"has float32 \S+ for .*conv0_weight, but this run needs \(float32 .*--dtype",
        ),
    ],
)
def test_states_of_another_run_are_refused(optimizer, halved, message, tmp_path):
    _, trainer = trained_in_gluon(OPTIMIZERS[0])
    save_from_gluon(trainer, str(tmp_path / "a.states"))
    with pytest.raises(InputError, match=message):
        load_states(str(tmp_path / "a.states"), in_torch(), optimizer, halved)


def test_states_of_another_network_are_refused(tmp_path):
    _, trainer = trained_in_gluon(OPTIMIZERS[0])
    save_from_gluon(trainer, str(tmp_path / "a.states"))
    with pytest.raises(InputError, match=r"states of \d+ parameters, but this run trains \d+"):
        load_states(str(tmp_path / "a.states"), get_model("aff_resnet18"), OPTIMIZERS[0], False)
    with pytest.raises(InputError, match=r"has float32 2 for \S*dense0_bias, but this network needs float32 100\b"):
        load_states(str(tmp_path / "a.states"), get_model(SMALL[0]), OPTIMIZERS[0], False)


def test_a_missing_array_leaves_no_file(tmp_path):
    with pytest.raises(KeyError):
        save_states(str(tmp_path / "a.states"), in_torch(), OPTIMIZERS[0], {}, STEPS, BATCH, False)
    assert list(tmp_path.iterdir()) == []
