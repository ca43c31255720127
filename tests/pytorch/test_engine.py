"""PyTorch behind the door, held against MXNet: evaluations, predictions, what looks inside, counts."""

import importlib
import inspect
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from shared_by_tests.golden_values import golden_arrays
from shared_by_tests.protocols import arguments, promised

import gluon_aff.pytorch
from gluon_aff import cli, engines
from gluon_aff.engines import Channels, Devices, engine
from gluon_aff.errors import GluonAFFError, InputError, NoEngineError, ParamsFileError
from gluon_aff.models import list_models, model_record
from gluon_aff.pytorch import engine as torch_engine
from gluon_aff.pytorch import network as torch_network
from gluon_aff.pytorch.cluster import TorchCluster
from gluon_aff.pytorch.learner import TorchLearner
from gluon_aff.pytorch.network import TorchNetwork
from gluon_aff.weights.params_format import read_params_file, write_params_file

CIFAR = "resnet20_b1"


@pytest.mark.parametrize(
    ("protocol", "side"),
    [
        (engines.Engine, torch_engine),
        (engines.Network, TorchNetwork),
        (engines.Learner, TorchLearner),
        (engines.Cluster, TorchCluster()),
        (engines.TorchFiles, engines.torch_files()),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_the_door_has_what_its_protocols_promise(protocol, side):
    for name, member in promised(protocol).items():
        assert hasattr(side, name) or name in side.__annotations__, name
        if inspect.isfunction(member):
            assert arguments(getattr(side, name)) == arguments(member), name


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weight files by model, of golden values."""
    folder = tmp_path_factory.mktemp("weights")

    def file(name):
        path = folder / f"{name}.params"
        if not path.exists():
            shapes = torch_engine.parameter_shapes(model_record(name).architecture())
            write_params_file(str(path), golden_arrays(shapes))
        return str(path)

    return file


@pytest.fixture
def both(weights):
    """A network in both engines."""

    def load(name):
        architecture = model_record(name).architecture()
        return [
            engine(each).load_network(architecture, weights(name), Devices(), "float32") for each in ("mxnet", "torch")
        ]

    return load


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def images(count=3, side=32):
    return np.random.default_rng(0).normal(size=(count, 3, side, side)).astype("float32")


def test_logits_and_parameters(both):
    theirs, ours = both(CIFAR)
    waiting = ours.infer(images())
    assert relative(waiting(), theirs.infer(images())()) < 1e-5
    expected = theirs.parameters()
    assert list(ours.parameters()) == list(expected)
    assert all(np.array_equal(array, expected[name]) for name, array in ours.parameters().items())


@pytest.mark.parametrize(("dtype", "rounding"), [("float16", 1e-2), ("bfloat16", 1e-1)])
@pytest.mark.parametrize("name", [CIFAR, "aff_resnet18", "resnet20_fpn_b1"])
def test_a_narrower_type(weights, name, dtype, rounding, monkeypatch):
    monkeypatch.setattr("gluon_aff.pytorch.network.check_bfloat16", lambda device: None)  # wherever the tests run
    architecture = model_record(name).architecture()
    full, half = (torch_engine.load_network(architecture, weights(name), Devices(), t) for t in ("float32", dtype))
    found = half.infer(images())()
    assert found.dtype == np.float32
    assert 0 < relative(found, full.infer(images())()) < rounding
    assert 0 < relative(half.for_many_images()(images())(), full.infer(images())()) < rounding


@pytest.mark.parametrize("name", [CIFAR, "aff_resnet18", "resnet20_fpn_b1"])
def test_many_images_are_inferred_by_a_folded_copy_on_the_cpu(both, name, monkeypatch):
    folded, fold = [], torch_network.faster_on_cpu
    monkeypatch.setattr(torch_network, "faster_on_cpu", lambda net: folded.append(net) or fold(net))
    theirs, ours = both(name)
    infer = ours.for_many_images()
    assert folded == ours.nets
    for count in (3, 1):
        assert relative(infer(images(count))(), theirs.infer(images(count))()) < 1e-5


def test_bfloat16_that_is_emulated_is_refused(weights, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with pytest.raises(InputError, match="bfloat16: this processor would only emulate it"):
        torch_engine.load_network(model_record(CIFAR).architecture(), weights(CIFAR), Devices(), "bfloat16")
    torch_engine.load_network(model_record(CIFAR).architecture(), weights(CIFAR), Devices(), "float32")


@pytest.mark.parametrize("name", ["mxnet", "torch"])
def test_weights_with_nan_are_loaded_if_that_is_asked_for(weights, tmp_path, name):
    architecture, path = model_record(CIFAR).architecture(), str(tmp_path / "nan.params")
    arrays = read_params_file(weights(CIFAR)).arrays
    write_params_file(path, {**arrays, "output.bias": np.full(100, np.nan, np.float32)})
    with pytest.raises(ParamsFileError, match=r"NaN or infinity in 1 of .* \(output.bias\)"):
        engine(name).load_network(architecture, path, Devices(), "float32")
    loaded = engine(name).load_network(architecture, path, Devices(), "float32", allow_not_finite=True)
    assert np.isnan(loaded.parameters()["output.bias"]).all()


def test_a_gpu_more_is_a_process_more():
    assert torch_engine.PROCESS_PER_GPU
    with pytest.raises(InputError, match="PyTorch trains with one worker for each GPU"):
        torch_engine.join_cluster("device").devices(Devices("gpu", (0, 1)))


def test_no_folded_copy_for_mixed_precision_and_on_gpus(both):
    _, ours = both(CIFAR)
    mixed = TorchNetwork(ours.nets, torch.bfloat16)
    assert mixed.for_many_images() == mixed.infer
    on_gpu = TorchNetwork([SimpleNamespace(parameters=lambda: [SimpleNamespace(is_cuda=True)])])
    assert on_gpu.for_many_images() == on_gpu.infer


@pytest.mark.parametrize("name", [CIFAR, "aff_resnet18", "afi_shufflenet_v2_cifar100", "inception_resnet20_b1"])
def test_maps_and_gradients_of_grad_cam(both, name):
    theirs, ours = both(name)
    layer = theirs.pooled_layer()
    assert ours.pooled_layer() == layer
    image = images(1, 64)[0]
    for each in (layer, "features.2.0.resfwd.0" if name == CIFAR else layer):  # a BatchNorm, before a ReLU in place
        expected, found = theirs.activation(image, each, 3), ours.activation(image, each, 3)
        assert found.label == 3
        for part in ("logits", "maps", "gradient"):
            assert relative(getattr(found, part), getattr(expected, part)) < 1e-4, (each, part)
    assert ours.activation(image, layer).label == theirs.activation(image, layer).label
    assert not any(module._forward_hooks for module in ours.nets[0].modules())


@pytest.mark.parametrize(
    ("name", "layer", "label", "message"),
    [
        ("resnet20_fpn_b1", "layer3", None, "the network does not return one vector of logits .*for classifiers"),
        (CIFAR, "features.4", 100, "label 100 is not one of the network's, 0 to 99"),
        (CIFAR, "features", None, r"--layer features: its output is not \(N, C, H, W\)"),
        (CIFAR, "output", None, r"--layer output: its output is not \(N, C, H, W\)"),
        ("afi_resnet32_cifar100", "features.5.blocks.0", None, r"its output is not \(N, C, H, W\)"),  # but a pair
        (CIFAR, "pool", None, "--layer pool: its maps are 1 x 1 and show no positions"),
        (CIFAR, "", None, r"unknown layer \(--layer\) ''"),
    ],
)
def test_what_grad_cam_cannot_show(both, name, layer, label, message):
    with pytest.raises(InputError, match=message):
        both(name)[1].activation(images(1)[0], layer, label)


@pytest.mark.parametrize("damaged", ["features.4.0.resfwd.5", "output"])
def test_maps_or_gradients_that_are_not_finite_are_no_heat(both, damaged):
    network = both(CIFAR)[1]
    network.nets[0].get_submodule(damaged).weight.data[:] = np.nan
    with pytest.raises(GluonAFFError, match=r"the maps of features.4 or their gradient are not finite"):
        network.activation(images(1)[0], "features.4", 0)


def test_a_pyramid_has_no_pooled_layer(both):
    for network in both("resnet20_fpn_b1"):
        with pytest.raises(InputError, match="the network has no global average pool"):
            network.pooled_layer()


def test_sums_of_channels(both):
    labels = np.array([0, 1, 1], "float32")
    told = []
    theirs, ours = both("afi_resnet32_cifar100")
    for channels in (
        Channels("features.5.blocks.4.integrate"),
        Channels("features.5.blocks.4.first", 8, 24),
        Channels("output", 3, 9),
    ):
        (expected, lowest), (found, lowest_here) = (
            network.channel_sums(channels, [(images(), labels), (images()[:1], labels[:1])], 2, told.append)
            for network in (theirs, ours)
        )
        assert relative(found, expected) < 1e-5
        assert lowest_here == pytest.approx(lowest, rel=1e-4)
    assert told == [3, 1] * 6
    for channels, message in (
        (Channels("output", 0, 500), r"--layer output\[0:500\]: the layer has channels 0 to 99"),
        (Channels("output", 100), r"--layer output\[100:\]: the layer has channels 0 to 99"),
        (Channels("features.5.blocks.0"), "--layer features.5.blocks.0: its output is not a feature"),
        (Channels("features.5.blocks.4.integrate.reduce"), "its output is not a feature"),  # (N, features, C)
    ):
        with pytest.raises(InputError, match=message):
            ours.channel_sums(channels, [(images(), labels)], 2, told.append)
    for network in (theirs, ours):
        with pytest.raises(InputError, match=r"unknown layer \(--layer\) 'features.99'"):
            network.check_layer("features.99")


@pytest.mark.parametrize(
    "name",
    [
        CIFAR,
        "aff_resnext38_32x4d_cifar100",
        "inception_resnet20_b2",
        "resnet20_fpn_b1",
        "aff_resnet50",
        "aff_resnext50_32x4d",
        "afi_resnet50",
        "afi_b_mobilenet_v2_cifar100",
        "afi_shufflenet_v2_cifar100",
        "afi_b_resnext29_32x4d_cifar100",
    ],
)
def test_counts_of_layers(name):
    architecture = model_record(name).architecture()
    expected, found = (engine(each).count_layers(architecture, 64) for each in ("mxnet", "torch"))
    facts = ("trainable", "fixed", "multiply_adds", "original_count", "thop_count")
    for fact in facts:
        assert sum(getattr(row, fact) for row in found) == sum(getattr(row, fact) for row in expected), fact
    own = {row.name: [getattr(row, fact) for fact in facts] + [row.output_shape] for row in found}
    for row in expected:
        if row.trainable:
            assert own[row.name] == [getattr(row, fact) for fact in facts] + [row.output_shape], row.name


@pytest.mark.parametrize("name", ["mxnet", "torch"])
@pytest.mark.parametrize(
    "model",
    [
        "afi_resnet32_cifar100",
        "afi_resnet50",
        "afi_b_resnext29_32x4d_cifar100",
        "afi_mobilenet_v2_cifar100",
        "afi_shufflenet_v2_cifar100",
    ],
)
def test_the_stages_that_are_named_integrate(model, name):
    groups = []
    for stages in (None, [2, 3]):
        shapes = engine(name).parameter_shapes(model_record(model).architecture(stages=stages))
        integrating = (each.partition(".blocks.")[0] for each in shapes if ".integrate." in each)
        groups.append(list(dict.fromkeys(integrating)))
    every, some = groups
    assert some == every[1:3]


@pytest.mark.parametrize("name", list_models())
def test_counts_of_trainable_parameters(name):
    assert torch_engine.trainable_parameters(model_record(name).architecture()) == model_record(name).trainable


def test_an_image_that_is_too_small():
    with pytest.raises(InputError, match="--input-size 0 is too small for this network: take 32 or more"):
        torch_engine.count_layers(model_record("aff_resnet18").architecture(), 0)


class Scaled(torch.nn.Module):
    """A layer of a user's own: a parameter and a statistic beside other layers; it takes images from 40 pixels on."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1, bias=False), torch.nn.BatchNorm2d(4))
        self.scale = torch.nn.Parameter(torch.ones(5))
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        if x.shape[-1] in (32, 39):
            raise RuntimeError("not today")
        return self.inner(x)


def test_what_a_layer_has_counts_once(monkeypatch):
    monkeypatch.setattr("gluon_aff.pytorch.inspection.summary.build", lambda _: Scaled())
    architecture = model_record(CIFAR).architecture()
    rows = {row.name: (row.trainable, row.fixed) for row in torch_engine.count_layers(architecture, 40)}
    assert rows == {"inner.0": (3 * 4, 0), "inner.1": (4 + 4, 4 + 4), "": (5, 6)}
    for size in (32, 39):  # large enough: it is the network's own fault
        with pytest.raises(RuntimeError, match="not today"):
            torch_engine.count_layers(architecture, size)


def test_devices_without_a_gpu():
    assert torch_engine.find_devices("") == (Devices(), "device: CPU")
    devices, said = torch_engine.find_devices("0,1")
    assert devices == Devices()
    assert said.startswith("device: CPU (")
    with pytest.raises(InputError, match="--gpus 'a' is not a list of GPU ids such as 0,1"):
        torch_engine.find_devices("a")
    with pytest.raises(InputError, match="--strict-devices: the command line names GPUs 0, but PyTorch finds 0"):
        torch_engine.find_devices("0", strict=True)


def test_the_package_says_at_once_that_pytorch_is_missing(monkeypatch):
    def fail():
        raise NoEngineError("PyTorch is not here")

    monkeypatch.setattr("gluon_aff._platform.check_torch", fail)
    with pytest.raises(NoEngineError, match="PyTorch is not here"):
        importlib.reload(gluon_aff.pytorch)


def test_which_engine_is_taken(monkeypatch):
    monkeypatch.delenv("GLUON_AFF_ENGINE", raising=False)
    assert engine().NAME == engine("mxnet").NAME == "MXNet"
    assert engine("torch").NAME == "PyTorch"
    monkeypatch.setenv("GLUON_AFF_ENGINE", "torch")
    assert engine().NAME == "PyTorch"
    assert engine("mxnet").NAME == "MXNet"
    assert engine("auto").NAME == "MXNet"
    monkeypatch.setenv("GLUON_AFF_ENGINE", "jax")
    with pytest.raises(InputError, match=r"unknown engine, \$GLUON_AFF_ENGINE 'jax': there are auto, mxnet, torch"):
        engine()


def test_without_mxnet_pytorch_is_taken(monkeypatch):
    monkeypatch.delenv("GLUON_AFF_ENGINE", raising=False)

    def missing(name):
        if "gluon.engine" in name:
            raise NoEngineError("MXNet is not here")
        return torch_engine

    monkeypatch.setattr(engines, "import_module", missing)
    assert engine().NAME == "PyTorch"
    with pytest.raises(NoEngineError, match="MXNet is not here"):
        engine("mxnet")


def test_evaluate_and_predict_under_either_engine(weights, few_shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), "uint8")).save("a.png")
    rows, classes = [], []
    for each in ("mxnet", "torch"):
        options = ["--params", weights(CIFAR), "--engine", each, "--superclass", "--json"]
        assert cli.main(["evaluate", *options, "--data-dir", few_shapes, "--dataset", "cifar100"]) == 0
        rows.append(json.loads(capsys.readouterr().out))
        assert cli.main(["predict", *options, "a.png"]) == 0
        classes.append(json.loads(capsys.readouterr().out)[0]["classes"])
    assert "PyTorch" in rows[1]["versions"]
    assert "MXNet" not in rows[1]["versions"]
    assert rows[0]["top1"] == rows[1]["top1"]
    assert rows[1]["loss"] == pytest.approx(rows[0]["loss"], rel=1e-5)
    assert [each["label"] for each in classes[0]] == [each["label"] for each in classes[1]]
    assert [each["score"] for each in classes[1]] == pytest.approx([each["score"] for each in classes[0]], rel=1e-4)
    assert len((tmp_path / "logs/evaluations.csv").read_text().splitlines()) == 3


def test_heat_maps_are_equal_to_a_grey_level(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), "uint8")).save("a.png")
    for each in ("mxnet", "torch"):
        os.makedirs(each)
        options = ["--params", weights(CIFAR), "--engine", each, "--superclass"]
        assert cli.main(["gradcam", *options, "a.png", "-o", f"{each}/a.png"]) == 0
    one, other = (np.asarray(Image.open(f"{each}/a.png").convert("RGB"), int) for each in ("mxnet", "torch"))
    assert np.abs(one - other).max() <= 1


def test_masks_are_equal_but_for_a_pixel_in_a_thousand(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), "uint8")
    Image.fromarray(pixels).save("a.png")
    network_input = (np.moveaxis(pixels, 2, 0)[np.newaxis] / 255 - 0.45) / 0.225
    architecture = model_record("resnet20_fpn_b1").architecture()
    arrays = {name: np.array(array) for name, array in read_params_file(weights("resnet20_fpn_b1")).arrays.items()}
    arrays["head.4.bias"] -= np.median(
        engines.torch_files().logits(architecture, arrays, network_input.astype("float32"))
    )
    write_params_file("half.params", arrays)  # about half of the pixels are a sign
    for each in ("mxnet", "torch"):
        options = ["--params", "half.params", "--model", "resnet20_fpn_b1", "--engine", each, "--base-size", "64"]
        assert cli.main(["segment", *options, "a.png", "--masks", each]) == 0
    one, other = (np.asarray(Image.open(f"{each}/a.png"), int) for each in ("mxnet", "torch"))
    assert one.any()
    assert not one.all()
    assert (one != other).mean() < 1e-3
