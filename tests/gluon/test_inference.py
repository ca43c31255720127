"""Inference on several devices and of several types; the copy of a network that is faster on the CPU."""

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.exported_networks import NETWORKS, filled, network_and_card

from gluon_aff.gluon.inference import fused, inference, network_dtype
from gluon_aff.gluon.networks.zoo import BUILDERS
from gluon_aff.operators import OPERATORS

# a short batch after a long one, the long one again, other sizes
SHAPES = [(1, 3, 64, 64), (6, 3, 32, 32), (2, 3, 32, 32), (6, 3, 32, 32), (1, 3, 97, 71), (1, 3, 64, 64)]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_fused_networks_have_the_same_logits_at_every_shape(name):
    net, _ = network_and_card(name)
    faster = fused(net)
    for seed, shape in enumerate(SHAPES):
        images = mx.nd.array(np.random.default_rng(seed).normal(size=shape))
        expected = net(images).asnumpy()
        for _ in range(2):
            np.testing.assert_allclose(faster(images).asnumpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("operator", "host"),
    [*((each, "cifar_resnet") for each in OPERATORS), ("AFF", "cifar_resnext"), ("AFF", "cifar_inception")],
)
def test_every_fusion_stays_what_it_is(operator, host):
    """MXNet's own rewriting of sums gave other logits for MS-SA and Add, or an error."""
    net = filled(BUILDERS[host](operator, blocks=1, channel_times=1, classes=7), 32)
    images = mx.nd.array(np.random.default_rng(0).normal(size=(3, 3, 32, 32)))
    expected = net(images).asnumpy()
    np.testing.assert_allclose(fused(net)(images).asnumpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_convolution_and_batchnorm_are_one(tmp_path):
    net, _ = network_and_card("AFF-ResNet, ImageNet")
    faster = fused(net)
    faster(mx.nd.zeros((1, 3, 64, 64)))
    faster.export(str(tmp_path / "fused"))
    text = (tmp_path / "fused-symbol.json").read_text()
    assert '"op": "_sg_mkldnn_conv"' in text
    assert text.count('"op": "BatchNorm"') <= text.count('"op": "_sg_mkldnn_conv"')


def test_fusing_leaves_the_network_as_it_is():
    net, _ = network_and_card("AFF-ResNet, CIFAR")
    images = mx.nd.random.normal(shape=(2, 3, 32, 32))
    before = net(images).asnumpy()
    faster = fused(net)
    kept = faster(images).asnumpy()
    assert np.array_equal(net(images).asnumpy(), before)
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    with mx.autograd.record():
        loss = net(images).square().sum()
    loss.backward()
    trainer.step(1)
    mx.nd.waitall()
    assert not np.array_equal(net(images).asnumpy(), before)
    assert np.array_equal(faster(images).asnumpy(), kept)


def test_several_devices_share_a_batch():
    contexts = [mx.cpu(0), mx.cpu(1)]
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Flatten(), mx.gluon.nn.Dense(4, in_units=12))
    net.initialize(ctx=contexts)
    images = np.random.default_rng(0).normal(size=(5, 3, 2, 2)).astype("float32")
    expected = net(mx.nd.array(images)).asnumpy()
    for count in (5, 1):
        np.testing.assert_allclose(inference(net, contexts)(images[:count])(), expected[:count], rtol=1e-5, atol=1e-6)


def test_a_float16_network_is_given_float16_images():
    """On the CPU, MXNet has no dense layer and no convolution of float16."""
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.BatchNorm(in_channels=3), mx.gluon.nn.PReLU())
    net.initialize()
    images = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype("float32")
    single = inference(net, [mx.cpu()])(images)()
    net.cast("float16")
    assert network_dtype(net) == np.float16
    assert np.dtype(net[0].gamma.dtype) == np.float32
    half = inference(net, [mx.cpu()])(images)()
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, single, rtol=1e-2)
    assert not np.array_equal(half, single)


def test_a_network_without_parameters_is_float32():
    assert network_dtype(mx.gluon.nn.Flatten()) == np.float32
