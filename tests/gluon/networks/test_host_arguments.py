"""Every host's arguments about fusion and normalisation reach every layer that they are for."""

import mxnet as mx
import numpy as np
import pytest

from gluon_aff import get_model
from gluon_aff.gluon.fusion import DirectAdd
from gluon_aff.gluon.inspection.layers import named_layers
from gluon_aff.gluon.networks.zoo import cifar_resnext

NARROW = {"blocks": 1, "channel_times": 1}
SMALL = {"layers": (1, 1, 1, 1)}
# The smallest of each host; the factor that AFF has there if none is given (2 in the first release, but within a
# layer), and r (networks of the original: 4 in the CIFAR ResNet, 16 elsewhere; the paper's: 4)
HOSTS = {
    "aff_resnet32_cifar100": (NARROW, 2, 4),
    "aff_resnext38_32x4d_cifar100": (NARROW, 2, 16),
    "aff_resnet50": (SMALL, 2, 16),
    "aff_resnext50_32x4d": (SMALL, 2, 16),
    "inception_resnet20_b1": ({}, 1, 4),
    "resnet20_fpn_b1": ({}, 2, 4),
}
STAGES = {
    "aff_resnet32_cifar100": ["features.2", "features.3", "features.4"],
    "aff_resnext38_32x4d_cifar100": ["features.3", "features.4", "features.5"],
    "aff_resnet50": ["layer1", "layer2", "layer3", "layer4"],
    "aff_resnext50_32x4d": ["features.10", "features.11", "features.12", "features.13"],
}


def made(name, **arguments):
    return get_model(name, **{**HOSTS[name][0], "fusion": "AFF", **arguments})


def fusions(net):
    """Blocks that fuse by attention, by their names."""
    found = {name: layer for name, layer in named_layers(net) if name.endswith("attention")}
    return {name: layer for name, layer in found.items() if not isinstance(layer, DirectAdd)}


def norms(net):
    return [layer for _, layer in named_layers(net) if isinstance(layer, mx.gluon.nn.BatchNorm)]


class OwnNorm(mx.gluon.nn.BatchNorm):
    """Stands for SyncBatchNorm."""


@pytest.mark.parametrize("name", HOSTS)
def test_normalisation_reaches_every_layer(name):
    usual, own = made(name), made(name, norm_layer=OwnNorm, norm_kwargs={"epsilon": 1e-3, "momentum": 0.8})
    settings = [{(norm._kwargs["eps"], norm._kwargs["momentum"]) for norm in norms(net)} for net in (usual, own)]
    assert settings == [{(1e-5, 0.9)}, {(1e-3, 0.8)}]
    assert len(norms(usual)) == len(norms(own)) > 5
    assert {type(norm) for norm in norms(own)} == {OwnNorm}


@pytest.mark.parametrize("name", HOSTS)
def test_the_reduction_ratio_reaches_every_fusion(name):
    for r in (None, 2):
        net = made(name, **({} if r is None else {"r": r}))
        shapes = {n: p.shape for n, p in net._collect_params_with_prefix().items()}
        for fusion in fusions(net):
            rows, channels = shapes[f"{fusion}.local_att.0.weight"][:2]
            assert rows == channels // (r or HOSTS[name][2])


@pytest.mark.parametrize("name", HOSTS)
def test_the_scale_reaches_every_fusion(name):
    """Attention that is indifferent weighs both with 1/2."""
    for scale in (None, 3):
        blocks = fusions(made(name, scale=scale))
        assert blocks
        for block in blocks.values():
            block.initialize(mx.init.Zero())
            channels = block.local_att[0].weight.shape[1]
            y, x = (mx.nd.full((2, channels, 2, 2), value) for value in (1, 5))
            assert block(y, x).asnumpy() == pytest.approx((scale or HOSTS[name][1]) * 3)


@pytest.mark.parametrize("name", HOSTS)
def test_the_context_reaches_every_fusion(name):
    net = made(name, context="conv")
    weights = [n for n in net._collect_params_with_prefix() if "_att." in n and n.endswith("weight")]
    assert len(weights) == 2 * len(fusions(net))


@pytest.mark.parametrize("name", STAGES)
def test_stages_before_the_start_layer_add(name):
    published = 3 if len(STAGES[name]) == 4 else 1  # for ImageNet, for CIFAR
    for start_layer in (None, 2, len(STAGES[name]) + 1):
        net = made(name, **({} if start_layer is None else {"start_layer": start_layer}))
        stages = {next(stage for stage in STAGES[name] if fusion.startswith(f"{stage}.")) for fusion in fusions(net)}
        assert stages == set(STAGES[name][(start_layer or published) - 1 :])


def test_strided_shortcuts_of_the_cifar_resnet():
    """As in the first release: a 1x1 convolution of every other pixel, in place of one behind an average pool."""
    shortcut = made("aff_resnet32_cifar100", avg_down=False).features[3][0].downsample
    pooled = made("aff_resnet32_cifar100").features[3][0].downsample
    x = np.random.default_rng(0).normal(size=(2, 16, 6, 5)).astype("float32")
    odd = np.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)), mode="edge")  # a mean of what there is, at the right edge
    means = odd.reshape(2, 16, 3, 2, 3, 2).mean(axis=(3, 5))
    for layers, seen in ((shortcut, x[:, :, ::2, ::2]), (pooled, means)):
        layers.initialize(mx.init.Xavier())
        weight = layers[-1].weight.data().asnumpy()[:, :, 0, 0]
        expected = np.einsum("oc,nchw->nohw", weight, seen)
        np.testing.assert_allclose(layers(mx.nd.array(x)).asnumpy(), expected, rtol=1e-4, atol=1e-5)


def test_arguments_of_the_cifar_resnext():
    """The original has 32 groups at four times the width and 64 at eight times; SE's inner width is a quarter."""
    for times, groups in ((4, 32), (8, 64), (1, 8)):
        assert cifar_resnext("Add", 1, times).features[3][0].body[3]._kwargs["num_group"] == groups
    net = made("aff_resnext38_32x4d_cifar100", use_se=True, deep_stem=True, zero_last_gamma=False)
    net.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    shapes = {n: p.shape for n, p in net._collect_params_with_prefix().items()}
    assert [shapes[f"features.{i}.weight"] for i in (0, 3, 6)] == [(8, 3, 3, 3), (8, 8, 3, 3), (16, 8, 3, 3)]
    assert [shapes[f"features.9.0.se.{i}.weight"] for i in (0, 2)] == [(4, 64, 1, 1), (64, 4, 1, 1)]
    assert net.features[9][0].body[7].gamma.data().asnumpy().all()
