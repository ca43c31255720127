"""Every operator of the paper's tables against its equation, evaluated in NumPy."""

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.fusion_equations import CHANNELS, EXPECTED, bottleneck, features, one_convolution
from shared_by_tests.initialised import random_parameters

from gluon_aff.errors import InputError
from gluon_aff.gluon import fusion
from gluon_aff.gluon.fusion import AFF, MSCAM, Fusing
from gluon_aff.gluon.networks import get_model
from gluon_aff.operators import OPERATORS


def test_every_operator_is_here():
    assert list(EXPECTED) == list(OPERATORS)


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("context", ["bottleneck", "conv"])
@pytest.mark.parametrize(
    ("skip", "factor", "swapped"), [("short", 2, False), ("same layer", 1, True), ("long", 2, False)]
)
@pytest.mark.parametrize("name", OPERATORS)
def test_equation(name, skip, factor, swapped, context, hybrid):
    net = Fusing(name, r=4, context=context, skip=skip)(CHANNELS)
    parameters = random_parameters(net)
    net.hybridize(hybrid)
    y, x = features(0), features(1)
    expected = EXPECTED[name](
        parameters,
        y,
        x,
        factor=factor,
        swapped=swapped,
        context=bottleneck if context == "bottleneck" else one_convolution,
    )
    output = net(mx.nd.array(y), mx.nd.array(x)).asnumpy()
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["Concatenation", "MS-GAU", "AFF", "iAFF", "SKNet"])
def test_a_block_by_its_class_is_that_of_a_short_skip(name):
    """With the same parameters, of the same shapes."""
    operator = OPERATORS[name]
    blocks = getattr(fusion, operator.block)(CHANNELS, **operator.arguments), Fusing(name)(CHANNELS)
    first, second = map(random_parameters, blocks)
    assert {key: value.shape for key, value in first.items()} == {key: value.shape for key, value in second.items()}
    y, x = mx.nd.array(features(0)), mx.nd.array(features(1))
    np.testing.assert_array_equal(*(block(y, x).asnumpy() for block in blocks))


def test_ms_cam_reduces_to_a_quarter():
    assert MSCAM(CHANNELS).local_att[0].weight.shape == (CHANNELS // 4, CHANNELS, 1, 1)


def test_scale_is_an_argument():
    for name in ("AFF", "iAFF", "SKNet", "Global+Global"):
        one, three = (Fusing(name, scale=scale)(CHANNELS) for scale in (1, 3))
        random_parameters(one)
        random_parameters(three)
        y, x = mx.nd.array(features(0)), mx.nd.array(features(1))
        np.testing.assert_allclose(three(y, x).asnumpy(), 3 * one(y, x).asnumpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPERATORS)
def test_indifferent_attention(name):
    """Attention weights of zero make w = 1/2 (paper_spec 1.7)."""
    expected = {"iAFF": (0.5, 0.5), "SENet": (0.5, 1), "MS-SENet": (0.5, 1), "MS-GAU": (1, 0.5), "MS-SA": (1, 0.5)}
    share_y, share_x = {**expected, "GAU": (1, 0.5), "Concatenation": (0, 0)}.get(name, (1, 1))
    net = Fusing(name)(CHANNELS)
    net.initialize(mx.init.Zero())
    y, x = features(0), features(1)
    output = net(mx.nd.array(y), mx.nd.array(x)).asnumpy()
    np.testing.assert_allclose(output, share_y * y + share_x * x, rtol=1e-5, atol=1e-6)


def test_swapping_the_roles_is_a_change_of_signs():
    """Negated gammas and betas of the last BatchNorms turn w into 1 - w (paper_spec 1.5)."""
    published, paper = AFF(CHANNELS), AFF(CHANNELS, gates="X")
    values = random_parameters(published)
    random_parameters(paper)
    for name, parameter in paper._collect_params_with_prefix().items():
        last = name in [f"{branch}.{end}" for branch in ("local_att.4", "global_att.5") for end in ("gamma", "beta")]
        parameter.set_data(mx.nd.array(-values[name] if last else values[name]))
    y, x = mx.nd.array(features(0)), mx.nd.array(features(1))
    for context in (mx.autograd.predict_mode(), mx.autograd.train_mode()):
        with context:
            np.testing.assert_allclose(paper(y, x).asnumpy(), published(y, x).asnumpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_parameter_gets_a_gradient(name):
    net = Fusing(name)(CHANNELS)
    random_parameters(net)
    y, x = mx.nd.array(features(0)), mx.nd.array(features(1))
    y.attach_grad()
    x.attach_grad()
    with mx.autograd.record():
        loss = (net(y, x) * mx.nd.array(features(2))).sum()
    loss.backward()
    # A bias before a BatchNorm has no effect on the loss
    silent = [
        n
        for n, p in net._collect_params_with_prefix().items()
        if p.grad_req != "null" and not p.grad().asnumpy().any() and not n.endswith("bias")
    ]
    assert silent == []
    assert y.grad.asnumpy().any()
    assert x.grad.asnumpy().any()


def trainable(block):
    return sum(int(np.prod(p.shape)) for p in block.collect_params().values() if p.grad_req != "null")


def test_equal_budgets_where_the_paper_says_equal():
    """Section 5.1.2: r makes the operators of Tables 3 and 4 cost the same, but for iAFF's further biases and BNs."""
    for channels in (16, 32, 64):
        cost = {n: trainable(Fusing(n, r=4 if n == "iAFF" else 2)(channels)) for n in OPERATORS}
        multi_scale = [cost[n] for n in ("MS-GAU", "MS-SENet", "MS-SA", "AFF", "Global+Global", "Local+Local")]
        assert len(set(multi_scale)) == 1
        assert cost["iAFF"] == pytest.approx(multi_scale[0], rel=7 / channels)
        assert 2 * cost["SENet"] == 2 * cost["GAU"] == multi_scale[0]


def test_the_first_releases_flags_meant_one_convolution():
    def names(operator):
        return [name for name in Fusing(operator)(CHANNELS)._collect_params_with_prefix() if name.endswith("weight")]

    assert names("AYforXplusY") == names("ResGlobLocaCha") == ["local_att.0.weight", "global_att.1.weight"]
    assert names("GAUFuse") == ["global_att.1.weight"]
    assert names("MS-GAU") == ["local_att.0.weight", "local_att.3.weight", "global_att.1.weight", "global_att.4.weight"]
    assert names("ResGlobGlobCha")[:2] == ["local_att.1.weight", "local_att.4.weight"]  # behind a pooling layer


# Trainable parameters of the tables in paper_spec: (2.2, legacy; 4.1; 3.2), for 1 to 4 blocks
COUNTS = {
    ("inception_resnet20", "Add", 4): (89_028, 191_108, 293_188, 395_268),
    ("inception_resnet20", "Concatenation", 4): (104_324, 221_108, 337_892, 454_676),
    ("inception_resnet20", "MS-GAU", 2): (105_860, 224_052, 342_244, 460_436),
    ("inception_resnet20", "MS-SENet", 2): (105_860, 224_052, 342_244, 460_436),
    ("inception_resnet20", "MS-SA", 2): (105_860, 224_052, 342_244, 460_436),
    ("inception_resnet20", "AFF", 2): (105_860, 224_052, 342_244, 460_436),
    ("inception_resnet20", "Global+Global", 4): (98_404, 209_420, 320_436, 431_452),
    ("inception_resnet20", "Local+Local", 4): (98_404, 209_420, 320_436, 431_452),
    ("inception_resnet20", "AFF", 4): (98_404, 209_420, 320_436, 431_452),
    ("inception_resnet20", "iAFF", 4): (107_012, 226_260, 345_508, 464_756),
    ("inception_resnet20", "SKNet", 4): (96_468, 205_624, 314_780, 423_936),
    ("resnet20", "Add", 4): (83_700, 180_916, 278_132, 375_348),
    ("resnet20", "Concatenation", 4): (95_012, 203_540, 312_068, 420_596),
    ("resnet20", "MS-GAU", 2): (95_460, 204_436, 313_412, 422_388),
    ("resnet20", "MS-SENet", 2): (95_460, 204_436, 313_412, 422_388),
    ("resnet20", "MS-SA", 2): (95_460, 204_436, 313_412, 422_388),
    ("resnet20", "AFF", 2): (95_460, 204_436, 313_412, 422_388),
    ("resnet20", "AFF", 4): (89_916, 193_348, 296_780, 400_212),
    ("resnet20", "Global+Global", 4): (89_916, 193_348, 296_780, 400_212),
    ("resnet20", "Local+Local", 4): (89_916, 193_348, 296_780, 400_212),
    ("resnet20", "iAFF", 4): (96_132, 205_780, 315_428, 425_076),
    ("resnet20", "SENet", 4): (86_808, 187_132, 287_456, 387_780),
    ("resnet20_fpn", "Add", 4): (93_893, 191_109, 288_325, 385_541),
    ("resnet20_fpn", "Concatenation", 4): (105_413, 202_629, 299_845, 397_061),
    ("resnet20_fpn", "MS-GAU", 2): (96_885, 194_101, 291_317, 388_533),
    ("resnet20_fpn", "MS-SENet", 2): (96_885, 194_101, 291_317, 388_533),
    ("resnet20_fpn", "MS-SA", 2): (96_885, 194_101, 291_317, 388_533),
    ("resnet20_fpn", "AFF", 2): (96_885, 194_101, 291_317, 388_533),
    ("resnet20_fpn", "AFF", 4): (95_533, 192_749, 289_965, 387_181),
    ("resnet20_fpn", "Global+Global", 4): (95_533, 192_749, 289_965, 387_181),
    ("resnet20_fpn", "Local+Local", 4): (95_533, 192_749, 289_965, 387_181),
    ("resnet20_fpn", "iAFF", 4): (97_173, 194_389, 291_605, 388_821),
    ("resnet20_fpn", "SKNet", 4): (95_177, 192_393, 289_609, 386_825),
}
ONE_CONVOLUTION_COUNTS = {
    ("inception_resnet20", "MS-GAU"): (105_284, 222_948, 340_612, 458_276),
    ("inception_resnet20", "iAFF"): (120_772, 253_316, 385_860, 518_404),
    ("resnet20", "MS-SA"): (95_124, 203_764, 312_404, 421_044),
    ("resnet20_fpn", "MS-SENet"): (96_741, 193_957, 291_173, 388_389),
    ("resnet20_fpn", "GAU"): (95_317, 192_533, 289_749, 386_965),
}


def counted(host, fusion, blocks, **arguments):
    net = get_model(f"{host}_b{blocks}", fusion=fusion, **arguments)
    net.infer_shape(mx.nd.zeros((1, 3, 32, 32)))
    return trainable(net)


@pytest.mark.parametrize("blocks", [1, 2, *(pytest.param(deeper, marks=pytest.mark.long) for deeper in (3, 4))])
@pytest.mark.parametrize(("host", "fusion", "r"), COUNTS)
def test_parameters_of_the_papers_networks(host, fusion, r, blocks):
    assert counted(host, fusion, blocks, r=r) == COUNTS[host, fusion, r][blocks - 1]


@pytest.mark.parametrize(("host", "fusion"), ONE_CONVOLUTION_COUNTS)
def test_parameters_of_the_first_releases_networks(host, fusion):
    counts = tuple(counted(host, fusion, blocks, context="conv") for blocks in (1, 2, 3, 4))
    assert counts == ONE_CONVOLUTION_COUNTS[host, fusion]


def test_full_inner_width():
    assert counted("inception_resnet20", "AFF", 1, inner="full") == 172_108
    assert counted("inception_resnet20", "SKNet", 4, inner="full") == 783_888


def test_iaff_of_two_blocks_needs_about_half_of_the_baseline_of_four():
    """Section 5.3: 54 %."""
    assert COUNTS["resnet20", "iAFF", 4][1] / COUNTS["resnet20", "Add", 4][3] == pytest.approx(0.54, abs=0.01)


def test_unknown_context():
    with pytest.raises(InputError, match="unknown context 'conf': did you mean conv"):
        Fusing("AFF", context="conf")(CHANNELS)
