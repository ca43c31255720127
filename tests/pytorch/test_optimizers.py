"""The optimizers against MXNet's, over hundreds of steps with learning rates that change."""

import mxnet as mx
import numpy as np
import pytest
import torch
from mxnet import gluon

from gluon_aff import engines
from gluon_aff.gluon.schedule import Scheduler
from gluon_aff.pytorch.optimizers import MOMENTUM, NAG, SGD, AdaGrad, make_optimizer
from gluon_aff.schedule import Schedule

STEPS = 300
SCHEDULE = Schedule("cosine", 0.1, warmup_epochs=3, num_epochs=30, steps_per_epoch=10)
SHAPES = {"body.0.weight": (4, 3, 3, 3), "body.0.bias": (4,), "body.1.gamma": (4,), "body.1.beta": (4,)}


class Parameters(gluon.Block):
    """Parameters by names that `collect_params` finds as they are."""

    def __init__(self):
        super().__init__(prefix="")
        for name, shape in SHAPES.items():
            setattr(self, name.replace(".", "_"), self.params.get(name.replace(".", "_"), shape=shape))


def after_training(name, momentum, no_wd, steps=STEPS):
    """The weights after the same gradients in both engines: MXNet's and ours, by name, with the momentum."""
    random = np.random.RandomState(0)
    start = {key: random.normal(size=shape).astype("float32") for key, shape in SHAPES.items()}
    theirs = Parameters()
    theirs.initialize()
    ours = {key: torch.nn.Parameter(torch.from_numpy(array.copy())) for key, array in start.items()}
    if no_wd:
        for each in theirs.collect_params(".*beta|.*gamma|.*bias").values():
            each.wd_mult = 0.0
    given = {} if name == "adagrad" else {"momentum": momentum}
    options = {"lr_scheduler": Scheduler(SCHEDULE), "wd": 0.01, **given}
    trainer = gluon.Trainer(theirs.collect_params(), name, options)
    arrays = {key: theirs.collect_params()[key.replace(".", "_")] for key in SHAPES}
    for key, parameter in arrays.items():
        parameter.set_data(mx.nd.array(start[key]))
    optimizer = make_optimizer(engines.Optimizer(name, SCHEDULE, 0.01, given.get("momentum"), no_wd), ours)
    assert {group["lr"] for group in optimizer.param_groups} == {trainer.learning_rate}
    for update in range(1, steps + 1):
        gradients = {key: random.normal(size=shape).astype("float32") for key, shape in SHAPES.items()}
        with mx.autograd.record():
            loss = mx.nd.add_n(*((arrays[key].data() * mx.nd.array(gradients[key])).sum() for key in SHAPES))
        loss.backward()
        trainer.step(8)
        for key, gradient in gradients.items():
            ours[key].grad = torch.from_numpy(gradient / 8)
        for group in optimizer.param_groups:
            group["lr"] = SCHEDULE.rate(update)
        optimizer.step()
    assert bool(optimizer.state) == (momentum != 0)  # nothing is kept that nobody needs
    found = {key: each.detach().numpy() for key, each in ours.items()}
    return {key: each.data().asnumpy() for key, each in arrays.items()}, found


@pytest.mark.parametrize("no_wd", [False, True])
@pytest.mark.parametrize(
    ("name", "momentum"), [("nag", 0.9), ("nag", 0.0), ("sgd", 0.9), ("sgd", 0.0), ("adagrad", None)]
)
def test_weights_stay_those_of_mxnet(name, momentum, no_wd):
    expected, found = after_training(name, momentum, no_wd)
    for key in SHAPES:
        np.testing.assert_allclose(found[key], expected[key], rtol=2e-5, atol=2e-6, err_msg=key)


def one_update_of_nag(weight, gradient, momentum, decay):
    """Weight and momentum after an update of ours, and of MXNet's kernel, with a rate and a factor of 0.5."""
    ours = torch.nn.Parameter(torch.tensor([weight]))
    ours.grad = torch.tensor([gradient])
    optimizer = NAG([ours], lr=0.5, momentum=0.5, weight_decay=decay)
    optimizer.kept(MOMENTUM, [ours])[0].fill_(momentum)
    optimizer.step()
    w, g, m = (mx.nd.array([value]) for value in (weight, gradient, momentum))
    mx.nd.nag_mom_update(w, g, m, out=w, lr=0.5, momentum=0.5, wd=decay)
    return (ours.item(), optimizer.state[ours][MOMENTUM].item()), (w.asscalar(), m.asscalar())


def test_nags_terms_are_added_in_the_order_of_mxnets_kernel():
    """3 - 2^24 is exact in float32; 3 + 1.5 * 2^24, which the other order makes first, is not."""
    ours, theirs = one_update_of_nag(3.0, 0.0, 2.0**25, 0.0)
    assert ours == theirs == (8388611.0, 2.0**24)


def test_nags_momentum_decays_the_new_weight():
    """m = momentum m - lr (g + wd w'), in NumPy: w' is what the update makes of w."""
    weight, gradient, momentum, decay = 2.0, 0.5, 0.25, 0.5
    late = 0.5 * momentum
    new = weight - late + 1.5 * (late - 0.5 * (gradient + decay * weight))
    ours, theirs = one_update_of_nag(weight, gradient, momentum, decay)
    assert ours == theirs == (new, late - 0.5 * (gradient + decay * new))


def test_adagrads_epsilon_is_mxnets():
    """Gradients so small that it decides: g / sqrt(g^2 + 1e-7) for g = 1e-4."""
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.tensor([1e-4])
    AdaGrad([weight], lr=1.0).step()
    theirs, history = mx.nd.zeros(1), mx.nd.zeros(1)
    mx.optimizer.create("adagrad", learning_rate=1.0).update(0, theirs, mx.nd.array([1e-4]), history)
    assert weight.item() == pytest.approx(-1e-4 / np.sqrt(1e-8 + 1e-7), rel=1e-5)
    assert weight.item() == pytest.approx(theirs.asscalar(), rel=1e-5)


def test_no_wd_leaves_out_gamma_beta_and_bias_alone():
    parameters = {key: torch.nn.Parameter(torch.ones(2)) for key in SHAPES}
    optimizer = make_optimizer(engines.Optimizer("sgd", 0.5, 0.25, no_wd=True), parameters)
    for each in parameters.values():
        each.grad = torch.zeros(2)
    optimizer.step()
    assert {key: each[0].item() for key, each in parameters.items()} == {
        key: 0.875 if key.endswith("weight") else 1.0 for key in SHAPES
    }


@pytest.mark.parametrize("theirs", [torch.optim.SGD, lambda *given: torch.optim.SGD(*given, nesterov=True)])
def test_pytorch_s_own_momentum_is_another_once_the_rate_changes(theirs):
    """Why there are optimizers of our own: with one rate SGD is the same."""
    kind = NAG if theirs is not torch.optim.SGD else SGD
    ends = {}
    for rates in ((0.1, 0.1, 0.1), (0.1, 0.05, 0.01)):
        for make in (kind, theirs):
            weight = torch.nn.Parameter(torch.ones(1))
            optimizer = make([weight], 0.1, 0.9)
            for rate in rates:
                weight.grad = torch.ones(1)
                optimizer.param_groups[0]["lr"] = rate
                optimizer.step()
            ends[rates, make] = weight.item()
    same, changing = (abs(ends[rates, kind] - ends[rates, theirs]) for rates in ((0.1, 0.1, 0.1), (0.1, 0.05, 0.01)))
    assert same < 1e-6
    assert changing > 0.01


@pytest.mark.parametrize(("make", "theirs"), [(SGD, "SGD"), (NAG, "SGD"), (AdaGrad, "Adagrad")])
def test_without_arguments_there_is_neither_momentum_nor_decay_as_in_pytorch(make, theirs):
    ends = []
    for kind in (make, getattr(torch.optim, theirs)):
        weight = torch.nn.Parameter(torch.ones(1))
        optimizer = kind([weight], 0.25)
        for gradient in (1.0, 2.0, 4.0):
            weight.grad = torch.tensor([gradient])
            optimizer.step()
        ends.append(weight.item())
    assert ends[0] == pytest.approx(ends[1], rel=1e-6)


@pytest.mark.parametrize("make", [SGD, NAG, AdaGrad])
def test_they_are_ordinary_optimizers(make):
    torch.manual_seed(0)  # weights near the minimum would be led past it
    layer = torch.nn.Linear(2, 1)
    optimizer = make(layer.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def loss():
        optimizer.zero_grad()
        value = layer(torch.ones(1, 2)).square().sum()
        value.backward()
        return value

    first, second = optimizer.step(loss).item(), optimizer.step(loss).item()
    schedule.step()
    assert second < first
    assert optimizer.param_groups[0]["lr"] == 0.05
    again = make(layer.parameters(), lr=1.0)
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["lr"] == 0.05
