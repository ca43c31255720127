"""The literal formulation computes what ours does: only then is it fair to compare their speed."""

import json

import mxnet as mx
import numpy as np
import pytest

from benchmarks.literal import LiteralAFF, LiteralIAFF, LiteralPool, literal, literal_batch
from gluon_aff import get_model
from gluon_aff.data.cifar.augmentation import augment_batch, draw_epoch, normalise
from gluon_aff.models import list_models

IMAGES = np.random.default_rng(3).integers(0, 256, (48, 32, 32, 3), dtype=np.uint8)


def with_equal_parameters(name, **settings):
    """Ours and the literal network of that name with one set of parameters, far from their initial values."""
    ours, other = (get_model(name, ctx=mx.cpu(), **settings) for _ in range(2))
    literal(other)
    rng = np.random.default_rng(0)
    images = mx.nd.zeros((1, 3, 32, 32))
    for net in (ours, other):
        net(images)
    pairs = zip(ours._collect_params_with_prefix().items(), other._collect_params_with_prefix().items())
    for (our_name, parameter), (other_name, twin) in pairs:
        assert our_name == other_name
        if our_name.endswith(("gamma", "running_var")):
            parameter.set_data(mx.nd.array(rng.uniform(0.5, 1.5, parameter.shape)))
        twin.set_data(parameter.data())
    return ours, other


def kinds(block):
    found = {type(block)}
    return found.union(*map(kinds, block._children.values()))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("aff_resnet32_cifar100", "iaff_resnet50") else pytest.mark.long)
        for name in list_models(published=True)
    ],
)
def test_logits(name):
    ours, other = with_equal_parameters(name)
    for net in (ours, other):
        net.hybridize()
    images = mx.nd.array(np.random.default_rng(1).normal(size=(2, 3, 37, 50)))
    expected = other(images).asnumpy()
    np.testing.assert_allclose(ours(images).asnumpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("fusion", ["AFF", "iAFF"])
def test_gradients(fusion):
    """In float64: in float32, rounding alone moves some of a whole network's gradients by percents."""
    ours, other = with_equal_parameters("aff_resnet32_cifar100", askc_type=fusion, blocks=1, channel_times=1)
    images = mx.nd.array(np.random.default_rng(1).normal(size=(4, 3, 32, 32)), dtype="float64")
    for net in (ours, other):
        net.cast("float64")
        net.hybridize()
        with mx.autograd.record():
            loss = (net(images) ** 2).mean()
        loss.backward()
    for parameter, twin in zip(ours.collect_params().values(), other.collect_params().values()):
        # A bias before a BatchNorm has no effect on the loss: what it gets is rounding.
        if parameter.grad_req != "null" and not parameter.name.endswith("bias"):
            expected = twin.grad().asnumpy()
            assert np.linalg.norm(parameter.grad().asnumpy() - expected) <= 1e-9 * np.linalg.norm(expected)


def test_every_block_that_differs_is_replaced():
    found = kinds(literal(get_model("aff_resnet50"))) | kinds(literal(get_model("iaff_resnet50")))
    assert {LiteralPool, LiteralAFF, LiteralIAFF} < found
    assert not {kind.__base__ for kind in (LiteralPool, LiteralAFF, LiteralIAFF)} & found


def test_operators_of_the_original():
    """One global pooling, one broadcast sum and two broadcast products in a fusion, and none of them in ours."""
    counts = []
    for net in (literal(get_model("aff_resnet32_cifar100")), get_model("aff_resnet32_cifar100")):
        graph = net.features[2][0].attention(mx.sym.var("x"), mx.sym.var("residual"))
        operators = [node["op"] for node in json.loads(graph.tojson())["nodes"]]
        counts.append([operators.count(name) for name in ("Pooling", "broadcast_add", "broadcast_mul")])
    assert counts == [[1, 1, 2], [0, 0, 0]]


@pytest.mark.parametrize("auto_augment", [False, True])
def test_pipeline(auto_augment):
    draws = draw_epoch(seed=5, epoch=2, samples=len(IMAGES))
    ours = normalise(augment_batch(IMAGES, draws, auto_augment))
    result = literal_batch(mx.nd.array(IMAGES, dtype="uint8"), draws, auto_augment)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.asnumpy(), ours, rtol=0, atol=1e-6)


def test_ours_is_left_alone():
    """Replacing blocks of one network does not reach another of the same classes."""
    literal(get_model("aff_resnet50"))
    assert LiteralAFF not in kinds(get_model("aff_resnet50"))
