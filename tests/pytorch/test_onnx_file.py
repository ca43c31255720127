"""ONNX files that PyTorch wrote, against the networks, in ONNX Runtime and by onnx's own checker."""

import logging
import os
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from shared_by_tests.cards import card_for
from shared_by_tests.golden_values import GOLDENS, described_array, golden_arrays
from torch import nn

from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.export.onnx_file import write_onnx
from gluon_aff.models import model_record
from gluon_aff.pytorch import get_model
from gluon_aff.pytorch.network import TorchNetwork
from gluon_aff.pytorch.parameters import load_arrays, parameter_arrays
from gluon_aff.weights.card import card_of

SHAPES = [(1, 3, 64, 64), (5, 3, 64, 64), (2, 3, 96, 50), (1, 3, 33, 71)]
NETWORKS = {  # of every host that classifies
    "resnet20_b1": {},
    "aff_resnext38_32x4d_cifar100": {"blocks": 1, "channel_times": 1, "fusion": "iAFF"},
    "inception_resnet20_b1": {"fusion": "Concatenation"},
    "aff_resnet18": {},
    "aff_resnext50_32x4d": {"layers": (1, 1, 2, 1), "fusion": "SKNet"},
    "afi_resnet32_cifar100": {"attention": "CBAM"},
    "afi_b_resnet50": {"attention": "ECA", "layers": (1, 3, 1, 2)},
    "afi_resnext29_32x4d_cifar100": {},
    "afi_mobilenet_v2_cifar100": {},
    "afi_shufflenet_v2_cifar100": {},
}


def filled(name, **arguments):
    """The network for inference, with the values of the goldens."""
    net = get_model(name, **arguments).eval()
    shapes = {name: array.shape for name, array in parameter_arrays(net).items()}
    load_arrays(net, golden_arrays(shapes), "goldens' values")
    return net


def outputs(net, images):
    with torch.no_grad():
        return net(torch.from_numpy(images)).numpy()


def run(path, images):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0]


def random_images(shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request, tmp_path_factory):
    """A network, its card, and its ONNX file."""
    net, card = filled(request.param, classes=7, **NETWORKS[request.param]), card_for(request.param, 32)
    path = str(tmp_path_factory.mktemp("onnx") / "network.onnx")
    write_onnx(TorchNetwork([net]), path, card)
    return net, card, path


@pytest.fixture
def small():
    """The smallest of them, and its card."""
    return filled("resnet20_b1", classes=7), card_for("resnet20_b1", 32)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_logits_are_the_networks_at_any_batch_and_size(exported, shape):
    net, _, path = exported
    expected = outputs(net, random_images(shape))
    found = run(path, random_images(shape))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 0.1


def test_the_file_is_of_the_kind_that_mxnet_exports(exported):
    """Names and open shapes, constants that are all read, opset, writer, card."""
    _, card, path = exported
    model = onnx.load(path)
    (image,), (logits,) = model.graph.input, model.graph.output
    found = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (image, logits)]
    assert (image.name, logits.name) == ("images", "logits")
    assert found == [["batch", 3, "height", "width"], ["batch", 7]]
    read = {name for node in model.graph.node for name in node.input}
    assert {each.name for each in model.graph.initializer} <= read
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 13)]
    assert (model.ir_version, model.producer_name) == (7, "gluon_aff")
    onnx.checker.check_model(model, full_check=True)
    assert card_of({entry.key: entry.value for entry in model.metadata_props}) == card


def test_the_network_is_left_as_it_was(small, tmp_path):
    net, card = small
    before = {name: value.clone() for name, value in net.state_dict().items()}
    logits = outputs(net, random_images((2, 3, 32, 32)))
    write_onnx(TorchNetwork([net]), str(tmp_path / "a.onnx"), card)
    assert not net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    np.testing.assert_array_equal(outputs(net, random_images((2, 3, 32, 32))), logits)
    net(torch.zeros(1, 3, 32, 32)).sum().backward()
    assert net.output.weight.grad is not None


def test_nothing_is_printed_or_logged(small, tmp_path, capfd, caplog):
    write_onnx(TorchNetwork([small[0]]), str(tmp_path / "a.onnx"), small[1])
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    logging.getLogger().warning("heard")
    assert len(caplog.records) == 1


class Layer(nn.Module):
    """Calls a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x * int(x.shape[2]), r"differs from the network by .*, so it was not kept"),
        (torch.special.i1e, r"cannot be written as ONNX \(.*special_i1e.*\): use operators that torch.onnx knows"),
        (lambda x: torch.log(x - 1e9), "outputs for random images are not finite"),
    ],
    ids=["fixed to the size that was traced", "operator not known", "not finite"],
)
def test_what_does_not_come_out_right_is_not_kept(function, message, tmp_path):
    path = tmp_path / "network.onnx"
    path.write_text("an older file")
    net = nn.Sequential(nn.Conv2d(3, 7, 3), Layer(function), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(GluonAFFError, match=message) as error:
        write_onnx(TorchNetwork([net]), str(path), card_for("seven", 8))
    assert "\n" not in str(error.value)
    assert path.read_text() == "an older file"
    assert os.listdir(tmp_path) == ["network.onnx"]


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_the_remedy(small, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"needs the package {name} \(.*pip install 'gluon_aff\[onnx\]'$"):
        write_onnx(TorchNetwork([small[0]]), str(tmp_path / "a.onnx"), small[1])
    assert os.listdir(tmp_path) == []


def test_a_published_configuration_gives_the_goldens_logits(tmp_path):
    """Those were measured with the original's code."""
    import json

    name = "aff_resnet32_cifar100"
    golden = json.loads(GOLDENS[name].read_text())
    path = str(tmp_path / "network.onnx")
    record = model_record(name)
    write_onnx(TorchNetwork([filled(name)]), path, card_for(name, record.input_size, record.classes))
    logits = run(path, described_array(golden["input"]))
    expected = np.array(golden["logits_inference"])
    np.testing.assert_allclose(logits[:, :20], expected, rtol=0, atol=1e-5 * np.abs(logits).max())
    assert logits.argmax(axis=1).tolist() == golden["argmax"]
