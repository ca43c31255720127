"""ImageNet's hosts with plain addition against GluonCV's, of which the original made them; dropout."""

import zlib

import mxnet as mx
import numpy as np
import pytest

from gluon_aff.gluon.imports import import_gluoncv
from gluon_aff.gluon.networks.zoo import imagenet_resnet, imagenet_resnext

RESNETS = {
    "plain, zero gammas": ("bottleneck", {"last_gamma": True}),
    "deep stem, average pools": ("bottleneck", {"deep_stem": True, "stem_width": 24, "avg_down": True}),
    "dilated": ("bottleneck", {"dilated": True, "avg_down": True}),
    "basic": ("basic", {}),
    "basic, average pools": ("basic", {"avg_down": True}),
}
RESNEXTS = {
    "plain, gammas of one": {"last_gamma": True},
    "everything": {"deep_stem": True, "stem_width": 24, "avg_down": True, "use_se": True},
}


def filled(net, images):
    """The network with parameters that depend on their names alone; the names of the gammas that started at zero."""
    net.initialize()
    net(images)
    mx.nd.waitall()
    parameters = net._collect_params_with_prefix()
    zero = {name for name, p in parameters.items() if name.endswith("gamma") and not p.data().asnumpy().any()}
    for name, parameter in parameters.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith(("gamma", "running_var")):
            value = rng.uniform(0.5, 1.5, parameter.shape)
        else:
            value = rng.normal(0, np.sqrt(1 / np.prod(parameter.shape[1:])), parameter.shape)
        parameter.set_data(mx.nd.array(value))
    return net, zero


def assert_the_same(ours, theirs):
    """Names, initial gammas, logits of images whose sides are odd somewhere on the way."""
    images = mx.nd.array(np.random.default_rng(0).normal(size=(2, 3, 75, 52)))
    (ours, our_zeros), (theirs, their_zeros) = filled(ours, images), filled(theirs, images)
    names = [list(net._collect_params_with_prefix()) for net in (ours, theirs)]
    assert sorted(names[0]) == sorted(names[1])
    assert our_zeros == their_zeros
    expected = theirs(images).asnumpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(ours(images).asnumpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("which", RESNETS)
def test_resnet(which):
    resnetv1b = import_gluoncv("gluoncv.model_zoo.resnetv1b")
    block, arguments = RESNETS[which]
    gluoncvs = {"bottleneck": resnetv1b.BottleneckV1b, "basic": resnetv1b.BasicBlockV1b}[block]
    ours = {"deep_stem": False, "avg_down": False, **arguments}
    layers = [1, 1, 2, 2]
    assert_the_same(
        imagenet_resnet("DirectAdd", layers, 1, classes=6, block=block, **ours),
        resnetv1b.ResNetV1b(gluoncvs, layers, classes=6, **arguments),
    )


@pytest.mark.parametrize("which", RESNEXTS)
def test_resnext(which):
    arguments = RESNEXTS[which]
    ours = {"deep_stem": False, "avg_down": False, **arguments}
    layers, cardinality, width = [1, 2, 1, 1], 8, 12
    assert_the_same(
        imagenet_resnext("DirectAdd", layers, 1, cardinality=cardinality, bottleneck_width=width, classes=6, **ours),
        import_gluoncv("gluoncv.model_zoo.resnext").ResNext(layers, cardinality, width, classes=6, **arguments),
    )


def test_dropout_is_before_the_dense_layer_and_for_training_only():
    """A dropped feature gives its weights no gradient; the others are divided by the share that stays."""
    net = imagenet_resnet("DirectAdd", [1, 1, 1, 1], 1, 2, block="basic", final_drop=0.25, use_global_stats=True)
    images = mx.nd.array(np.random.default_rng(0).normal(size=(1, 3, 64, 64)))
    net, _ = filled(net, images)
    mx.random.seed(0)
    gradients = []
    for train_mode in (False, True):
        with mx.autograd.record(train_mode=train_mode):
            net(images).sum().backward()
        gradients.append(net.fc.weight.grad().asnumpy()[0])
    features, kept = gradients
    dropped = (kept == 0) & (features > 0)
    assert dropped.sum() == pytest.approx(0.25 * (features > 0).sum(), rel=0.3)
    np.testing.assert_allclose(kept[~dropped], features[~dropped] / 0.75, rtol=1e-4, atol=1e-4)
