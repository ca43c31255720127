"""The copy of a network that is faster on a CPU, held against the network itself."""

import copy

import numpy as np
import pytest
import torch
from shared_by_tests.golden_values import golden_arrays
from shared_by_tests.small_networks import SMALL
from torch import nn

from gluon_aff.operators import OPERATORS
from gluon_aff.pytorch import get_model
from gluon_aff.pytorch.folding import faster_on_cpu
from gluon_aff.pytorch.parameters import load_arrays, parameter_arrays

FUSING = {name: changed for name, changed in SMALL.items() if not name.startswith("afi_")}
CASES = [*FUSING.items(), *(("resnet20_b1", {"fusion": each}) for each in OPERATORS)]
# a short batch behind a long one, the long one again, other sizes
SHAPES = [(1, 3, 64, 64), (4, 3, 32, 32), (1, 3, 32, 32), (4, 3, 32, 32), (1, 3, 96, 64)]


def filled(name, arguments):
    """The network with statistics and weights of its own in every BatchNorm."""
    net = get_model(name, **arguments).eval()
    load_arrays(net, golden_arrays({each: array.shape for each, array in parameter_arrays(net).items()}), "goldens")
    return net


def images(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype("float32"))


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=lambda each: str(each))
def test_outputs_are_the_same_at_every_shape(name, arguments):
    net = filled(name, arguments)
    faster = faster_on_cpu(net)
    assert isinstance(faster, torch.fx.GraphModule)  # else it could not be traced
    with torch.inference_mode():
        for seed, shape in enumerate(SHAPES):
            expected = net(images(shape, seed))
            torch.testing.assert_close(faster(images(shape, seed)), expected, rtol=0, atol=1e-5 * expected.abs().max())


def test_no_batchnorm_is_left_where_each_follows_a_convolution():
    faster = faster_on_cpu(filled("aff_resnet50", SMALL["aff_resnet50"]))
    convolutions = [module for module in faster.modules() if isinstance(module, nn.Conv2d)]
    assert all(each.weight.is_contiguous(memory_format=torch.channels_last) for each in convolutions)
    assert not [module for module in faster.modules() if isinstance(module, nn.BatchNorm2d)]


def test_the_network_stays_as_it_is():
    net = filled("resnet20_b1", {})
    before = copy.deepcopy(net.state_dict())
    expected = net(images((2, 3, 32, 32)))
    faster = faster_on_cpu(net)
    for parameter in faster.parameters():
        parameter.data.zero_()
    assert all(torch.equal(each, before[name]) for name, each in net.state_dict().items())
    assert torch.equal(net(images((2, 3, 32, 32))), expected)


class TwoReaders(nn.Module):
    """A convolution whose outputs are normalised, and read as they are too."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.norm.running_mean.fill_(3)

    def forward(self, x):
        maps = self.conv(x)
        return maps + self.norm(maps)


class CalledTwice(TwoReaders):
    """A convolution that is normalised the second time only."""

    def forward(self, x):
        return self.conv(x) + self.norm(self.conv(2 * x))


class Wavering(TwoReaders):
    """A network that looks at its maps before it goes on."""

    def forward(self, x):
        maps = self.conv(x)
        return self.norm(maps) if maps.mean() > 0 else maps


def afi():
    """A network of the second paper's, whose blocks hand on lists of any length, which cannot be traced."""
    return filled("afi_resnet32_cifar100", {"blocks": 2})


@pytest.mark.parametrize("kind", [TwoReaders, CalledTwice, Wavering, afi])
def test_a_batchnorm_that_cannot_be_folded_is_kept(kind):
    net = kind().eval()
    faster = faster_on_cpu(net)
    for sign in (1, -1):
        x = sign * images((2, 3, 32, 32)).abs()
        torch.testing.assert_close(faster(x), net(x), rtol=1e-5, atol=1e-4)


def test_a_type_that_is_narrower_than_batchnorms_is_kept():
    """Else what BatchNorm multiplies with would be rounded to it."""
    net = get_model("resnet20_b1", dtype="float16").eval()
    assert isinstance(faster_on_cpu(net).get_submodule("features.2.0.resfwd.3"), nn.BatchNorm2d)
