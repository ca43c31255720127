"""Networks that only the paper has: shapes, hybridized equality, gradients, roles; features of all."""

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.fusion_equations import batch_norm, below, convolution, stretched, weight, wide_convolution
from shared_by_tests.initialised import moderate_parameters

from gluon_aff import get_model
from gluon_aff.errors import InputError
from gluon_aff.gluon.fusion import Fusing
from gluon_aff.gluon.networks import AFFFPN, FeatureMaps
from gluon_aff.gluon.networks.zoo import cifar_inception, fpn
from gluon_aff.models import MODELS
from gluon_aff.operators import OPERATORS

FAMILIES = {"resnet20_b1": (100,), "inception_resnet20_b1": (100,), "resnet20_fpn_b1": (1, 48, 32)}


def images(height=32, width=32, count=2):
    return mx.nd.array(np.random.default_rng(0).normal(size=(count, 3, height, width)))


def gradients(net, x, weights):
    with mx.autograd.record():
        (net(x) * weights).sum().backward()
    return {name: p.grad().asnumpy() for name, p in net._collect_params_with_prefix().items() if p.grad_req != "null"}


@pytest.mark.parametrize("fusion", OPERATORS)
@pytest.mark.parametrize("name", FAMILIES)
def test_forward_and_backward_are_those_of_the_hybridized_network(name, fusion):
    mx.random.seed(0)
    net = get_model(name, fusion=fusion, ctx=mx.cpu())
    # BatchNorm makes little more than a sign of two images' pooled maps, which rounding turns
    x = images(*FAMILIES[name][1:], count=8)
    eager = net(x)
    assert eager.shape[1:] == FAMILIES[name]
    if "fpn" in name:
        net.head[3]._rate = 0  # dropout draws
    weights = mx.nd.array(np.random.default_rng(1).normal(size=eager.shape))
    before = gradients(net, x, weights)
    silent = [n for n, g in before.items() if not g.any() and not n.endswith("bias")]
    assert silent == []
    net.hybridize()
    after = gradients(net, x, weights)
    for parameter, gradient in before.items():
        difference = np.linalg.norm(after[parameter] - gradient)
        assert difference < 0.02 * np.linalg.norm(gradient) + 1e-2, parameter


@pytest.mark.parametrize("blocks", [2, *(pytest.param(deeper, marks=pytest.mark.long) for deeper in (3, 4))])
@pytest.mark.parametrize("family", ["resnet20_b{}", "inception_resnet20_b{}", "resnet20_fpn_b{}"])
def test_deeper_members(family, blocks):
    name = family.format(blocks)
    net = get_model(name, fusion="iAFF", ctx=mx.cpu())
    eager = net(images()).asnumpy()
    net.hybridize()
    np.testing.assert_allclose(net(images()).asnumpy(), eager, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["aff_resnet18", "aff_resnet34"])
def test_basic_blocks(name):
    """Plain addition and the 7x7 stem give torchvision's ResNet-18 and -34: 11,689,512 and 21,797,672 parameters."""
    plain = get_model(name, fusion="Add", deep_stem=False, avg_down=False)
    plain.infer_shape(mx.nd.zeros((1, 3, 64, 64)))
    trainable = sum(int(np.prod(p.shape)) for p in plain.collect_params().values() if p.grad_req != "null")
    assert trainable == {"aff_resnet18": 11_689_512, "aff_resnet34": 21_797_672}[name]
    net = get_model(name, classes=7, ctx=mx.cpu())
    eager = net(images(64, 64)).asnumpy()
    net.hybridize()
    assert eager.shape == (2, 7)
    np.testing.assert_allclose(net(images(64, 64)).asnumpy(), eager, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"fuse_order": "bottom-up"}, {"decoder_width": 24}, {"stem": "tiny"}])
def test_other_decoders(arguments):
    net = fpn("AFF", 1, **arguments)
    net.initialize(mx.init.Xavier())
    assert net(images(40, 56)).shape == (2, 1, 40, 56)


def activated(z):
    return np.maximum(z, 0)


def fused_levels(p, high, low):
    """Fig. 4c by MS-GAU, w X + Y (Table 1): the high level, which has the larger receptive field, is Y."""
    high = stretched(high, *low.shape[2:])
    high = activated(batch_norm(p, "feature_high.1", convolution(p, "feature_high.0", high)))
    if "feature_low.0.weight" in p:
        low = activated(batch_norm(p, "feature_low.1", convolution(p, "feature_low.0", low)))
    fused = weight(below(p, "attention."), high) * low + high
    return activated(batch_norm(p, "post.1", wide_convolution(p, "post.0", fused)))


@pytest.mark.parametrize("arguments", [{}, {"fuse_order": "bottom-up"}, {"decoder_width": 24, "stem": "tiny"}])
def test_the_pyramid_by_its_equations(arguments):
    """From the maps of the stages to the logits of an image whose sides halve to odd ones."""
    net = fpn("MS-GAU", 1, classes=2, **arguments)
    net.infer_shape(mx.nd.zeros((1, 3, 32, 32)))
    p = moderate_parameters(net)
    x = images(38, 30)
    first, second, third = (each.asnumpy() for each in FeatureMaps(net)(x))
    if arguments.get("fuse_order") == "bottom-up":
        fused = fused_levels(below(p, "fuse23."), third, fused_levels(below(p, "fuse12."), second, first))
    else:
        fused = fused_levels(below(p, "fuse12."), fused_levels(below(p, "fuse23."), third, second), first)
    hidden = activated(batch_norm(p, "head.1", wide_convolution(p, "head.0", fused)))
    expected = stretched(convolution(p, "head.4", hidden), 38, 30)
    assert net(x).shape == expected.shape
    np.testing.assert_allclose(net(x).asnumpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("stride", [1, 2])
def test_the_same_layer_by_its_equations(stride):
    """Fig. 4a by MS-GAU, w X + Y: Y is the convolution that sees 5x5 pixels."""
    net = cifar_inception("MS-GAU", 1)
    net.infer_shape(mx.nd.zeros((1, 3, 32, 32)))
    layer = net.features[{1: 2, 2: 3}[stride]][0].resfwd[2]
    p = moderate_parameters(layer)
    x = np.random.default_rng(0).normal(size=(2, 16, 7, 6)).astype("float32")
    branches = (
        batch_norm(p, f"{name}.1", wide_convolution(p, f"{name}.0", x, stride, dilation))
        for name, dilation in (("feature_spatial_3", 1), ("feature_spatial_5", 2))
    )
    three, five = branches
    expected = weight(below(p, "attention."), five) * three + five
    np.testing.assert_allclose(layer(mx.nd.array(x)).asnumpy(), expected, rtol=1e-4, atol=1e-4)


def test_width_of_the_fused_maps():
    """Decreasing towards the image, increasing from it, or fixed (paper_spec 3.1)."""

    def widths(**arguments):
        net = fpn("Add", 1, **arguments)
        return [net.fuse12.feature_high[0].weight.shape[0], net.fuse23.feature_high[0].weight.shape[0]]

    assert widths() == [16, 32]
    assert widths(fuse_order="bottom-up") == [32, 64]
    assert widths(decoder_width=256) == [256, 256]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stem": "tinny"}, "unknown stem 'tinny': did you mean tiny"),
        ({"fuse_order": "reverse"}, "unknown fuse order 'reverse'"),
        ({"fusion": "Aff"}, "unknown fusion"),
    ],
)
def test_what_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        get_model("resnet20_fpn_b1", **arguments)


@pytest.mark.parametrize(("layers", "channels"), [([1, 1, 1], (8, 16, 32)), ([1], (8, 16)), ([1, 1], (8, 16))])
def test_a_pyramid_has_a_width_for_the_stem_and_each_stage(layers, channels):
    with pytest.raises(InputError, match="give one for the stem and each of two or more stages"):
        AFFFPN(Fusing("Add"), layers, channels)


def test_the_smallest_pyramid_has_two_stages():
    net = AFFFPN(Fusing("Add"), [1, 1], (8, 16, 32))
    net.initialize()
    assert net(images(40, 33)).shape == (2, 1, 40, 33)


def test_unknown_block():
    with pytest.raises(InputError, match="unknown block 'basics': did you mean basic"):
        get_model("aff_resnet18", block="basics")


def test_unknown_inner_width():
    with pytest.raises(InputError, match="unknown inner width 'half': there are legacy, full"):
        get_model("inception_resnet20_b1", inner="half")


STAGES = {
    "aff_resnet50": ([256, 512, 1024, 2048], [4, 8, 16, 32]),
    "iaff_resnext50_32x4d": ([256, 512, 1024, 2048], [4, 8, 16, 32]),
    "aff_resnet18": ([64, 128, 256, 512], [4, 8, 16, 32]),
    "aff_resnet32_cifar100": ([64, 128, 256], [1, 2, 4]),
    "aff_resnext38_32x4d_cifar100": ([256, 512, 1024], [1, 2, 4]),
    "inception_resnet20_b1": ([16, 32, 64], [1, 2, 4]),
    "resnet20_fpn_b1": ([16, 32, 64], [4, 8, 16]),
}


@pytest.mark.parametrize("name", STAGES)
def test_features(name):
    features = get_model(name, ctx=mx.cpu(), features_only=True)
    assert (features.widths, features.strides) == STAGES[name]
    side = 2 * features.strides[-1]
    x = images(side, side)
    eager = [each.asnumpy() for each in features(x)]
    assert [each.shape for each in eager] == [(2, w, side // s, side // s) for w, s in zip(*STAGES[name])]
    features.hybridize()
    for hybrid, expected in zip(features(x), eager):
        np.testing.assert_allclose(hybrid.asnumpy(), expected, rtol=1e-4, atol=1e-5)


def test_features_lead_to_the_networks_logits():
    """What comes behind the last stage, run on its output; and gradients reach the first layer."""
    net = get_model("aff_resnet50", classes=5, layers=(1, 1, 1, 1), ctx=mx.cpu())
    features = FeatureMaps(net)
    x = images(64, 64)
    expected = net(x).asnumpy()
    last = features(x)[-1]
    np.testing.assert_allclose(net.fc(net.avgpool(last)).asnumpy(), expected, rtol=1e-4, atol=1e-5)
    with mx.autograd.record():
        sum(each.sum() for each in features(x)).backward()
    assert all(net.conv1[0].weight.grad().asnumpy().any(axis=(1, 2, 3)))


def test_features_have_no_parameters_without_use():
    """A trainer would complain of a head that gets no gradient."""
    features = get_model("aff_resnet32_cifar100", blocks=1, channel_times=1, ctx=mx.cpu(), features_only=True)
    trainer = mx.gluon.Trainer(features.collect_params(), "sgd")
    with mx.autograd.record():
        sum(each.sum() for each in features(images())).backward()
    trainer.step(2)


def test_features_learn_the_statistics_of_their_images():
    """On CPUs, MXNet 1.9.1 skips a first BatchNorm whose input needs no gradient (apache/mxnet#18673)."""
    features = get_model("aff_resnet32_cifar100", blocks=1, channel_times=1, ctx=mx.cpu(), features_only=True)
    with mx.autograd.record():
        sum(each.sum() for each in features(images() + 1)).backward()
    means = [p for name, p in features.collect_params().items() if name.endswith("running_mean")]
    np.testing.assert_allclose(means[0].data().asnumpy(), 0.1 * (images() + 1).asnumpy().mean((0, 2, 3)), rtol=1e-4)


def test_every_record_counts_its_parameters():
    for name, record in MODELS.items():
        if not record.weights:  # those with weights have goldens
            net = get_model(name)
            net.infer_shape(mx.nd.zeros((1, 3, 64, 64)))
            trainable = sum(int(np.prod(p.shape)) for p in net.collect_params().values() if p.grad_req != "null")
            assert trainable == record.trainable, name
