"""ONNX files against MXNet, against the goldens, and by onnx's own checker."""

import logging
import os
import sys
from collections import Counter

import mxnet as mx
import numpy as np
import onnx
import onnxruntime
import pytest
from shared_by_tests.cards import card_for
from shared_by_tests.golden_networks import with_golden_parameters
from shared_by_tests.golden_values import GOLDENS, described_array

from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.export.onnx_file import write_onnx
from gluon_aff.gluon.network import GluonNetwork
from gluon_aff.models import model_record
from gluon_aff.weights.card import card_of

SHAPES = [(1, 3, 64, 64), (5, 3, 64, 64), (2, 3, 96, 50), (1, 3, 33, 71)]


def on_cpu(net):
    return GluonNetwork(net, [mx.cpu()])


def session(path, **options):
    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = 3
    for name, value in options.items():
        setattr(chosen, name, value)
    return onnxruntime.InferenceSession(path, chosen, providers=["CPUExecutionProvider"])


def run(path, images):
    return session(path).run(["logits"], {"images": images})[0]


def random_images(shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_logits_are_mxnets_at_any_batch_and_size(exported, shape):
    net, _, path = exported
    images = random_images(shape)
    expected = net(mx.nd.array(images)).asnumpy()
    np.testing.assert_allclose(run(path, images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 0.1


def test_the_image_is_the_only_input_and_shapes_are_open(exported):
    _, card, path = exported
    model = onnx.load(path)
    (image,), (logits,) = model.graph.input, model.graph.output
    found = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (image, logits)]
    assert (image.name, logits.name) == ("images", "logits")
    assert found == [["batch", 3, "height", "width"], ["batch", card.outputs]]


def test_every_constant_is_read(exported):
    """ONNX Runtime warns of each that is not."""
    graph = onnx.load(exported[2]).graph
    assert {each.name for each in graph.initializer} <= {name for node in graph.node for name in node.input}


def test_the_stamp_is_that_of_the_nodes(exported):
    model = onnx.load(exported[2])
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 13)]
    assert model.ir_version == 7
    assert model.producer_name == "gluon_aff"
    onnx.checker.check_model(model, full_check=True)


def test_the_file_says_what_it_is_of(exported):
    _, card, path = exported
    assert card_of({entry.key: entry.value for entry in onnx.load(path).metadata_props}) == card


def test_onnx_runtime_folds_every_batchnorm_behind_a_convolution(exported, tmp_path):
    """Which it does only where the weights are no inputs; one that something else reads too stays."""
    path = str(tmp_path / "optimized.onnx")
    session(
        exported[2],
        optimized_model_filepath=path,
        graph_optimization_level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    )
    before, after = onnx.load(exported[2]).graph, onnx.load(path).graph
    readers = Counter(name for node in before.node for name in node.input)
    convolved = {name for node in before.node for name in node.output if node.op_type == "Conv" and readers[name] == 1}
    norms = [node for node in before.node if node.op_type == "BatchNormalization"]
    foldable = [node for node in norms if node.input[0] in convolved]
    assert len(foldable) > 10
    assert sum(node.op_type == "BatchNormalization" for node in after.node) == len(norms) - len(foldable)


def test_the_network_and_onnx_are_left_as_they_were(small, tmp_path):
    net, card = small
    images = mx.nd.array(random_images((2, 3, 32, 32)))
    before = {name: p.data().asnumpy().copy() for name, p in net.collect_params().items()}
    logits = net(images).asnumpy()
    newest = onnx.defs.onnx_opset_version
    write_onnx(on_cpu(net), str(tmp_path / "a.onnx"), card)
    assert onnx.defs.onnx_opset_version is newest
    assert onnx.checker.DEFAULT_CONTEXT.opset_imports != {"": 13}
    assert np.array_equal(net(images).asnumpy(), logits)
    assert {name: p.data().asnumpy().tolist() for name, p in net.collect_params().items()} == {
        name: value.tolist() for name, value in before.items()
    }
    with mx.autograd.record():
        net(images).sum().backward()
    assert float(net.output.weight.grad().abs().sum().asscalar()) > 0


def test_nothing_is_printed_or_logged(small, tmp_path, capfd, caplog):
    write_onnx(on_cpu(small[0]), str(tmp_path / "a.onnx"), small[1])
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    logging.getLogger().warning("heard")
    assert len(caplog.records) == 1


def with_layer(operator):
    """Network of a convolution, `operator` and a dense layer."""

    class Layer(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return operator(F, x)

    net = mx.gluon.nn.HybridSequential()
    net.add(
        mx.gluon.nn.Conv2D(4, 3, in_channels=3),
        Layer(),
        mx.gluon.nn.GlobalAvgPool2D(),
        mx.gluon.nn.Dense(7, in_units=4),
    )
    net.initialize(mx.init.Normal(1))
    return net


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (
            lambda F, x: F.relu(F.contrib.BilinearResize2D(x, scale_height=2, scale_width=2, align_corners=False)),
            r"differs from the network by .*, so it was not kept",
        ),
        (lambda F, x: F.contrib.AdaptiveAvgPooling2D(x, output_size=2), "cannot be written as ONNX .*--format symbol"),
        (lambda F, x: F.erf(x), r"cannot be written as ONNX \(No conversion function registered for op type erf yet"),
        (lambda F, x: F.log(x - 1e9), "outputs for random images are not finite"),
    ],
    ids=["wrong in silence", "operator half known", "operator not known", "not finite"],
)
def test_what_does_not_come_out_right_is_not_kept(operator, message, tmp_path):
    path = tmp_path / "network.onnx"
    path.write_text("an older file")
    with pytest.raises(GluonAFFError, match=message) as error:
        write_onnx(on_cpu(with_layer(operator)), str(path), card_for("seven", 8))
    assert "\n" not in str(error.value)
    assert path.read_text() == "an older file"
    assert os.listdir(tmp_path) == ["network.onnx"]


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_the_remedy(small, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"needs the package {name} \(.*pip install 'gluon_aff\[onnx\]'$") as error:
        write_onnx(on_cpu(small[0]), str(tmp_path / "a.onnx"), small[1])
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_an_onnx_that_is_too_new(small, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "__version__", "1.19.1")
    with pytest.raises(InputError, match=r"onnx 1.19.1 is too new for MXNet 1.9.1: pip install 'onnx<1.19'"):
        write_onnx(on_cpu(small[0]), str(tmp_path / "a.onnx"), small[1])


def test_a_place_that_cannot_be_written(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GluonAFFError, match=r"a\.onnx cannot be written"):
        write_onnx(on_cpu(small[0]), str(tmp_path / "file" / "a.onnx"), small[1])


GOLDEN = [
    pytest.param(name, marks=() if name == "aff_resnet32_cifar100" else pytest.mark.long) for name in sorted(GOLDENS)
]


@pytest.mark.parametrize("name", GOLDEN)
def test_published_configurations_give_the_goldens_logits(name, tmp_path):
    net, golden, _ = with_golden_parameters(name)
    record = model_record(name)
    images = described_array(golden["input"])
    path = str(tmp_path / "network.onnx")
    write_onnx(on_cpu(net), path, card_for(name, record.input_size, record.classes))
    logits = run(path, images)
    expected = np.array(golden["logits_inference"])
    np.testing.assert_allclose(logits[:, :20], expected, rtol=0, atol=1e-5 * np.abs(logits).max())
    assert logits.argmax(axis=1).tolist() == golden["argmax"]
