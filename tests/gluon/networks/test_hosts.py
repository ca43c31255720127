"""What every host does: the original's arguments, variants, modes, export, devices, types, sizes."""

import mxnet as mx
import numpy as np
import pytest

from gluon_aff import get_model
from gluon_aff.errors import InputError
from gluon_aff.gluon.fusion import Fusing
from gluon_aff.gluon.inspection.layers import named_layers
from gluon_aff.gluon.networks import (
    AFFFPN,
    AFFResNet,
    AFFResNeXt,
    CIFARAFFResNet,
    CIFARAFFResNeXt,
    InceptionResNet,
)
from gluon_aff.gluon.networks.zoo import (
    cifar_inception,
    cifar_resnet,
    cifar_resnext,
    fpn,
    imagenet_resnet,
    imagenet_resnext,
)

SMALL = {
    "cifar_resnet": lambda **kw: cifar_resnet("ASKCFuse", 1, 1, classes=10, **kw),
    "cifar_resnext": lambda **kw: cifar_resnext("iAFF", 1, 1, start_layer=2, classes=10, **kw),
    "resnet": lambda **kw: imagenet_resnet("AFF", [1, 1, 1, 1], classes=10, **kw),
    "resnext": lambda **kw: imagenet_resnext(
        "ResGlobLocaforGlobLocaCha", [1, 1, 1, 1], cardinality=8, bottleneck_width=8, classes=10, **kw
    ),
}
# Further arguments of the original's constructors, with their defaults
ORIGINAL = {
    "cifar_resnet": {"deep_stem": False, "norm_layer": mx.gluon.nn.BatchNorm, "norm_kwargs": None},
    "cifar_resnext": {
        "cardinality": 8,
        "bottleneck_width": 4,
        "deep_stem": False,
        "use_se": False,
        "norm_layer": mx.gluon.nn.BatchNorm,
        "norm_kwargs": None,
    },
    "resnet": {
        "start_layer": 3,
        "dilated": False,
        "norm_layer": mx.gluon.nn.BatchNorm,
        "norm_kwargs": None,
        "last_gamma": False,
        "deep_stem": True,
        "stem_width": 32,
        "avg_down": True,
        "final_drop": 0.0,
        "use_global_stats": False,
        "name_prefix": "",
    },
    "resnext": {
        "start_layer": 3,
        "last_gamma": False,
        "use_se": False,
        "deep_stem": True,
        "avg_down": True,
        "stem_width": 64,
        "norm_layer": mx.gluon.nn.BatchNorm,
        "norm_kwargs": None,
    },
}


def images(n=2, size=64, seed=0):
    return mx.nd.array(np.random.default_rng(seed).normal(size=(n, 3, size, size)))


def made(host, seed=0, **kwargs):
    mx.random.seed(seed)
    net = SMALL[host](**kwargs)
    net.initialize(mx.init.Xavier())
    net(images(1))
    mx.nd.waitall()  # oneDNN reorders weights behind a forward pass; asnumpy does not wait for that
    return net


def structure(net):
    return {name: p.shape for name, p in net._collect_params_with_prefix().items()}


@pytest.mark.parametrize("host", ORIGINAL)
def test_the_originals_arguments_have_its_names_and_defaults(host):
    usual, given = made(host), made(host, **ORIGINAL[host])
    assert list(structure(usual)) == list(structure(given))
    for (name, one), other in zip(usual._collect_params_with_prefix().items(), given.collect_params().values()):
        np.testing.assert_array_equal(one.data().asnumpy(), other.data().asnumpy(), err_msg=name)
    np.testing.assert_array_equal(usual(images()).asnumpy(), given(images()).asnumpy())


ADD, THREE, FOUR = Fusing("Add"), [1] * 3, [1] * 4
# A network by its class, by its builder, and how many classes it has if nothing is said: those of CIFAR-100 or
# ImageNet, or a mask
BY_CLASS = {
    "cifar_resnet": (lambda: CIFARAFFResNet(ADD, 1, THREE, (16, 16, 32, 64)), lambda: cifar_resnet("Add", 1, 1), 100),
    "cifar_resnext": (lambda: CIFARAFFResNeXt(ADD, 1, THREE, 64), lambda: cifar_resnext("Add", 1, 4), 100),
    "resnet": (lambda: AFFResNet(ADD, 3, FOUR), lambda: imagenet_resnet("Add", FOUR), 1000),
    "resnext": (lambda: AFFResNeXt(ADD, 3, FOUR), lambda: imagenet_resnext("Add", FOUR), 1000),
    "inception": (lambda: InceptionResNet(ADD, THREE, (16, 16, 32, 64)), lambda: cifar_inception("Add", 1), 100),
    "fpn": (lambda: AFFFPN(ADD, THREE, (8, 16, 32, 64)), lambda: fpn("Add", 1), 1),
}


@pytest.mark.parametrize("host", BY_CLASS)
def test_a_class_has_its_builders_defaults(host):
    by_class, by_builder, classes = BY_CLASS[host]
    net, built = by_class(), by_builder()
    assert structure(net) == structure(built)
    starts = [[each.init for each in one.collect_params().values()] for one in (net, built)]
    assert starts[0] == starts[1]
    assert len(list(named_layers(net))) == len(list(named_layers(built)))  # dropout too, which has no parameters
    assert net.collect_params()[list(net.collect_params())[-1]].shape == (classes,)


# Parameters whose sizes the image decides, or the fusion, since a concatenation is wider
OPEN = {
    "cifar_resnet": ({}, {"features.0.gamma", "features.0.beta", "features.1.weight"}),
    "cifar_resnext": ({"use_se": True, "deep_stem": True}, {"features.0.weight"}),
    "resnet": ({"avg_down": False}, {"conv1.0.weight"}),
    "resnext": ({"use_se": True}, {"features.0.weight"}),
    "aff_resnet18": ({}, {"conv1.0.weight"}),
    "inception_resnet20_b1": ({"fusion": "AFF"}, {"features.0.gamma", "features.0.beta"}),
    "resnet20_fpn_b1": (
        {"fusion": "AFF"}, {"stem.0.gamma", "stem.0.beta", "fuse12.post.0.weight", "fuse23.post.0.weight"},
    ),
    "afi_resnet32_cifar100": ({"blocks": 2, "attention": "CBAM"}, set()),
    "afi_resnet50": ({"layers": (1, 2, 1, 1), "attention": "SE"}, set()),
    "shufflenet_v2_cifar100": ({}, set()),
}  # fmt: skip


@pytest.mark.parametrize("name", OPEN)
def test_sizes_are_known_before_an_image(name):
    """So that a file of another network's weights is refused at once."""
    arguments, expected = OPEN[name]
    net = SMALL[name](**arguments) if name in SMALL else get_model(name, **arguments)
    found = {key for key, shape in structure(net).items() if 0 in shape and "running" not in key}
    assert found == expected


@pytest.mark.parametrize("host", SMALL)
def test_hybridized_equals_imperative(host):
    net = made(host)
    imperative = net(images()).asnumpy()
    for options in ({}, {"static_alloc": True, "static_shape": True}):
        net.hybridize(**options)
        np.testing.assert_allclose(net(images()).asnumpy(), imperative, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("host", SMALL)
def test_exported_symbol_gives_the_same(host, tmp_path):
    net = made(host)
    net.hybridize()
    expected = net(images()).asnumpy()
    net.export(str(tmp_path / "net"))
    loaded = mx.gluon.SymbolBlock.imports(
        str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params")
    )
    np.testing.assert_allclose(loaded(images()).asnumpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("host", SMALL)
def test_two_contexts_give_the_same(host):
    net = SMALL[host]()
    contexts = [mx.cpu(0), mx.cpu(1)]
    net.initialize(mx.init.Xavier(), ctx=contexts)
    first, second = (net(images().as_in_context(context)).asnumpy() for context in contexts)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("host", SMALL)
def test_float16_and_back(host):
    net = made(host)
    before = {n: p.data().asnumpy() for n, p in net._collect_params_with_prefix().items()}
    net.cast("float16")
    kinds = {n.split(".")[-1]: p.data().dtype for n, p in net._collect_params_with_prefix().items()}
    assert {kinds["weight"], kinds["bias"]} == {np.float16}
    assert {kinds[n] for n in ("gamma", "beta", "running_mean", "running_var")} == {np.float32}
    net.cast("float32")
    for name, parameter in net._collect_params_with_prefix().items():
        np.testing.assert_allclose(parameter.data().asnumpy(), before[name], rtol=1e-3, atol=1e-4)
    assert np.isfinite(net(images()).asnumpy()).all()


@pytest.mark.parametrize("host", SMALL)
@pytest.mark.parametrize("size", [32, 33, 47, 96])
def test_any_size_and_a_single_image(host, size):
    net = made(host)
    both = net(images(2, size)).asnumpy()
    alone = net(images(2, size)[:1]).asnumpy()
    assert both.shape == (2, 10)
    np.testing.assert_allclose(alone[0], both[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("host", SMALL)
def test_one_image_trains(host):
    net = made(host)
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    with mx.autograd.record():
        loss = net(images(1)).square().sum()
    loss.backward()
    trainer.step(1)
    assert np.isfinite(net(images(1)).asnumpy()).all()


@pytest.mark.parametrize("host", SMALL)
def test_structural_names_do_not_depend_on_earlier_networks(host):
    assert structure(made(host)) == structure(made(host))


@pytest.mark.parametrize(
    "build",
    [
        lambda: cifar_resnet("xxx", 1, 1, start_layer=4),
        lambda: cifar_resnext("xxx", 1, 1, start_layer=4),
        lambda: imagenet_resnet("xxx", [1] * 4, start_layer=5),
        lambda: imagenet_resnext("xxx", [1] * 4, start_layer=5),
    ],
    ids=SMALL,
)
def test_unknown_fusion_even_where_no_stage_fuses(build):
    with pytest.raises(InputError, match=r"unknown fusion .*'xxx'"):
        build()


def test_start_layer_decides_which_stages_fuse():
    net = cifar_resnet("ASKCFuse", 1, 1, start_layer=3)
    stages = {name.split(".")[1] for name in net._collect_params_with_prefix() if ".attention." in name}
    assert stages == {"4"}  # position of stage 3 in `features`


def test_deep_stem_of_the_cifar_resnet():
    """features: 0 BN, 1-7 the stem with widths C0/2, C0/2, C0 (networks.md)."""
    shapes = structure(made("cifar_resnet"))
    net = cifar_resnet("ASKCFuse", 1, 1, deep_stem=True)
    net.initialize()
    net(images(1))
    deep = structure(net)
    assert shapes["features.1.weight"] == (16, 3, 3, 3)
    assert [deep[f"features.{i}.weight"] for i in (1, 4, 7)] == [(8, 3, 3, 3), (8, 8, 3, 3), (16, 8, 3, 3)]


def test_a_strided_stage_of_equal_width_gets_a_projection():
    """The original's block adds maps of different sizes there and fails (quirk cls 40-46)."""
    net = CIFARAFFResNet(Fusing("DirectAdd"), 1, [1, 1, 1], [16, 16, 16, 16], 10)
    net.initialize()
    assert net(images(2, 32)).shape == (2, 10)


@pytest.mark.parametrize(("last_gamma", "zeros"), [(False, False), (True, True)])
def test_last_gamma_of_the_resnet(last_gamma, zeros):
    gamma = made("resnet", last_gamma=last_gamma).layer1[0].bn3.gamma.data().asnumpy()
    assert (gamma == 0).all() == zeros


@pytest.mark.parametrize(
    ("kwargs", "zeros"),
    [({}, True), ({"last_gamma": True}, False), ({"last_gamma": True, "zero_last_gamma": True}, True)],
)
def test_last_gamma_of_the_resnext_is_inverted(kwargs, zeros):
    gamma = made("resnext", **kwargs).features[10][0].body[7].gamma.data().asnumpy()
    assert (gamma == 0).all() == zeros


def test_dilation_keeps_the_size_of_stages_3_and_4():
    net = made("resnet", dilated=True)
    x = net.maxpool(net.relu(net.bn1(net.conv1(images(1, 64)))))
    sizes = []
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = stage(x)
        sizes.append(x.shape[2])
    assert sizes == [16, 8, 8, 8]
    assert [net.layer3[0].conv2._kwargs["dilate"], net.layer4[0].conv2._kwargs["dilate"]] == [(1, 1), (2, 2)]


def test_squeeze_excitation_and_strided_shortcuts_of_the_resnext():
    shapes = structure(made("resnext", use_se=True, avg_down=False, deep_stem=False))
    assert shapes["features.4.0.se.0.weight"] == (16, 256, 1, 1)
    assert shapes["features.5.0.downsample.0.weight"] == (512, 256, 1, 1)
    assert shapes["features.0.weight"] == (64, 3, 7, 7)


def test_global_statistics_reach_every_norm_and_leave_the_callers_dict_alone():
    norm_kwargs = {"epsilon": 1e-3}
    net = imagenet_resnet("AFF", [1, 1, 1, 1], 1, use_global_stats=True, norm_kwargs=norm_kwargs)
    assert norm_kwargs == {"epsilon": 1e-3}
    norms = []
    net.apply(lambda block: norms.append(block) if isinstance(block, mx.gluon.nn.BatchNorm) else None)
    assert {(norm._kwargs["use_global_stats"], norm._kwargs["eps"]) for norm in norms} == {(True, 1e-3)}


def test_an_unknown_argument_is_no_silence():
    imagenet_resnet("AFF", [1, 1, 1, 1], ctx=mx.cpu(), use_pretrained=False)  # the original's script passes these
    with pytest.raises(TypeError, match="start_layr"):
        imagenet_resnet("AFF", [1, 1, 1, 1], start_layr=2)


def test_reduction_ratio_is_an_argument():
    shapes = structure(made("resnet", r=8))
    assert shapes["layer4.0.attention.local_att.0.weight"] == (256, 2048, 1, 1)


@pytest.mark.parametrize("hybrid", [False, True])
def test_first_norm_learns_its_statistics_on_the_cpu(hybrid):
    """MXNet leaves them at 0 and 1 there (apache/mxnet#18673): images not normalised as trained were misread."""
    net = made("cifar_resnet")
    if hybrid:
        net.hybridize()
    x = 3 + 2 * images(8, 32)
    with mx.autograd.record():
        loss = net(x).sum()
    loss.backward()
    norm = net.features[0]
    np.testing.assert_allclose(norm.running_mean.data().asnumpy(), 0.1 * 3, atol=0.03)
    np.testing.assert_allclose(norm.running_var.data().asnumpy(), 0.9 + 0.1 * 4, atol=0.05)
    assert x.grad is None


def test_a_network_trains_as_a_part_of_another_one():
    """Whose graph is made of symbols while its first batch is recorded."""
    part, whole = made("cifar_resnet"), mx.gluon.nn.HybridSequential()
    whole.add(part)
    whole.hybridize()
    with mx.autograd.record():
        loss = whole(images(2, 32)).square().sum()
    loss.backward()
    assert part.features[1].weight.grad().asnumpy().any()


def test_a_gradient_asked_of_the_images_is_given():
    net = made("cifar_resnet")
    source = images(4, 32)
    source.attach_grad()
    with mx.autograd.record():
        loss = net(2 * source).square().sum()
    loss.backward()
    assert source.grad.asnumpy().any()
