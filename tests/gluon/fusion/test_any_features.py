"""Fusion of any number of features of any width and size."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from shared_by_tests.fusion_equations import batch_norm, below, bottleneck, convolution, pooled, stretched, weight
from shared_by_tests.initialised import random_parameters

from gluon_aff.errors import InputError
from gluon_aff.gluon.fusion import FeatureFusion
from gluon_aff.operators import OPERATORS


def maps(seed, channels, height=4, width=6, batch=2):
    return np.random.default_rng(seed).normal(size=(batch, channels, height, width)).astype("float32")


@pytest.mark.parametrize("hybrid", [False, True])
def test_two_features_of_other_width_and_size(hybrid):
    """Y is resized, projected (1x1, norm, ReLU), and fused with X by Eq. 4, times 2."""
    net = FeatureFusion([8, 12], norm=nn.BatchNorm)
    values = random_parameters(net)
    net.hybridize(hybrid)
    x, y = maps(0, 8), maps(1, 12, 2, 3)
    output = net(mx.nd.array(x), mx.nd.array(y)).asnumpy()
    y = np.maximum(batch_norm(values, "projections.1.1", convolution(values, "projections.1.0", y)), 0)
    y = stretched(y, 4, 6)
    w = weight(below(values, "fuse.fusions.0."), x + y)
    np.testing.assert_allclose(output, 2 * (w * y + (1 - w) * x), rtol=1e-4, atol=1e-4)


def test_a_chain_fuses_from_the_last_to_the_first():
    net = FeatureFusion([8, 8, 8], operator="MS-SA", norm=nn.BatchNorm)
    values = random_parameters(net)
    x, y, z = (maps(seed, 8) for seed in range(3))
    output = net(*map(mx.nd.array, (x, y, z))).asnumpy()
    fused = weight(below(values, "fuse.fusions.0."), y + z) * y + z
    expected = weight(below(values, "fuse.fusions.1."), x + fused) * x + fused
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hybrid", [False, True])
def test_softmax_over_three(hybrid):
    net = FeatureFusion([8, 8, 8], way="softmax", norm=nn.BatchNorm)
    values = below(random_parameters(net), "fuse.")
    net.hybridize(hybrid)
    features = np.stack([maps(seed, 8) for seed in range(3)])
    total = features.sum(axis=0)
    logits = bottleneck(values, "local_att", total) + bottleneck(values, "global_att", pooled(total), first=1)
    exponents = np.exp(logits.reshape(2, 3, 8, 4, 6).swapaxes(0, 1))
    expected = 3 * (features * exponents / exponents.sum(axis=0)).sum(axis=0)
    np.testing.assert_allclose(net(*map(mx.nd.array, features)).asnumpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", ["chain", "softmax"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_equal_weights_make_a_sum_of_the_softmax_and_of_each_pair(way, count):
    net = FeatureFusion([4] * count, way=way, r=2)
    net.initialize(mx.init.Zero())
    features = [maps(seed, 4) for seed in range(count)]
    np.testing.assert_allclose(net(*map(mx.nd.array, features)).asnumpy(), sum(features), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", ["chain", "softmax"])
def test_one_image_trains_the_global_context(way):
    """BatchNorm would return its beta, and no gradient reach the branch."""
    net = FeatureFusion([8, 16, 4], 8, way=way)
    net.initialize(mx.init.Xavier())
    features = [mx.nd.array(maps(i, c, 8 >> i, 8 >> i, batch=1)) for i, c in enumerate((8, 16, 4))]
    with mx.autograd.record():
        loss = net(*features).square().sum()
    loss.backward()
    gradients = {n: p.grad().asnumpy() for n, p in net._collect_params_with_prefix().items() if "global_att" in n}
    assert gradients
    assert all(np.isfinite(each).all() for each in gradients.values())
    assert all(each.any() for name, each in gradients.items() if name.endswith("weight"))


@pytest.mark.parametrize("operator", OPERATORS)
def test_any_operator(operator):
    net = FeatureFusion([6, 9], 8, operator)
    net.initialize(mx.init.Xavier())
    x, y = mx.nd.array(maps(0, 6)), mx.nd.array(maps(1, 9, 3, 2))
    eager = net(x, y).asnumpy()
    net.hybridize()
    assert eager.shape == (2, 8, 4, 6)
    np.testing.assert_allclose(net(x, y).asnumpy(), eager, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": [8]}, r"in_channels=\[8\]: a fusion takes two features or more"),
        ({"in_channels": [8, 8], "way": "chains"}, "unknown way to fuse 'chains': did you mean chain"),
        ({"in_channels": [8, 8], "r": 16}, "r=16 leaves no channel of 8"),
        ({"in_channels": [8, 8], "operator": "aff"}, "unknown fusion"),
    ],
)
def test_what_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        FeatureFusion(**arguments)
