"""Every network and every fusion in both engines: names, outputs, gradients, running statistics.

Outputs are compared in float32. Losses, gradients and running statistics are compared in float64: in float32 the
gradient of a bias before a BatchNorm is rounding alone, since its true value is 0, and BatchNorm of the pooled maps of
a few images makes roundings grow to percents of other gradients in the deepest networks.
"""

from inspect import signature

import mxnet as mx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from shared_by_tests.golden_values import GOLDENS, golden_value
from shared_by_tests.normalised_values import values_for_each_channel

from gluon_aff import get_model as gluon_model
from gluon_aff import list_models
from gluon_aff.gluon import fusion as gluon_fusion
from gluon_aff.gluon import networks as gluon_networks
from gluon_aff.gluon.networks.zoo import BUILDERS as GLUON_BUILDERS
from gluon_aff.gluon.parameters import load_arrays as load_into_gluon
from gluon_aff.models import MODELS
from gluon_aff.operators import OPERATORS
from gluon_aff.pytorch import fusion as torch_fusion
from gluon_aff.pytorch import get_model
from gluon_aff.pytorch import networks as torch_networks
from gluon_aff.pytorch.networks.zoo import BUILDERS
from gluon_aff.pytorch.parameters import load_arrays, parameter_arrays, parameter_names

# Of the images here, by the sizes that the networks are for
SIDES = {32: 32, 224: 64, 480: 64}
IMAGES = {32: 3, 224: 3, 480: 5}
# With 3, BatchNorm of their pooled maps makes a rounding grow 7e10-fold in iAFF-ResNet-50's gradients; with 6, 5e4-fold
OF_IAFF = 6


def pair(name, **arguments):
    """The network in both engines, with the same parameters, for inference in PyTorch."""
    theirs, ours = gluon_model(name, **arguments), get_model(name, **arguments).eval()
    values = with_golden_values(theirs, ours)
    if hasattr(ours, "head"):  # the pyramid's, whose random numbers differ
        assert ours.head[3].p == theirs.head[3]._rate
        ours.head[3].p = theirs.head[3]._rate = 0
    return theirs, ours, values


def with_golden_values(theirs, ours):
    """Give both networks or blocks the same parameters, which are returned by name."""
    values = {name: golden_value(name, array.shape) for name, array in parameter_arrays(ours).items()}
    theirs.initialize(mx.init.Zero())
    load_into_gluon(theirs, values, "goldens' values")
    load_arrays(ours, values, "goldens' values")
    return values


def relative(found, expected):
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)


def compare(name, **arguments):
    theirs, ours, values = pair(name, **arguments)
    assert list(theirs._collect_params_with_prefix()) == list(values)
    size = MODELS[name].input_size
    # Of other images, a value that MXNet has resized in float32 may lie on the other side of a ReLU
    count = OF_IAFF if name.startswith("iaff") else IMAGES[size]
    images = np.random.RandomState(2).normal(size=(count, 3, SIDES[size], SIDES[size])).astype("float32")
    with torch.no_grad():
        found = ours(torch.from_numpy(images)).numpy()
    assert relative(found, theirs(mx.nd.array(images)).asnumpy()) < 1e-5
    compare_a_step(theirs, ours.double().train(), values, images.astype("float64"))


def compare_a_step(theirs, ours, values, images):
    theirs.cast("float64")
    x = mx.nd.array(images, dtype="float64")
    labels = np.arange(len(images))
    theirs_by_name = theirs._collect_params_with_prefix()
    with mx.autograd.record():
        output = theirs(x)
        if output.ndim == 2:
            loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(output, mx.nd.array(labels, dtype="float64")).mean()
        else:
            loss = output.square().mean()
    loss.backward()
    output, counts = values_for_each_channel(ours, torch.from_numpy(images))
    mine = F.cross_entropy(output, torch.from_numpy(labels)) if output.dim() == 2 else output.square().mean()
    mine.backward()
    assert mine.item() == pytest.approx(float(loss.asscalar()), rel=1e-6)
    names = {name: key for key, name in parameter_names(ours).items()}
    parameters, tensors = dict(ours.named_parameters()), ours.state_dict()
    gradients = {n: p.grad().asnumpy() for n, p in theirs_by_name.items() if p.grad_req != "null"}
    largest = max(np.abs(gradient).max() for gradient in gradients.values())
    assert set(gradients) == {
        name for name, key in names.items() if key in parameters and parameters[key].requires_grad
    }
    for name, gradient in gradients.items():
        found = parameters[names[name]].grad.numpy()
        if np.abs(gradient).max() < 1e-12 * largest:  # 0 but for rounding
            assert np.abs(found).max() < 1e-11 * largest, name
        else:
            assert relative(found, gradient) < 1e-5, name
    for name, key in names.items():
        if "running_" in name:
            new = theirs_by_name[name].data().asnumpy() - 0.9 * values[name]
            if key in counts:  # biased in MXNet on CPUs, unbiased in PyTorch
                new = new * counts[key] / (counts[key] - 1)
            # MXNet keeps them in float32
            assert relative(tensors[key].numpy(), 0.9 * values[name] + new) < 1e-5, name


# Networks that have more blocks a stage than one that is compared, and nothing else
DEEPER = ("aff_resnet34", *(f"{host}_b{blocks}" for host in ("resnet20", "inception_resnet20") for blocks in (3, 4)))
# Wide ones of which a narrower one is compared, or one with more in it
WIDER = ("aff_resnet18", "resnet50", "resnext29_32x4d_cifar100")


def held_elsewhere(name):
    """Whether a network is held by its golden, or by another one that is compared."""
    return name in (*GOLDENS, *DEEPER, *WIDER) or "resnet110" in name or name.endswith("resnet152")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if held_elsewhere(name) else []) for name in list_models()]
)
def test_every_model(name):
    compare(name)


@pytest.mark.parametrize("fusion", OPERATORS)
@pytest.mark.parametrize("name", ["resnet20_b1", "inception_resnet20_b1", "resnet20_fpn_b1"])
def test_every_operator_on_every_skip(name, fusion):
    compare(name, fusion=fusion)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("aff_resnet18", {"deep_stem": False, "avg_down": False, "start_layer": 2, "r": 8, "scale": 1.5}),
        ("aff_resnet18", {"dilated": True, "context": "conv", "classes": 7}),
        ("aff_resnet50", {"layers": (1, 1, 1, 1), "stem_width": 16, "dilated": True}),
        ("aff_resnext50_32x4d", {"layers": (1, 1, 1, 1), "use_se": True, "deep_stem": False, "avg_down": False}),
        ("aff_resnext38_32x4d_cifar100", {"blocks": 1, "channel_times": 2, "use_se": True, "deep_stem": True}),
        ("aff_resnet32_cifar100", {"blocks": 1, "channel_times": 1, "deep_stem": True, "start_layer": 3}),
        ("inception_resnet20_b1", {"inner": "full", "channel_times": 2}),
        ("resnet20_fpn_b1", {"fuse_order": "bottom-up", "decoder_width": 24}),
        ("resnet20_fpn_b1", {"stem": "tiny", "classes": 3}),
        ("afi_resnet32_cifar100", {"blocks": 3, "first": "halves"}),
        ("afi_resnet32_cifar100", {"blocks": 2, "stages": [1, 3], "attention": "SE"}),
        ("afi_resnet32_cifar100", {"blocks": 2, "attention": "GE"}),
        ("afi_b_resnet32_cifar100", {"blocks": 2, "attention": "CBAM"}),
        ("afi_b_resnet32_cifar100", {"blocks": 2, "attention": "ECA", "r": 8}),
    ],
)
def test_arguments_of_the_hosts(name, arguments):
    compare(name, **arguments)


def defaults(made_by):
    parameters = signature(made_by).parameters
    return {name: parameters[name].default for name in parameters if name not in ("norm_layer", "norm")}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *((GLUON_BUILDERS[host], BUILDERS[host]) for host in BUILDERS),
        *((getattr(gluon_networks, name), getattr(torch_networks, name)) for name in torch_networks.__all__),
        *(
            (getattr(gluon_fusion, each), getattr(torch_fusion, each))
            for each in torch_fusion.__all__
            if hasattr(gluon_fusion, each)
        ),
    ],
    ids=lambda each: each.__name__,
)
def test_arguments_of_the_same_name_have_the_same_default(theirs, ours):
    theirs, ours = defaults(theirs), defaults(ours)
    assert {name: ours[name] for name in ours if name in theirs} == {
        name: theirs[name] for name in theirs if name in ours
    }


@pytest.mark.parametrize("way", ["chain", "softmax"])
@pytest.mark.parametrize("operator", ["AFF", "iAFF", "SKNet", "Concatenation"])
def test_features_of_any_width_and_size(operator, way):
    widths, sizes = (8, 12, 8), ((6, 9), (3, 5), (2, 2))
    theirs = gluon_fusion.FeatureFusion(widths, operator=operator, way=way)
    ours = torch_fusion.FeatureFusion(widths, operator=operator, way=way)
    compare_fusions(theirs, ours, [(2, width, *size) for width, size in zip(widths, sizes)])


def compare_fusions(theirs, ours, shapes):
    with_golden_values(theirs, ours.eval())
    rng = np.random.RandomState(0)
    inputs = [rng.normal(size=shape).astype("float32") for shape in shapes]
    with torch.no_grad():
        found = ours(*map(torch.from_numpy, inputs)).numpy()
    assert relative(found, theirs(*map(mx.nd.array, inputs)).asnumpy()) < 1e-5


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("iAFF", {"branches": ("local", "local")}),
        ("iAFF", {"branches": ("global", "global"), "gates": "X", "scale": 3.0}),
        ("AFF", {"branches": ("global",), "context": "conv"}),
        ("SelectiveKernel", {"gates": "X", "r": 2}),
        ("GatedSum", {"reads": "Y", "gates": "X", "branches": ("local",)}),
        ("MSCAM", {"r": 2, "branches": ("local",)}),
        ("FeatureFusion", {"in_channels": (8, 8, 8), "way": "softmax", "scale": 0.5, "r": 2}),
    ],
)
def test_fusions_that_are_none_of_the_operators(name, arguments):
    arguments = {**({} if "in_channels" in arguments else {"channels": 8}), **arguments}
    theirs, ours = (getattr(each, name)(**arguments) for each in (gluon_fusion, torch_fusion))
    compare_fusions(theirs, ours, [(2, 8, 5, 3)] * (len(arguments.get("in_channels", "XY")) - (name == "MSCAM")))


@pytest.mark.parametrize("size", [(7, 7), (8, 5), (2, 3)])
def test_pools_are_equal_to_the_last_bit(size):
    maps = np.random.RandomState(0).normal(size=(2, 3, *size)).astype("float32")
    from gluon_aff.gluon.networks.layers import average_pool as theirs
    from gluon_aff.pytorch.networks.layers import average_pool as ours

    np.testing.assert_array_equal(ours(2)(torch.from_numpy(maps)).numpy(), theirs(2)(mx.nd.array(maps)).asnumpy())
    biggest = mx.gluon.nn.MaxPool2D(3, 2, 1)(mx.nd.array(maps)).asnumpy()
    np.testing.assert_array_equal(torch.nn.MaxPool2d(3, 2, 1)(torch.from_numpy(maps)).numpy(), biggest)
