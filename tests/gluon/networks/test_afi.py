"""AFINets: counts of the second paper, GluonCV's plain networks, wiring, gradients."""

import mxnet as mx
import numpy as np
import pytest

from gluon_aff import get_model
from gluon_aff.errors import InputError
from gluon_aff.gluon.imports import import_gluoncv
from gluon_aff.gluon.inspection.summary import count_layers, trainable_parameters
from gluon_aff.gluon.networks.afi import Block, afi_resnet, joined
from gluon_aff.models import MODELS
from gluon_aff.operators import Integration
from gluon_aff.published import paper_tables

# In 1e9 at batch 32: the paper's Tables 4 and 5 (afinets_spec, Section 4)
PAPER_FLOPS = {
    "resnet32_cifar100": 2.23,
    "afi_resnet32_cifar100": 1.78,
    "resnet110_cifar100": 8.17,
    "mobilenet_v2_cifar100": 3.03,
    "resnext29_32x4d_cifar100": 24.95,
    "resnet50": 131.57,
    "resnet152": 369.88,
}
# One pooling of each shared feature, where the paper's profiler saw two of all features: at most 0.8 % less
PAPER_FLOPS_WITH_MORE_POOLING = {
    "afi_b_resnet32_cifar100": 3.15,
    "afi_b_resnet110_cifar100": 12.06,
    "afi_mobilenet_v2_cifar100": 2.67,
    "afi_b_mobilenet_v2_cifar100": 3.16,
    "afi_resnext29_32x4d_cifar100": 21.74,
    "afi_b_resnext29_32x4d_cifar100": 25.90,
    "afi_resnet50": 121.72,
    "afi_b_resnet50": 176.05,
    "afi_resnet152": 332.24,
    "afi_resnet110_cifar100": 6.23,
}
# docs/afinets.md says what is known of these
OTHER_PARAMETERS = {
    *("ShuffleNetV2", "AFI-ShuffleNetV2", "AFI-ShuffleNetV2-B", "AFI-ResNet-110"),
    "AFI-ResNet-50-B",
}
AFINETS = [name for name, record in MODELS.items() if record.host.startswith("afi_")]


def flops(name):
    counts = count_layers(MODELS[name].architecture(), MODELS[name].input_size)
    return 32 * sum(each.thop_count for each in counts) / 1e9


def test_parameters_to_the_papers_last_digit():
    """Tables 4 and 5: 378.23K, 1.74M, or millions."""
    tables = [paper_tables()[name] for name in ("afi_table4_cifar100", "afi_table5_imagenet")]
    printed = {title.replace("(32x4d)", "-32x4d"): row for table in tables for title, row in table.rows.items()}
    units = {"K": 1e3, "M": 1e6}
    different = set()
    for name in AFINETS:
        title = MODELS[name].title
        if title == "AFI-ResNet-152-B":  # the one that the paper leaves out
            continue
        figure = printed[title][1] if MODELS[name].input_size == 32 else f"{printed[title][0]}M"
        if f"{MODELS[name].trainable / units[figure[-1]]:.2f}" != figure[:-1]:
            different.add(title)
    assert different == OTHER_PARAMETERS


def cases(names):
    """Names for parametrize; those of 152 layers are long: their counts of parameters hold their depth."""
    return [pytest.param(name, marks=pytest.mark.long if "152" in name else ()) for name in names]


@pytest.mark.parametrize("name", cases(PAPER_FLOPS))
def test_flops_to_the_papers_last_digit(name):
    assert flops(name) == pytest.approx(PAPER_FLOPS[name], abs=0.00501)


@pytest.mark.parametrize("name", cases(PAPER_FLOPS_WITH_MORE_POOLING))
def test_flops_but_for_pooling(name):
    assert flops(name) == pytest.approx(PAPER_FLOPS_WITH_MORE_POOLING[name], rel=0.008)


@pytest.mark.parametrize(
    ("blocks", "counts"), [(5, (468_212, 454_708, 400_820)), (18, (1_717_252, 1_659_860, 1_430_836))]
)
def test_one_stage_only(blocks, counts):
    """Table 1; counts of afinets_spec 2.1."""
    record = MODELS["afi_resnet32_cifar100"]
    networks = [record.architecture(r=4, stages=[stage], blocks=blocks) for stage in (1, 2, 3)]
    assert tuple(map(trainable_parameters, networks)) == counts


@pytest.mark.parametrize("name", cases(["resnet50", "resnet152"]))
def test_plain_imagenet_networks_are_gluoncvs(name):
    """Names, order and shapes differ, outputs do not: v1b, parameter by parameter in the order they are used."""
    other = import_gluoncv("gluoncv.model_zoo").get_model(f"{name}_v1b", classes=10)
    other.initialize(mx.init.Xavier())
    ours = get_model(name, classes=10, ctx=mx.cpu())
    x = mx.nd.array(np.random.default_rng(0).normal(size=(2, 3, 64, 64)))
    ours(x)
    expected = other(x).asnumpy()
    mine, theirs = (list(net._collect_params_with_prefix().values()) for net in (ours, other))
    assert sorted(p.shape for p in mine) == sorted(p.shape for p in theirs)
    by_shape = {}
    for parameter in _in_order_of_use(other):
        by_shape.setdefault((parameter.shape, parameter.name.rsplit("_", 1)[-1]), []).append(parameter)
    for parameter in _in_order_of_use(ours):
        source = by_shape[parameter.shape, parameter.name.rsplit("_", 1)[-1]].pop(0)
        parameter.set_data(source.data())
    np.testing.assert_allclose(ours(x).asnumpy(), expected, rtol=1e-4, atol=1e-4)


def _in_order_of_use(net):
    order = []

    def note(layer, *_):
        order.extend(layer._reg_params.values())

    handles = [child.register_forward_hook(note) for child in _layers(net)]
    net(mx.nd.zeros((1, 3, 64, 64)))
    for handle in handles:
        handle.detach()
    return order


def _layers(block):
    for child in block._children.values():
        yield child
        yield from _layers(child)


def small(name, **more):
    depth = {"afi_cifar_resnet": {"blocks": 3}, "afi_imagenet_resnet": {"layers": (2, 3, 3, 2)}}
    return get_model(name, ctx=mx.cpu(), **depth.get(MODELS[name].host, {}), **more)


# Of equal hosts and variants one, which `small` makes the same
SHALLOW = [name for name in AFINETS if "110" not in name and "152" not in name]


@pytest.mark.parametrize("name", SHALLOW)
def test_forward_backward_and_hybridized(name):
    mx.random.seed(0)
    net = small(name)
    side = 32 if MODELS[name].input_size == 32 else 64
    x = mx.nd.array(np.random.default_rng(0).normal(size=(4, 3, side, side)))
    weights = mx.nd.array(np.random.default_rng(1).normal(size=(4, MODELS[name].classes)))
    gradients, silent = [], []
    for hybrid in (False, True):
        net.hybridize(hybrid)
        with mx.autograd.record():
            (net(x) * weights).sum().backward()
        gradients.append(
            {n: p.grad().asnumpy() for n, p in net._collect_params_with_prefix().items() if p.grad_req != "null"}
        )
        silent.append({name for name, gradient in gradients[-1].items() if not gradient.any()})
    # The second block of a group integrates one feature, whose softmax is 1 whatever its scorer says
    one_feature = {name for name in gradients[0] if ".blocks.1.integrate." in name}
    assert silent == [one_feature, one_feature]
    assert bool(one_feature) == name.startswith("afi_")
    for parameter, gradient in gradients[0].items():
        difference = np.linalg.norm(gradients[1][parameter] - gradient)
        assert difference < 0.05 * np.linalg.norm(gradient) + 1e-2, parameter


@pytest.mark.parametrize("name", ["afi_resnet32_cifar100", "afi_mobilenet_v2_cifar100", "afi_shufflenet_v2_cifar100"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        *(
            ({"stages": stages}, "name those that integrate features, from 1 to [35]")
            for stages in ([], [0], [9], 1, "1")
        ),
        *(({"r": r}, f"r={r}: the channel reduction ratio is a whole number from 1") for r in (0, -3, 1.5, True)),
        ({"attention": "se"}, "unknown attention 'se': there are SE, GE"),
        ({"first": "all"}, "unknown first feature"),
        ({"fusion": "AFF"}, "fusion AFF: AFINets and their plain versions have no fusion"),
    ],
)
def test_arguments_that_mean_nothing(name, given, message):
    with pytest.raises(InputError, match=message):
        get_model(name, **given)


@pytest.mark.parametrize("given", [{"r": 4}, {"stages": [1]}, {"attention": "SE"}])
def test_networks_that_integrate_nothing(given):
    with pytest.raises(InputError, match="a plain network integrates no features"):
        get_model("resnet32_cifar100", **given)
    if "r" not in given:
        with pytest.raises(InputError, match="aff_resnet50 integrates no features"):
            get_model("aff_resnet50", **given)


@pytest.mark.parametrize("attention", ["SE", "GE", "CBAM", "ECA"])
def test_attentions_are_counted_once(attention):
    """CBAM's two layers run twice."""
    architecture = MODELS["afi_resnet32_cifar100"].architecture(attention=attention)
    counts = count_layers(architecture, 32)
    assert sum(each.trainable for each in counts) == trainable_parameters(architecture)
    names = [each.name for each in counts]
    assert sum(name.endswith(".attend.pool") for name in names) == 12  # an integrating block, an average
    assert sum(name in ("features.3.pool", "features.4.pool", "features.5.pool") for name in names) == 12  # a feature


@pytest.mark.parametrize("name", SHALLOW)
def test_images_whose_sides_halve_to_odd_ones(name):
    net = small(name)
    net.hybridize()
    side = 33 if MODELS[name].input_size == 32 else 84
    assert net(mx.nd.zeros((2, 3, side, side + 17))).shape == (2, MODELS[name].classes)


def test_joined_channels_one_behind_the_other_or_shuffled():
    first, second = np.random.default_rng(0).normal(size=(2, 3, 4, 2, 5)).astype("float32")
    arrays = mx.nd.array(first), mx.nd.array(second)
    behind = np.concatenate([first, second], axis=1)
    np.testing.assert_array_equal(joined(mx.nd, *arrays).asnumpy(), behind)
    shuffled = behind.reshape(3, 2, 4, 2, 5).swapaxes(1, 2).reshape(3, 8, 2, 5)
    np.testing.assert_array_equal(joined(mx.nd, *arrays, in_turns=True).asnumpy(), shuffled)


def test_second_block_of_a_group_reuses_the_first_feature():
    """R of one feature is that feature: with A, the first half of the first block's channels."""
    net = afi_resnet(Integration("A", 4), 2, 10)
    net.initialize(mx.init.Xavier())
    x = mx.nd.array(np.random.default_rng(0).normal(size=(2, 16, 8, 8)))
    group = net.features[3]
    seen = {}
    for index, block in enumerate(group.blocks):
        block.first.register_forward_hook(lambda _, __, output, index=index: seen.update({index: output}))
        block.rest.register_forward_hook(lambda _, inputs, __, index=index: seen.update({f"into {index}": inputs[0]}))
    group(x)
    assert seen[0].shape == (2, 16, 8, 8)
    assert seen[1].shape == (2, 8, 8, 8)
    expected = np.concatenate([seen[1].asnumpy(), seen[0].asnumpy()[:, :8]], axis=1)
    np.testing.assert_array_equal(seen["into 1"].asnumpy(), expected)


def watched_blocks(name):
    """Each block of a network with its input, what its two parts give, and its output, in NumPy, of random images."""
    net = small(name)
    seen = []

    def watch(block):
        row = {"block": block}
        seen.append(row)
        block.first.register_forward_hook(lambda _, __, output: row.update(first=output.asnumpy()))
        block.rest.register_forward_hook(lambda _, __, output: row.update(rest=output.asnumpy()))
        block.register_forward_hook(lambda _, inputs, __: row.update(x=inputs[0].asnumpy()))
        block.register_forward_hook(lambda _, __, outputs: row.update(out=outputs[0].asnumpy()))

    net.apply(lambda block: watch(block) if isinstance(block, Block) else None)
    net(mx.nd.array(np.random.default_rng(0).normal(size=(2, 3, 32, 32))))
    return seen


def with_shortcut(row):
    shortcut = row["block"].shortcut
    return row["rest"] + (row["x"] if shortcut is None else shortcut(mx.nd.array(row["x"])).asnumpy())


def test_inverted_residuals_have_no_relu_at_the_end():
    """Sandler et al. 2018; a shortcut where the size stays, and only there."""
    blocks = watched_blocks("mobilenet_v2_cifar100")
    assert len(blocks) == 17
    for row in blocks:
        expected = with_shortcut(row) if row["x"].shape[2:] == row["out"].shape[2:] else row["rest"]
        np.testing.assert_allclose(row["out"], expected, rtol=1e-4, atol=1e-5)
        assert (row["out"] < 0).any()
        assert (row["first"] >= 0).all()


def test_shuffled_blocks_pass_the_first_half_on():
    """Ma et al. 2018: one half of the channels passes by, and the halves take turns afterwards."""
    blocks = watched_blocks("shufflenet_v2_cifar100")
    assert len(blocks) == 13
    for row in blocks:
        half = row["x"].shape[1] // 2
        np.testing.assert_array_equal(row["out"][:, ::2], row["x"][:, :half])
        np.testing.assert_array_equal(row["out"][:, 1::2], row["rest"])
        assert (row["rest"] >= 0).all()


@pytest.mark.parametrize("name", ["resnet32_cifar100", "resnext29_32x4d_cifar100"])
def test_residual_blocks_end_in_a_relu(name):
    for row in watched_blocks(name):
        np.testing.assert_allclose(row["out"], np.maximum(with_shortcut(row), 0), rtol=1e-4, atol=1e-5)


def test_halves_hand_on_two_features():
    net = afi_resnet(Integration("A", 4, first="halves"), 2, 10)
    net.initialize(mx.init.Xavier())
    got = []
    net.features[3].blocks[1].integrate.register_forward_hook(lambda _, inputs, __: got.append(len(inputs)))
    net(mx.nd.zeros((1, 3, 32, 32)))
    assert got == [4]  # two features and their means


@pytest.mark.parametrize("attention", ["SE", "GE", "CBAM", "ECA"])
def test_attention_on_the_integrated_feature(attention):
    net = get_model("afi_resnet32_cifar100", attention=attention, blocks=3, ctx=mx.cpu())
    with mx.autograd.record():
        logits = net(mx.nd.array(np.random.default_rng(0).normal(size=(2, 3, 32, 32))))
    logits.backward()
    assert logits.shape == (2, 100)
    attending = [p.grad().asnumpy() for name, p in net._collect_params_with_prefix().items() if ".attend." in name]
    assert bool(attending) is (attention != "GE")
    assert all(np.isfinite(gradient).all() for gradient in attending)
    assert not attending or any(gradient.any() for gradient in attending)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "C"}, "unknown AFI variant 'C'"),
        ({"attention": "se"}, "unknown attention 'se': there are SE, GE, CBAM, ECA"),
        ({"first": "half"}, "unknown first feature 'half': did you mean halves"),
    ],
)
def test_what_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        get_model("afi_resnet32_cifar100", **arguments)
