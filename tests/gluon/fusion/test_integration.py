"""AFI against the second paper's Eqs. 1 and 2 in NumPy, and attention on one feature."""

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.fusion_equations import sigmoid
from shared_by_tests.initialised import random_parameters

from gluon_aff.errors import InputError
from gluon_aff.gluon.fusion.channel_attention import CBAM, CHANNEL_ATTENTIONS, ECA, GE, SE
from gluon_aff.gluon.fusion.integration import AFI

CHANNELS = 8


def features(count, channels=CHANNELS, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 2, channels, 5, 3)).astype("float32")


def expected_afi(p, each):
    means = each.mean(axis=(3, 4))  # (n, N, C)
    scores = np.maximum(means @ p["reduce.weight"].T, 0) @ p["score.weight"].T
    weights = np.exp(scores) / np.exp(scores).sum(axis=0)
    return (weights[..., None, None] * each).sum(axis=0)


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_equation(count, hybrid):
    net = AFI(CHANNELS, r=4)
    p = random_parameters(net)
    net.hybridize(hybrid)
    each = features(count)
    np.testing.assert_allclose(net(*map(mx.nd.array, each)).asnumpy(), expected_afi(p, each), rtol=1e-4, atol=1e-5)


def test_of_one_feature_it_is_that_feature():
    net = AFI(CHANNELS, r=4)
    random_parameters(net)
    (only,) = features(1)
    np.testing.assert_array_equal(net(mx.nd.array(only)).asnumpy(), only)


def test_parameters_do_not_grow_with_the_features():
    """2 m h (afinets_spec, Section 1)."""
    assert {name: p.shape for name, p in AFI(64, 4)._collect_params_with_prefix().items()} == {
        "reduce.weight": (16, 64),
        "score.weight": (64, 16),
    }
    assert AFI(8, 16).reduce.weight.shape == (1, 8)


def test_gradients_reach_all_features_and_the_scorer():
    net = AFI(CHANNELS, r=2)
    random_parameters(net)
    arrays = [mx.nd.array(each) for each in features(3)]
    for array in arrays:
        array.attach_grad()
    with mx.autograd.record():
        (net(*arrays) * mx.nd.array(features(1, seed=1)[0])).sum().backward()
    assert all(array.grad.asnumpy().any() for array in arrays)
    assert all(p.grad().asnumpy().any() for p in net.collect_params().values())


def test_no_channels():
    with pytest.raises(InputError, match="AFI of 0 channels"):
        AFI(0, 4)
    assert AFI(1, 4).score.weight.shape == (1, 1)


def relu(z):
    return np.maximum(z, 0)


def excited(p, vector):
    first, second = (p[f"excitation.{layer}.weight"][:, :, 0, 0] for layer in (0, 2))
    return relu(vector @ first.T) @ second.T


def expected_se(p, x):
    return x * sigmoid(excited(p, x.mean(axis=(2, 3))))[..., None, None]


def expected_ge(p, x):
    return x * sigmoid(x.mean(axis=(2, 3)))[..., None, None]


def expected_cbam(p, x):
    x = x * sigmoid(excited(p, x.mean(axis=(2, 3))) + excited(p, x.max(axis=(2, 3))))[..., None, None]
    both = np.stack([x.mean(axis=1), x.max(axis=1)], axis=1)
    padded = np.pad(both, ((0, 0), (0, 0), (3, 3), (3, 3)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(2, 3))
    return x * sigmoid(np.einsum("nchwij,cij->nhw", windows, p["spatial.weight"][0]))[:, None]


def expected_eca(p, x):
    kernel = p["neighbours.weight"][0, 0, 0]
    means = np.pad(x.mean(axis=(2, 3)), ((0, 0), (len(kernel) // 2,) * 2))
    return x * sigmoid(np.lib.stride_tricks.sliding_window_view(means, len(kernel), axis=1) @ kernel)[..., None, None]


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize(
    ("block", "expected"), [(SE, expected_se), (GE, expected_ge), (CBAM, expected_cbam), (ECA, expected_eca)]
)
def test_attention_on_one_feature(block, expected, hybrid):
    assert CHANNEL_ATTENTIONS[block.__name__] is block
    net = block(32)
    p = random_parameters(net)
    net.hybridize(hybrid)
    (x,) = features(1, 32)
    np.testing.assert_allclose(net(mx.nd.array(x)).asnumpy(), expected(p, x), rtol=1e-4, atol=1e-5)
