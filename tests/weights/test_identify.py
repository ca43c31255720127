"""Which network a file is of."""

import json
from dataclasses import replace
from functools import lru_cache

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.golden_values import GOLDENS

import gluon_aff
from gluon_aff._platform import torch_problem
from gluon_aff.engines import engine
from gluon_aff.errors import ParamsFileError
from gluon_aff.gluon.networks.zoo import build as build_network
from gluon_aff.gluon.networks.zoo import cifar_inception, cifar_resnet, cifar_resnext
from gluon_aff.gluon.parameters import load_parameters
from gluon_aff.models import MODELS
from gluon_aff.published import published_weights
from gluon_aff.run_names import name_of
from gluon_aff.settings import cifar, imagenet, segmentation
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.settings.imagenet import ImageNetSettings
from gluon_aff.settings.segmentation import SegmentationSettings
from gluon_aff.training.architectures import cifar_architecture, imagenet_architecture, segmentation_architecture
from gluon_aff.weights.identify import dataset_of_run, fitting_networks, head_classes, name_of_network, network_of
from gluon_aff.weights.params import raw_named as are_raw
from gluon_aff.weights.params_format import ParamsFile, read_params_file, write_params_file


def saved(net, path, side=32):
    net.initialize()
    net(mx.nd.zeros((1, 3, side, side)))
    mx.nd.waitall()
    net.save_parameters(str(path))
    return read_params_file(str(path))


def file_of(net, path):
    """A file of the network's names and shapes, which takes no memory and is not written."""
    net.infer_shape(mx.nd.zeros((1, 3, 64, 64)))
    arrays = {name: np.broadcast_to(np.float32(0), p.shape) for name, p in net._collect_params_with_prefix().items()}
    return ParamsFile(path, arrays, 2, {})


@lru_cache(maxsize=None)
def shapes_of(name, classes=None):
    """Names and shapes of a model's parameters."""
    return {key: each.shape for key, each in file_of(gluon_aff.get_model(name, classes=classes), "").arrays.items()}


def file_of_model(name, path, classes=None):
    arrays = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes_of(name, classes).items()}
    return ParamsFile(path, arrays, 2, {})


@lru_cache(maxsize=None)
def raw_shapes(name):
    """Raw names and shapes of the parameters of a model that is not the process's first."""
    gluon_aff.get_model(name)
    net = gluon_aff.get_model(name, classes=7)
    net.infer_shape(mx.nd.zeros((1, 3, 64, 64)))
    return [(raw, each.shape) for raw, each in net.collect_params().items()]


def raw_named(name, path, exported=True, order=list):
    """A file as HybridBlock.export, or collect_params().save, writes it of such a network."""
    parameters = order(raw_shapes(name))
    auxiliary = "aux:" if exported else ""
    prefixes = {True: auxiliary, False: auxiliary.replace("aux", "arg")}
    arrays = {f"{prefixes['running_' in raw]}{raw}": np.broadcast_to(np.float32(0), shape) for raw, shape in parameters}
    return ParamsFile(path, arrays, 2, {})


def statistics_last(items):
    """The order of MXNet's Module, and of `gluon-aff export`."""
    return sorted(items, key=lambda item: "running_" in item[0])


@pytest.mark.parametrize("order", [list, statistics_last])
@pytest.mark.parametrize("exported", [True, False])
@pytest.mark.parametrize("name", ["aff_resnet32_cifar100", "iaff_resnet50", "aff_resnext38_32x4d_cifar100"])
def test_raw_names_are_known_by_their_numbers(name, exported, order):
    file = raw_named(name, "net-0000.params", exported, order)
    assert head_classes(file) == 7
    assert [network.name for network in fitting_networks(file)] == [name]


def test_raw_names_that_several_networks_may_have_ask_for_the_model(monkeypatch):
    file = raw_named("aff_resnet32_cifar100", "net-0000.params")
    several = fitting_networks(file) * 2
    monkeypatch.setattr("gluon_aff.weights.identify.fitting_networks", lambda file: several)
    with pytest.raises(ParamsFileError, match=r"fit each of aff_resnet32_cifar100, aff.*: name the model with"):
        network_of(file)


def test_other_raw_names_are_known_by_the_order_of_the_arrays():
    file = raw_named("aff_resnet32_cifar100", "net-0000.params", order=renamed)
    assert [network.name for network in fitting_networks(file)] == ["aff_resnet32_cifar100"]


def renamed(items):
    """As a network of another package might call its layers."""
    return [(raw.replace("cifaraffresnet", "resnet"), each) for raw, each in items]


def test_other_raw_names_in_another_order_are_called_what_they_are():
    file = raw_named("aff_resnet32_cifar100", "net-0000.params", order=lambda items: statistics_last(renamed(items)))
    with pytest.raises(ParamsFileError, match=r"net-0000\.params has raw names, as HybridBlock\.export"):
        network_of(file)


def test_the_arrays_of_an_exported_file_are_loaded(tmp_path):
    net = cifar_resnet("AFF", 1, 1, classes=5)
    net.initialize(mx.init.Normal(0.1))
    net.hybridize()
    images = mx.nd.random.normal(shape=(2, 3, 32, 32))
    expected = net(images).asnumpy()
    net.export(str(tmp_path / "net"))
    net.collect_params().save(str(tmp_path / "raw.params"))
    for path in ("net-0000.params", "raw.params"):
        loaded = cifar_resnet("AFF", 1, 1, classes=5)
        load_parameters(loaded, str(tmp_path / path))
        np.testing.assert_array_equal(loaded(images).asnumpy(), expected)
        with pytest.raises(ParamsFileError, match=r"has raw names, as .* do not match"):
            load_parameters(cifar_resnet("AFF", 1, 2, classes=5), str(tmp_path / path))


def test_no_names_are_not_raw():
    assert [are_raw(names) for names in ((), ("output.bias",), ("arg:net0_bias",))] == [False, False, True]


@pytest.mark.parametrize("name", GOLDENS)
def test_the_order_of_the_parameters_is_the_originals(name):
    """So that it may decide."""
    names = [key for key, *_ in json.loads(GOLDENS[name].read_text())["parameters"]]
    assert list(shapes_of(name)) == names


# Options, and the network that they describe
CIFAR = (cifar, cifar_architecture)
IMAGENET = (imagenet, imagenet_architecture)
SEGMENTATION = (segmentation, segmentation_architecture)


@pytest.mark.parametrize("name", gluon_aff.list_models())
def test_every_model_is_recognised_whatever_its_head(name):
    file = file_of(gluon_aff.get_model(name, classes=7), "net.params")
    assert head_classes(file) == 7
    assert [network.name for network in fitting_networks(file)] == [name]


def test_a_registered_network_is_recognised_whatever_its_size(monkeypatch):
    file = file_of(gluon_aff.get_model("resnet20_b1"), "net.params")
    monkeypatch.setitem(MODELS, "resnet20_b1", replace(MODELS["resnet20_b1"], trainable=None))
    assert network_of(file).name == "resnet20_b1"


@pytest.mark.parametrize(
    ("name", "build"),
    [
        (
            "0.9831-cifar10-ASKCFuse-resnet-8-c-1-s-1-best.params",
            lambda: cifar_resnet("ASKCFuse", 1, 1, classes=10),
        ),
        (
            "0.1000-cifar100-ResGlobLocaforGlobLocaCha-resnet-14-c-2-s-2-best.params",
            lambda: cifar_resnet("iAFF", 2, 2, 2, deep_stem=True),
        ),
        (
            "0.9123-cifar100-ASKCFuse-resneXt-11-c-4-s-1-best.params",  # without 32x4, as in older files
            lambda: cifar_resnext("AFF", 1, 4),
        ),
        (
            "0.7-cifar100-Global+Global-resnet-8-c-1-s-1-r-2-scale-1.0-strided-best.params",
            lambda: cifar_resnet("Global+Global", 1, 1, r=2, avg_down=False),
        ),
        (
            "0.7-cifar100-MS-SA-inception-8-c-1-s-1-r-2-conv-full-best.params",
            lambda: cifar_inception("MS-SA", 1, 1, context="conv", inner="full"),
        ),
    ],
)
def test_runs_are_recognised_by_their_names(name, build, tmp_path):
    file = saved(build(), tmp_path / name)
    network = network_of(file)
    assert dataset_of_run(file.path) == network.name.split("-")[0]
    built = build_network(network)
    assert list(built._collect_params_with_prefix()) == list(file.arrays)


# All of these have the parameters of a model that fuses in another way
@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        (
            CIFAR,
            CIFARSettings(dataset="cifar100", askc_type="MS-SA", blocks=1, channel_times=1, shortcut="strided"),
        ),
        (CIFAR, CIFARSettings(askc_type="AFF", scale=1.0, blocks=1, channel_times=1, shortcut="strided")),
        (CIFAR, CIFARSettings(model="inception", askc_type="MS-GAU", blocks=1, channel_times=1)),
        (IMAGENET, ImageNetSettings(askc_type="MS-SENet", num_layer=18)),
        (IMAGENET, ImageNetSettings(askc_type="AFF", num_layer=18, scale=1.0)),
        (SEGMENTATION, SegmentationSettings(askc_type="MS-SA")),
        (SEGMENTATION, SegmentationSettings(scale=0.5)),
    ],
    ids=lambda value: getattr(value, "askc_type", None),
)
def test_the_name_says_how_a_run_fuses(recipe, settings, tmp_path):
    options, architecture = recipe
    settings = options.resolve(settings)
    name = str(name_of(settings))
    net = build_network(architecture(settings))
    file = saved(net, tmp_path / f"0.5-{name}-best.params", 64)
    found = build_network(network_of(file))
    load_parameters(found, file.path, mx.cpu())
    images = mx.nd.random.normal(shape=(2, 3, 64, 64))
    expected = net(images).asnumpy()
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(found(images).asnumpy(), expected)


@pytest.mark.parametrize(
    "settings",
    [
        SegmentationSettings(fuse_order="bottom-up", decoder_width=12, stem="tiny"),
        SegmentationSettings(askc_type="iAFF", blocks=2, channel_times=2, r=2, context="conv"),
        ImageNetSettings(model="resnext", num_layer=101, use_se=True, r=8),
        ImageNetSettings(num_layer=152, exact_layers=True, start_layer=1),
        ImageNetSettings(model="afi_resnet50", r=8, stages="1,4"),
    ],
    ids=["fpn", "fpn", "resnext", "resnet152", "afi"],
)
def test_segmentation_and_imagenet_runs_of_other_shapes(settings):
    segments = isinstance(settings, SegmentationSettings)
    options, architecture = SEGMENTATION if segments else IMAGENET
    settings = options.resolve(settings)
    name = f"0.5-{'' if segments else 'imagenet-'}{name_of(settings)}-best.params"
    assert network_of(file_of(build_network(architecture(settings)), name)).name.endswith(str(name_of(settings)))


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        (CIFAR, CIFARSettings(askc_type="ASKCFuse", blocks=5)),
        (CIFAR, CIFARSettings(askc_type="ASKCFuse", blocks=5, fine_label=True, classes=100, label_smoothing=True)),
        (CIFAR, CIFARSettings(askc_type="ASKCFuse", blocks=5, deep_stem=True)),
        (CIFAR, CIFARSettings(askc_type="AFF", model="resnext", blocks=4)),
        (CIFAR, CIFARSettings(askc_type="iAFF", model="resnext", blocks=4)),
        (CIFAR, CIFARSettings(askc_type="AFF", blocks=1, channel_times=1, shortcut="strided")),
        (CIFAR, CIFARSettings(askc_type="AFF", blocks=1, channel_times=1)),
        (CIFAR, CIFARSettings(askc_type="AFF", model="inception", blocks=2, channel_times=1)),
        (CIFAR, CIFARSettings(model="afi_resnet32_cifar100")),
        (CIFAR, CIFARSettings(model="afi_resnet32_cifar100", attention="SE")),
        (CIFAR, CIFARSettings(dataset="cifar10", model="mobilenet_v2_cifar100")),
        (IMAGENET, ImageNetSettings(askc_type="ASKCFuse")),
        (IMAGENET, ImageNetSettings(askc_type="ResGlobLocaforGlobLocaCha", last_gamma=True)),
        (IMAGENET, ImageNetSettings(askc_type="AFF", model="resnext")),
        (IMAGENET, ImageNetSettings(askc_type="AFF", model="resnext", use_se=True)),
        (IMAGENET, ImageNetSettings(askc_type="AFF", num_layer=34)),
        (IMAGENET, ImageNetSettings(askc_type="AFF", scale=1.0)),
        (IMAGENET, ImageNetSettings(model="afi_resnet50", r=8)),
        (SEGMENTATION, SegmentationSettings()),
        (SEGMENTATION, SegmentationSettings(stem="tiny")),
    ],
)
def test_a_run_calls_its_network_what_its_files_are_taken_for(recipe, settings):
    options, architecture_of = recipe
    settings = options.resolve(settings)
    architecture = architecture_of(settings)
    outputs = architecture.settings.get("classes", 1)
    before = "imagenet-" if recipe is IMAGENET else ""
    file = file_of(build_network(architecture), f"0.5-{before}{name_of(settings)}-best.params")
    for name in ["mxnet", *([] if torch_problem() else ["torch"])]:
        found = name_of_network(name_of(settings), architecture, outputs, engine(name))
        assert found == network_of(file).name


@pytest.mark.parametrize("attention", ["GE", "SE", None])
def test_afinets_of_the_same_parameters(attention, tmp_path):
    """GE has none; the name of the run says that it is there."""
    settings = cifar.resolve(CIFARSettings(model="afi_resnet32_cifar100", attention=attention))
    net = build_network(cifar_architecture(settings))
    file = saved(net, tmp_path / f"0.71-{name_of(settings)}-best.params")
    (fitting,) = fitting_networks(file)
    found = build_network(fitting)
    load_parameters(found, file.path, mx.cpu())
    images = mx.nd.random.normal(shape=(2, 3, 32, 32))
    np.testing.assert_array_equal(found(images).asnumpy(), net(images).asnumpy())


@pytest.mark.parametrize(
    "weights", [each for each in published_weights() if each.model in MODELS], ids=lambda weights: weights.file_name
)
def test_names_of_published_files_do_not_lead_astray(weights):
    """Theirs are runs' names too; the published models have to stay what they are of."""
    file = file_of_model(weights.model, weights.file_name)
    assert network_of(file).name == weights.model


@pytest.mark.parametrize(
    "name",
    ["weights.params", "cifar10-nix-resnet-8-c-1-s-1.params", "cifar10-AFF-resnet-14-c-1-s-1.params"]
    + [f"cifar10-AFF-resnet-{numbers}.params" for numbers in ("8-c-0-s-0", "1-c-1-s-1", "9-c-1-s-1", "2-c-1-s-1")]
    + ["cifar100-MS-SA-resnet-14-c-1-s-1.params", "cifar100-MS-SA-resnet-9998-c-1-s-1.params"]
    + [f"cifar10-AFF-resnet-14-c-1-s-1-{more}.params" for more in ("r-0", "r-9999999", "scale-1e999", "r-4-scale-0")]
    + [f"ImageNet-AFF-{numbers}.params" for numbers in ("resnext--18-s-3", "resnet--1-s-3", "resnet--50-s-0-r-0")]
    + [f"stopsign-AFF-resnet-20-{numbers}.params" for numbers in ("0-fpn-c-1", "1-fpn-c-0", "1-fpn-c-1-d-2")],
)
def test_what_fits_nothing(name):
    file = file_of(cifar_resnet("AFF", 1, 1), name)
    with pytest.raises(ParamsFileError, match="name the model with --model"):
        network_of(file)


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("0.7109-cifar100-afi_resnet32_cifar100-best.params", "cifar100"),
        ("0.9831-cifar10-afi_b_resnext29_32x4d_cifar100-best.params", "cifar10"),
        ("0.2381-imagenet-afi_resnet50-89-best.params", "imagenet"),
        ("0.2381-imagenet-ImageNet-afi_resnet50-89-best.params", "imagenet"),
        ("0.2028-imagenet-ImageNet-ASKCFuse-resnet--50-s-3-239-best.params", "imagenet"),
        ("0.7109-cifar100-afi_resnet31_cifar100-best.params", None),
        ("afi_resnet50.params", None),
    ],
)
def test_data_set_in_the_name_of_a_run(name, dataset):
    assert dataset_of_run(name) == dataset


def test_a_file_without_a_head(tmp_path):
    path = str(tmp_path / "x.params")
    mx.nd.save(path, {"a": mx.nd.zeros(3)})
    assert head_classes(read_params_file(path)) is None
    assert fitting_networks(read_params_file(path)) == []


def test_a_head_without_an_output_is_none(tmp_path):
    arrays = {"output.weight": np.zeros((0, 64), np.float32), "output.bias": np.zeros(0, np.float32)}
    path = str(tmp_path / "empty.params")
    write_params_file(path, arrays)
    file = read_params_file(path)
    assert head_classes(file) is None
    assert fitting_networks(file) == []
    with pytest.raises(ParamsFileError, match="fits no published model"):
        network_of(file)
