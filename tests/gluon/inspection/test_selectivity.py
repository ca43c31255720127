"""Class selectivity against hand-set channels and NumPy."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from gluon_aff.engines import Channels
from gluon_aff.errors import DataError, GluonAFFError, InputError
from gluon_aff.gluon.inspection.layers import named_layers
from gluon_aff.gluon.network import GluonNetwork
from gluon_aff.gluon.networks.afi import afi_resnet
from gluon_aff.gluon.networks.zoo import cifar_resnet
from gluon_aff.inspection.selectivity import (
    channels_called,
    class_means,
    class_selectivity,
    default_channels,
)
from gluon_aff.operators import Integration

CPU = [mx.cpu()]


def on_cpu(net):
    return GluonNetwork(net, CPU)


def small_network():
    """1x1 convolution to four channels, ReLU, mean, two outputs; the layers are called 0 to 4."""
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(4, 1, in_channels=3),
        nn.Activation("relu"),
        nn.GlobalAvgPool2D(),
        nn.Flatten(),
        nn.Dense(2, in_units=4),
    )
    net.initialize(mx.init.Xavier())
    return net


def hand_set():
    """Channels: red alone; everything alike; nothing; red, and a third as much green."""
    net = small_network()
    weight = np.zeros((4, 3, 1, 1), "float32")
    weight[0, 0], weight[1], weight[3, :2, 0, 0] = 1, 1, (3, 1)
    net[0].weight.set_data(mx.nd.array(weight))
    net[0].bias.set_data(mx.nd.array([0, 0, -1e6, 0]))
    return net


def batches_of(images, labels, size):
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        yield images[part], labels[part]


def random_images(count, side=8):
    return np.random.default_rng(0).normal(size=(count, 3, side, side)).astype("float32")


def test_hand_set_channels():
    """Class 0 is red, 1 green, 2 blue, with 2, 1 and 3 images; a fourth class has none."""
    labels = np.array([2, 0, 1, 2, 0, 2])
    images = np.zeros((6, 3, 2, 2), "float32")
    images[np.arange(6), labels] = 1
    means = class_means(on_cpu(hand_set()), Channels("1"), batches_of(images, labels, 4), 4)
    np.testing.assert_array_equal(means[:3], [[1, 1, 0, 3], [0, 1, 0, 1], [0, 1, 0, 0]])
    assert np.isnan(means[3]).all()
    found = class_selectivity(means)
    np.testing.assert_allclose(found.index, [1, 0, np.nan, (3 - 0.5) / (3 + 0.5)])
    assert found.preferred[[0, 3]].tolist() == [0, 0]
    np.testing.assert_allclose(found.alive, [1, 0, 2.5 / 3.5])
    assert found.mean == pytest.approx((1 + 2.5 / 3.5) / 3)


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("layer", ["1", "3", "1[1:3]", "1[:2]", "1[3:]"])
def test_against_numpy(layer, devices, hybrid):
    """On batches of one size and of another, split over devices."""
    contexts = [mx.cpu(n) for n in range(devices)]
    net = small_network()
    net.collect_params().reset_ctx(contexts)
    net.hybridize(hybrid)
    images, labels = random_images(23), np.random.default_rng(1).integers(0, 5, 23)
    before = net(mx.nd.array(images)).asnumpy()
    found = class_means(GluonNetwork(net, contexts), channels_called(layer), batches_of(images, labels, 5), 5)
    weight, bias = (net[0].params.get(name).data(contexts[0]).asnumpy() for name in ("weight", "bias"))
    maps = np.einsum("nchw,kc->nkhw", images, weight[:, :, 0, 0]) + bias[:, None, None]
    values = np.maximum(maps, 0).mean(axis=(2, 3))[:, channels_called(layer).begin : channels_called(layer).end]
    expected = np.stack([values[labels == label].mean(axis=0) for label in range(5)])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    for column, index in zip(expected.T, class_selectivity(found).index):
        rest = np.delete(column, column.argmax()).mean()
        assert index == pytest.approx((column.max() - rest) / (column.max() + rest), rel=1e-3)
    np.testing.assert_array_equal(net(mx.nd.array(images)).asnumpy(), before)
    assert net._active is hybrid
    assert not any(layer._forward_hooks for _, layer in named_layers(net))


def test_of_an_integrated_feature():
    """The second block's, which is the first half of the first block's feature."""
    mx.random.seed(0)
    net = afi_resnet(Integration("A", 4), 2, 10)
    net.initialize(mx.init.Xavier())
    images, labels = random_images(12), np.arange(12) % 3
    features = mx.nd.array(images)
    for layer in [*list(net.features)[:3], net.features[3].blocks[0].first]:
        features = layer(features)
    values = features.asnumpy()[:, :8].mean(axis=(2, 3))
    expected = np.stack([values[labels == label].mean(axis=0) for label in range(3)])
    channels = Channels("features.3.blocks.1.integrate")
    found = class_means(on_cpu(net), channels, batches_of(images, labels, 7), 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert ((class_selectivity(found).alive >= 0) & (class_selectivity(found).alive <= 1)).all()


def known(net):
    """With parameters, as networks of weight files."""
    net.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    return on_cpu(net)


def test_default_channels():
    integrating, plain = known(afi_resnet(Integration("A"), 3, 10)), known(afi_resnet(Integration(""), 3, 10))
    last = Channels("features.5.blocks.2.integrate")
    assert default_channels(integrating) == default_channels(integrating, plain) == last
    assert default_channels(plain) == Channels("features.5")
    assert default_channels(plain, integrating) == Channels("features.5.blocks.2.first", 32)
    assert default_channels(plain, integrating, "features.4.blocks.1.integrate") == Channels(
        "features.4.blocks.1.first", 16
    )
    assert default_channels(plain, known(afi_resnet(Integration("B"), 3, 10))) == Channels(
        "features.5.blocks.2.first", 0
    )
    assert default_channels(plain, integrating, "features.5") == Channels("features.5")
    assert default_channels(known(cifar_resnet("AFF", 1, 1)), integrating) == Channels("features.6")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("9", r"unknown layer \(--layer\) '9'"),
        ("0", r"--layer 0: it has negative outputs \(-\d"),
        ("1[2:9]", r"--layer 1\[2:9\]: the layer has channels 0 to 3"),
        ("1[3:3]", r"--layer 1\[3:3\]: the layer has channels 0 to 3"),
    ],
)
def test_layers_that_have_no_index(layer, message):
    with pytest.raises(InputError, match=message):
        class_means(on_cpu(small_network()), channels_called(layer), batches_of(random_images(6), np.arange(6), 3), 6)


def test_a_layer_of_several_outputs():
    net = afi_resnet(Integration("A"), 2, 10)
    net.initialize()
    with pytest.raises(InputError, match=r"--layer features.3.blocks.0: its output is not a feature"):
        class_means(on_cpu(net), Channels("features.3.blocks.0"), batches_of(random_images(2), np.arange(2), 2), 2)


def test_labels_that_are_no_class_and_no_images():
    with pytest.raises(DataError, match=r"label 5 in batch 1 \(counted from 0\) is not in the range 0 to 4"):
        class_means(on_cpu(small_network()), Channels("1"), batches_of(random_images(6), np.arange(6), 3), 5)
    with pytest.raises(DataError, match="no images"):
        class_means(on_cpu(small_network()), Channels("1"), [], 5)
    means = class_means(on_cpu(small_network()), Channels("1"), batches_of(random_images(2), np.zeros(2), 2), 5)
    with pytest.raises(DataError, match="1 class has images"):
        class_selectivity(means)


def test_outputs_that_are_not_finite():
    net = small_network()
    net[0].bias.set_data(mx.nd.array([np.inf, 0, 0, 0]))
    with pytest.raises(GluonAFFError, match="outputs of 1 are not finite"):
        class_means(on_cpu(net), Channels("1"), batches_of(random_images(2), np.arange(2), 2), 2)
