"""Grad-CAM of networks against hand-set heads and differences of logits."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.gluon.inspection.gradcam import class_activation
from gluon_aff.gluon.inspection.layers import named_layers, pooled_layer
from gluon_aff.gluon.networks.afi import afi_resnet
from gluon_aff.gluon.networks.zoo import cifar_inception, cifar_resnet, cifar_resnext, fpn, get_model, imagenet_resnet
from gluon_aff.inspection.gradcam import heat_map
from gluon_aff.operators import Integration

# With the size of the image, the layer behind the last fusion and ReLU, and the size of its maps
NETWORKS = {
    "cifar_resnet": (lambda: cifar_resnet("AFF", 1, 1, classes=7), 32, "features.6", (8, 8)),
    "cifar_resnext": (lambda: cifar_resnext("iAFF", 1, 1, classes=7), 32, "features.5", (8, 8)),
    "cifar_inception": (lambda: cifar_inception("AFF", 1, 1, classes=7), 32, "features.6", (8, 8)),
    "imagenet_resnet": (
        lambda: imagenet_resnet("AFF", (1, 1, 1, 1), block="basic", classes=7), 64, "layer4", (2, 2),
    ),
    "afi_resnet": (lambda: afi_resnet(Integration("A"), 2, classes=7), 32, "features.5", (8, 8)),
    "dropout": (
        lambda: imagenet_resnet("Add", (1, 1, 1, 1), block="basic", classes=7, final_drop=0.9), 64, "layer4", (2, 2),
    ),
}  # fmt: skip


def initialised(make, side):
    """With running statistics other than 0 and 1, which training and inference treat differently."""
    mx.random.seed(3)
    net = make()
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, side, side)))
    mx.nd.waitall()
    rng = np.random.default_rng(0)
    for name, parameter in net.collect_params().items():
        if name.endswith(("running_mean", "running_var", "beta", "gamma")):
            low, high = (-0.2, 0.2) if name.endswith(("mean", "beta")) else (0.6, 1.4)
            parameter.set_data(mx.nd.array(rng.uniform(low, high, parameter.shape)))
    return net


def picture(side):
    return np.random.default_rng(1).normal(size=(3, side, side)).astype("float32")


def head(net):
    return net.fc if hasattr(net, "fc") else net.output


def trunk(net):
    if hasattr(net, "features"):
        return list(net.features)
    return [net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4]


@pytest.mark.parametrize("which", NETWORKS)
def test_a_head_that_reads_one_channel_gives_that_channels_map(which):
    make, side, layer, size = NETWORKS[which]
    net, image = initialised(make, side), picture(NETWORKS[which][1])
    maps = mx.nd.array(image[np.newaxis])
    for part in trunk(net)[: int(layer[-1]) + 1 if hasattr(net, "features") else None]:
        maps = part(maps)
    lively = int(maps.asnumpy()[0].std(axis=(1, 2)).argmax())
    channel = maps.asnumpy()[0, lively].astype("float64")
    weight = np.zeros(head(net).weight.shape, "float32")
    weight[4, lively] = 3
    head(net).weight.set_data(mx.nd.array(weight))
    assert pooled_layer(net) == layer
    found = class_activation(net, image, layer, 4)
    assert found.maps.shape[1:] == channel.shape == size
    expected = np.maximum(channel, 0) * 3 / (size[0] * size[1])
    assert expected.max() > expected.min()
    np.testing.assert_allclose(heat_map(found), expected, rtol=1e-5)
    negative = class_activation(net, image, layer, 3)
    assert not heat_map(negative).any()


@pytest.mark.parametrize("which", ["cifar_resnet", "cifar_resnext", "imagenet_resnet"])
def test_weights_are_what_the_logit_gains_where_a_channel_rises_everywhere(which):
    """Central differences in float64, with the layers behind the chosen one run by hand."""
    make, side, _, _ = NETWORKS[which]
    net, image = initialised(make, side), picture(side)
    position, layer = (4, "features.4") if hasattr(net, "features") else (6, "layer3")
    found = class_activation(net, image, layer, 2)
    exact = initialised(make, side)
    exact.cast("float64")
    step = 1e-6  # small enough that hardly a ReLU switches
    channels = len(found.maps)
    bumps = np.concatenate([np.eye(channels), -np.eye(channels)])[:, :, None, None] * step
    maps = mx.nd.array(found.maps + bumps, dtype="float64")
    for part in trunk(exact)[position + 1 :]:
        maps = part(maps)
    if maps.ndim == 4:
        maps = maps.mean(axis=(2, 3))
    logits = head(exact)(maps).asnumpy()[:, 2]
    slopes = (logits[:channels] - logits[channels:]) / (2 * step)
    weights = found.gradient.sum(axis=(1, 2))
    assert np.abs(slopes).max() > 1e-3
    np.testing.assert_allclose(weights, slopes, rtol=1e-3, atol=1e-4 * np.abs(slopes).max())


@pytest.mark.parametrize("layer", ["features.6", "features.3.0.attention", "features.2.0.resfwd.2", "features"])
def test_the_same_hybridized_and_the_network_stays_as_it_was(layer):
    make, side, _, _ = NETWORKS["cifar_resnet"]
    net, image = initialised(make, side), picture(side)
    if layer == "features":
        with pytest.raises(InputError, match=r"--layer features: its output is not \(N, C, H, W\)"):
            class_activation(net, image, layer)
        return
    plain = class_activation(net, image, layer, 1)
    net.hybridize(static_alloc=True)
    batch = mx.nd.array(image[np.newaxis])
    before = net(batch).asnumpy()
    graph = net._cached_op
    parameters = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    again = class_activation(net, image, layer, 1)
    for name in ("logits", "maps", "gradient"):
        np.testing.assert_allclose(getattr(again, name), getattr(plain, name), rtol=1e-4, atol=1e-6)
    assert net._cached_op is graph
    assert all(block._active for _, block in named_layers(net))
    assert not any(block._forward_hooks for _, block in named_layers(net))
    np.testing.assert_array_equal(net(batch).asnumpy(), before)
    for name, parameter in net.collect_params().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), parameters[name])
        assert parameter.grad_req == "null" or not parameter.grad().asnumpy().any()


def test_the_networks_device_is_the_images():
    make, side, layer, _ = NETWORKS["cifar_resnet"]
    net, image = initialised(make, side), picture(side)
    expected = class_activation(net, image, layer)
    net.collect_params().reset_ctx([mx.cpu(1), mx.cpu(2)])
    np.testing.assert_array_equal(class_activation(net, image, layer).gradient, expected.gradient)


def test_logits_and_the_predicted_class_are_the_networks():
    make, side, layer, _ = NETWORKS["cifar_resnext"]
    net, image = initialised(make, side), picture(side)
    logits = net(mx.nd.array(image[np.newaxis])).asnumpy()[0]
    found = class_activation(net, image, layer)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-5)
    assert found.label == logits.argmax()


def test_an_unknown_layer_names_the_nearest():
    net = get_model("resnet20_b1", ctx=mx.cpu())
    with pytest.raises(InputError) as caught:
        class_activation(net, picture(32), "feature.2.0.resfwd.2")
    message = str(caught.value)
    assert message.startswith("unknown layer (--layer) 'feature.2.0.resfwd.2': did you mean features.2.0.resfwd.2? ")
    assert len(message) < 300


def test_a_label_that_the_network_does_not_have():
    with pytest.raises(InputError, match="label 100 is not one of the network's, 0 to 99"):
        class_activation(get_model("resnet20_b1", ctx=mx.cpu()), picture(32), "features.6", 100)


def test_networks_that_classify_no_images():
    net = fpn("AFF", 1)
    with pytest.raises(InputError, match="no global average pool"):
        pooled_layer(net)
    net.initialize()
    with pytest.raises(InputError, match="Grad-CAM is for classifiers"):
        class_activation(net, picture(32), "layer3")


def test_other_blocks_than_ours():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, activation="relu"), nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(3))
    net.initialize()
    assert pooled_layer(net) == "0"
    assert class_activation(net, picture(16), "0").gradient.shape == (4, 14, 14)


def test_maps_that_are_not_finite_are_no_cold_map():
    """Behind a ReLU, which makes 0 of them, logits may be finite all the same."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(2, 1), nn.HybridLambda(lambda F, x: F.where(x == x, x, F.zeros_like(x))))
    net.add(nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(3))
    net.initialize()
    net(mx.nd.zeros((1, 3, 8, 8)))
    net[0].bias.set_data(mx.nd.array([np.nan, 0]))
    with pytest.raises(GluonAFFError, match="the maps of 0 or their gradient are not finite"):
        class_activation(net, picture(8), "0")
