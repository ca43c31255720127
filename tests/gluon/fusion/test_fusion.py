"""Fusions against the paper's equations, evaluated in NumPy."""

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.fusion_equations import weight
from shared_by_tests.initialised import random_parameters

from gluon_aff.errors import InputError
from gluon_aff.gluon import fusion
from gluon_aff.gluon.fusion import AFF, MSCAM, DirectAdd, Fusing, iAFF
from gluon_aff.gluon.fusion.context import add_to_maps, global_mean
from gluon_aff.operators import OPERATORS, fusion_operator

CHANNELS, R = 8, 4


def features(seed, size=5):
    return np.random.default_rng(seed).normal(size=(2, CHANNELS, size, size)).astype("float32")


def expected_mscam(p, x):
    return x * weight(p, x)


def expected_aff(p, x, y):
    w = weight(p, x + y)
    return 2 * (x * w + y * (1 - w))


def expected_iaff(p, x, y):
    first = weight(p, x + y)
    second = weight(p, x * first + y * (1 - first), "2")
    return x * second + y * (1 - second)


def expected_sum(p, x, y):
    return x + y


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize(
    ("block", "expected", "inputs"),
    [(MSCAM, expected_mscam, 1), (AFF, expected_aff, 2), (iAFF, expected_iaff, 2), (DirectAdd, expected_sum, 2)],
)
def test_equation(block, expected, inputs, hybrid):
    net = block(CHANNELS, R)
    parameters = random_parameters(net)
    if hybrid:
        net.hybridize()
    arrays = [features(seed) for seed in range(inputs)]
    output = net(*map(mx.nd.array, arrays)).asnumpy()
    np.testing.assert_allclose(output, expected(parameters, *arrays), rtol=1e-4, atol=1e-5)


def test_scale_1_is_the_papers_equation_4():
    published, paper = AFF(CHANNELS, R), AFF(CHANNELS, R, scale=1)
    random_parameters(published)
    random_parameters(paper)
    x, y = mx.nd.array(features(0)), mx.nd.array(features(1))
    np.testing.assert_allclose(published(x, y).asnumpy(), 2 * paper(x, y).asnumpy(), rtol=1e-6)


@pytest.mark.parametrize(("block", "share"), [(AFF, 1.0), (iAFF, 0.5)])
def test_indifferent_attention_weighs_both_equally(block, share):
    """Attention weights of zero make w = 1/2: AFF is then x + y, iAFF (x + y) / 2 (paper_spec 1.7)."""
    net = block(CHANNELS, R)
    net.initialize(mx.init.Zero())
    x, y = features(0), features(1)
    np.testing.assert_allclose(net(mx.nd.array(x), mx.nd.array(y)).asnumpy(), share * (x + y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [AFF, iAFF])
def test_every_parameter_gets_a_gradient(block):
    net = block(CHANNELS, R)
    random_parameters(net)
    x, y = mx.nd.array(features(0)), mx.nd.array(features(1))
    with mx.autograd.record():
        loss = (net(x, y) * mx.nd.array(features(2))).sum()
    loss.backward()
    trained = {n: p for n, p in net._collect_params_with_prefix().items() if p.grad_req != "null"}
    # A bias before a BatchNorm has no effect on the loss.
    silent = [n for n, p in trained.items() if not p.grad().asnumpy().any() and not n.endswith("bias")]
    assert silent == []


@pytest.mark.parametrize("block", [AFF, iAFF])
def test_parameter_count(block):
    """Each branch: 2Ck + 3k + 3C trainable, k = C / r (paper_spec 1.1); the original's r is 4."""
    net = block(64)
    branches = 4 if block is iAFF else 2
    trainable = sum(np.prod(p.shape) for p in net.collect_params().values() if p.grad_req != "null")
    assert trainable == branches * (2 * 64 * 16 + 3 * 16 + 3 * 64)


def test_names_of_paper_and_original():
    assert fusion.ASKCFuse is AFF
    assert fusion.ResGlobLocaforGlobLocaCha is iAFF
    for flag, name in {
        "ASKCFuse": "AFF",
        "ResGlobLocaforGlobLocaCha": "iAFF",
        "DirectAdd": "Add",
        "Global+Local": "AFF",
        "ResLocalLocaCha": "Local+Local",  # so misspelt in one of the first release's networks
        "ResLocaLocaCha": "Local+Local",
    }.items():
        assert fusion_operator(flag) is fusion_operator(name) is OPERATORS[name]


def test_unknown_fusion_is_named_with_a_suggestion():
    with pytest.raises(InputError, match=r"unknown fusion \(--fusion, --askc-type\) 'ASKCFus': did you mean ASKCFuse"):
        Fusing("ASKCFus")(8)


def test_reduction_that_leaves_no_channel():
    with pytest.raises(InputError, match="r=16 leaves no channel of 8"):
        AFF(8, 16)


def test_one_image_in_training_silences_the_global_context():
    """BatchNorm over a single value returns beta: the warning of `train_cifar.py` rests on this."""
    net = AFF(CHANNELS, R)
    random_parameters(net)
    x = mx.nd.array(features(0)[:1])
    with mx.autograd.train_mode():
        context = net.global_att(x).asnumpy()[0, :, 0, 0]
    np.testing.assert_allclose(context, net.global_att[5].beta.data().asnumpy(), atol=1e-6)


SIZES = pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (32, 32)])


@SIZES
def test_global_mean(size):
    maps = np.random.default_rng(0).normal(size=(3, 4, *size))
    x = mx.nd.array(maps)
    x.attach_grad()
    with mx.autograd.record():
        mean = global_mean(mx.nd, x)
    np.testing.assert_allclose(mean.asnumpy(), maps.mean(axis=(2, 3), keepdims=True), rtol=1e-5, atol=1e-6)
    weights = np.random.default_rng(1).normal(size=mean.shape)
    mean.backward(mx.nd.array(weights))
    expected = np.broadcast_to(weights / np.prod(size), maps.shape)
    np.testing.assert_allclose(x.grad.asnumpy(), expected, rtol=1e-5, atol=1e-7)


@SIZES
def test_add_to_maps(size):
    rng = np.random.default_rng(0)
    maps, values, weights = (rng.normal(size=shape) for shape in ((3, 4, *size), (3, 4, 1, 1), (3, 4, *size)))
    x, y = mx.nd.array(maps), mx.nd.array(values)
    x.attach_grad()
    y.attach_grad()
    with mx.autograd.record():
        total = add_to_maps(mx.nd, x, y)
    np.testing.assert_allclose(total.asnumpy(), maps + values, rtol=1e-5, atol=1e-6)
    total.backward(mx.nd.array(weights))
    np.testing.assert_allclose(x.grad.asnumpy(), weights, rtol=1e-6)
    np.testing.assert_allclose(y.grad.asnumpy(), weights.sum(axis=(2, 3), keepdims=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [AFF, iAFF])
def test_constants_take_the_type_of_the_input(block):
    """float16 cannot run on CPUs, but MXNet says which types it would have: a float32 constant would not fit."""
    net = block(CHANNELS, R)
    net.cast("float16")
    graph = net(mx.sym.var("x"), mx.sym.var("residual"))
    _, outputs, _ = graph.infer_type(x=np.float16, residual=np.float16)
    assert outputs == [np.float16]
