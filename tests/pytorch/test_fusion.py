"""PyTorch's fusion modules against the paper's equations, evaluated in NumPy."""

import numpy as np
import pytest
import torch
from shared_by_tests.fusion_equations import (
    CHANNELS,
    EXPECTED,
    batch_norm,
    below,
    bottleneck,
    convolution,
    features,
    one_convolution,
    pooled,
    random_values,
    sigmoid,
    stretched,
    weight,
)

from gluon_aff import operators, registry
from gluon_aff.errors import InputError
from gluon_aff.operators import ATTENTIONS, BRANCHES, CONTEXTS, OPERATORS
from gluon_aff.pytorch.fusion import AFF, AFI, MSCAM, FeatureFusion, Fusing, iAFF
from gluon_aff.pytorch.fusion.attention import context_branch
from gluon_aff.pytorch.fusion.channel_attention import CBAM, CHANNEL_ATTENTIONS, ECA, GE, SE
from gluon_aff.pytorch.parameters import load_arrays, parameter_arrays


def with_random_parameters(module):
    """The module, for inference, and its parameters by the names that `.params` files have."""
    values = random_values({name: array.shape for name, array in parameter_arrays(module).items()})
    load_arrays(module, values, "random values")
    return module.eval(), values


def output(module, *inputs):
    with torch.no_grad():
        return module(*map(torch.from_numpy, inputs)).numpy()


@pytest.mark.parametrize("context", ["bottleneck", "conv"])
@pytest.mark.parametrize(
    ("skip", "factor", "swapped"), [("short", 2, False), ("same layer", 1, True), ("long", 2, False)]
)
@pytest.mark.parametrize("name", OPERATORS)
def test_equation(name, skip, factor, swapped, context):
    module, values = with_random_parameters(Fusing(name, r=4, context=context, skip=skip)(CHANNELS))
    y, x = features(0), features(1)
    branch = bottleneck if context == "bottleneck" else one_convolution
    expected = EXPECTED[name](values, y, x, factor=factor, swapped=swapped, context=branch)
    np.testing.assert_allclose(output(module, y, x), expected, rtol=1e-4, atol=2e-5)


def test_ms_cam():
    module, values = with_random_parameters(MSCAM(CHANNELS))
    x = features(0)
    np.testing.assert_allclose(output(module, x), x * weight(values, x), rtol=1e-4, atol=1e-5)


def test_scale_is_an_argument():
    y, x = features(0), features(1)
    for name in ("AFF", "iAFF", "SKNet", "Global+Global"):
        one, three = (with_random_parameters(Fusing(name, scale=scale)(CHANNELS))[0] for scale in (1, 3))
        np.testing.assert_allclose(output(three, y, x), 3 * output(one, y, x), rtol=1e-5, atol=1e-6)
    assert (AFF(8).scale, iAFF(8).scale) == (2, 1)


def test_the_iterations_have_branches_of_their_own():
    """The port that exists feeds the first global branch twice."""
    module, _ = with_random_parameters(iAFF(CHANNELS))
    y, x = features(0), features(1)
    before = output(module, y, x)
    for name in ("local_att", "global_att", "local_att2", "global_att2"):
        bias = getattr(module, name)[-1].bias
        kept = bias.detach().clone()
        bias.data += 1
        assert np.abs(output(module, y, x) - before).max() > 1e-2, name
        bias.data = kept


@pytest.mark.parametrize("fusion", [AFF, iAFF])
def test_local_branches_see_each_position_alone(fusion):
    module, _ = with_random_parameters(fusion(CHANNELS, branches=("local", "local")))
    y, x = features(0), features(1)
    alone = output(module, y[:, :, 1:2, 2:], x[:, :, 1:2, 2:])
    np.testing.assert_allclose(output(module, y, x)[:, :, 1:2, 2:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_context_of_other_channels_than_its_input(branch, context):
    layers = context_branch(CHANNELS, 4, branch=branch, context=context, outputs=6)
    shape = (2, 6, 5, 3) if branch == "local" else (2, 6, 1, 1)
    assert layers(torch.from_numpy(features(0))).shape == shape


def test_an_operator_of_a_users_own_gets_the_networks_normalisation(monkeypatch):
    monkeypatch.setattr(operators, "OPERATORS", dict(OPERATORS))
    monkeypatch.setattr(registry, "_IMPLEMENTATIONS", dict(registry._IMPLEMENTATIONS))

    @operators.register_operator("Own")
    class Own(torch.nn.Module):
        def __init__(self, channels, norm_layer=None):
            super().__init__()
            self.norm = norm_layer(channels)

    block = Fusing("Own", norm_layer=torch.nn.InstanceNorm2d)(5)
    assert isinstance(block.norm, torch.nn.InstanceNorm2d)
    assert block.norm.num_features == 5


@pytest.mark.parametrize("name", OPERATORS)
def test_every_parameter_gets_a_gradient(name):
    module, _ = with_random_parameters(Fusing(name)(CHANNELS))
    module.train()
    y, x = (torch.from_numpy(features(seed)).requires_grad_() for seed in (0, 1))
    (module(y, x) * torch.from_numpy(features(2))).sum().backward()
    # A bias before a BatchNorm has no effect on the loss
    silent = [n for n, p in module.named_parameters() if not p.grad.any() and not n.endswith("bias")]
    assert silent == []
    assert y.grad.any()
    assert x.grad.any()


def maps(seed, channels, height=4, width=6, batch=2):
    return np.random.default_rng(seed).normal(size=(batch, channels, height, width)).astype("float32")


def test_two_features_of_other_width_and_size():
    """Y is projected (1x1, norm, ReLU), resized, and fused with X by Eq. 4, times 2."""
    module, values = with_random_parameters(FeatureFusion([8, 12], norm_layer=torch.nn.BatchNorm2d))
    x, y = maps(0, 8), maps(1, 12, 2, 3)
    high = np.maximum(batch_norm(values, "projections.1.1", convolution(values, "projections.1.0", y)), 0)
    high = stretched(high, 4, 6)
    w = weight(below(values, "fuse.fusions.0."), x + high)
    np.testing.assert_allclose(output(module, x, y), 2 * (w * high + (1 - w) * x), rtol=1e-4, atol=1e-4)


def test_a_chain_fuses_from_the_last_to_the_first():
    fusion = FeatureFusion([8, 8, 8], operator="MS-SA", norm_layer=torch.nn.BatchNorm2d)
    module, values = with_random_parameters(fusion)
    x, y, z = (maps(seed, 8) for seed in range(3))
    fused = weight(below(values, "fuse.fusions.0."), y + z) * y + z
    expected = weight(below(values, "fuse.fusions.1."), x + fused) * x + fused
    np.testing.assert_allclose(output(module, x, y, z), expected, rtol=1e-4, atol=1e-4)


def test_softmax_over_three():
    fusion = FeatureFusion([8, 8, 8], way="softmax", norm_layer=torch.nn.BatchNorm2d)
    module, values = with_random_parameters(fusion)
    values = below(values, "fuse.")
    stack = np.stack([maps(seed, 8) for seed in range(3)])
    total = stack.sum(axis=0)
    logits = bottleneck(values, "local_att", total) + bottleneck(values, "global_att", pooled(total), first=1)
    exponents = np.exp(logits.reshape(2, 3, 8, 4, 6).swapaxes(0, 1))
    expected = 3 * (stack * exponents / exponents.sum(axis=0)).sum(axis=0)
    np.testing.assert_allclose(output(module, *stack), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("way", "operator"), [("chain", "AFF"), ("chain", "iAFF"), ("chain", "SKNet"), ("softmax", "AFF")]
)
def test_one_image_trains_the_global_context(way, operator):
    """BatchNorm would refuse the pooled map of a single image."""
    module = FeatureFusion([8, 16, 4], 8, operator, way=way)
    inputs = [torch.from_numpy(maps(i, c, 8 >> i, 8 >> i, batch=1)) for i, c in enumerate((8, 16, 4))]
    module(*inputs).square().sum().backward()
    gradients = {n: p.grad for n, p in module.named_parameters() if "global_att" in n}
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert all(gradient.any() for name, gradient in gradients.items() if name.endswith("weight"))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        AFF(8)(*(torch.zeros(1, 8, 4, 4) for _ in range(2)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeatureFusion([8]), r"in_channels=\[8\]: a fusion takes two features or more"),
        (lambda: FeatureFusion([8, 8], way="chains"), "unknown way to fuse 'chains': did you mean chain"),
        (lambda: AFF(8, r=16), "r=16 leaves no channel of 8"),
        (lambda: AFF(8, r=1.5), "r=1.5: the channel reduction ratio is a whole number from 1"),
        (lambda: AFF(8, branches=("local", "globe")), "unknown context branch 'globe': did you mean global"),
        (lambda: AFF(8, context="bottle"), "unknown context 'bottle': did you mean bottleneck"),
        (lambda: Fusing("aff")(8), "unknown fusion"),
        (lambda: AFI(0, 4), "AFI of 0 channels: the network is too narrow"),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_afi_of_one_channel_has_one_logit():
    assert AFI(1, 4).score.weight.shape == (1, 1)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_afi(count):
    """R is the sum of softmax-weighted features; of one feature it is that feature."""
    module, values = with_random_parameters(AFI(8, 4))
    stack = np.stack([maps(seed, 8) for seed in range(count)])

    def expected(means):
        scores = np.maximum(means @ values["reduce.weight"].T, 0) @ values["score.weight"].T
        exponents = np.exp(scores)[..., None, None]
        return (stack * exponents / exponents.sum(axis=0)).sum(axis=0)

    means = stack.mean(axis=(3, 4))
    features = [torch.from_numpy(each) for each in stack]
    with torch.no_grad():
        result = module(features).numpy()
        by_given_means = module(features, [torch.from_numpy(3 * each) for each in means]).numpy()
    np.testing.assert_allclose(result, expected(means), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_given_means, expected(3 * means), rtol=1e-4, atol=1e-5)
    if count == 1:
        np.testing.assert_allclose(result, stack[0], rtol=1e-6)


def se(p, z):
    hidden = np.maximum(pooled(z)[:, :, 0, 0] @ p["excitation.0.weight"][:, :, 0, 0].T, 0)
    return sigmoid(hidden @ p["excitation.2.weight"][:, :, 0, 0].T)[..., None, None]


def test_channel_attentions():
    assert tuple(CHANNEL_ATTENTIONS) == ATTENTIONS
    assert [block.__name__ for block in CHANNEL_ATTENTIONS.values()] == list(ATTENTIONS)
    x = maps(0, 8)
    assert [
        SE(32).excitation[0].out_channels,
        SE(32, 4).excitation[0].out_channels,
        CBAM(8).excitation[0].out_channels,
    ] == [2, 8, 1]
    module, values = with_random_parameters(SE(8, 4))
    np.testing.assert_allclose(output(module, x), x * se(values, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(output(GE(8), x), x * sigmoid(pooled(x)), rtol=1e-5, atol=1e-6)
    module, values = with_random_parameters(ECA(8))
    kernel = values["neighbours.weight"][0, 0, 0]
    widths = {8: 3, 64: 3, 128: 5, 256: 5, 512: 5}  # the odd number from (log2(C) + 1) / 2, rounded down, up
    assert {channels: ECA(channels).neighbours.kernel_size[1] for channels in widths} == widths
    means = np.pad(pooled(x)[:, :, 0, 0], ((0, 0), (1, 1)))
    logits = sum(kernel[i] * means[:, i : i + 8] for i in range(3))
    np.testing.assert_allclose(output(module, x), x * sigmoid(logits)[..., None, None], rtol=1e-4, atol=1e-5)


def test_cbam_of_maps_that_are_constant():
    """Mean and maximum are the same then, so that the channel gate doubles its logits."""
    module, values = with_random_parameters(CBAM(8, 4))
    values["spatial.weight"] /= 49  # else the gate of as many pixels would be 1
    load_arrays(module, values, "random values")
    x = np.broadcast_to(maps(0, 8)[:, :, :1, :1], (2, 8, 9, 9)).copy()
    single = values["excitation.2.weight"][:, :, 0, 0]
    hidden = np.maximum(pooled(x)[:, :, 0, 0] @ values["excitation.0.weight"][:, :, 0, 0].T, 0)
    gated = x * sigmoid(2 * hidden @ single.T)[..., None, None]
    both = np.stack([gated.mean(axis=1), gated.max(axis=1)], axis=1)[:, :, 4, 4]
    at_centre = sigmoid((values["spatial.weight"].sum(axis=(2, 3)) * both).sum(axis=1))  # where no padding is seen
    np.testing.assert_allclose(output(module, x)[:, :, 4, 4], gated[:, :, 4, 4] * at_centre[:, None], rtol=1e-4)
