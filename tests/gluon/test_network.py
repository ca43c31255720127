"""Networks behind the door."""

import mxnet as mx
import numpy as np
import pytest

from gluon_aff.data.cifar.batches import validation_batches
from gluon_aff.data.cifar.files import load_cifar
from gluon_aff.engines import Devices, engine
from gluon_aff.errors import InputError, ParamsFileError
from gluon_aff.evaluation.evaluate import evaluate
from gluon_aff.gluon import network
from gluon_aff.gluon.network import GluonNetwork
from gluon_aff.models import model_record

TINY = model_record("aff_resnet32_cifar100").architecture(blocks=1, channel_times=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Weights of a tiny network."""
    path = str(tmp_path_factory.mktemp("weights") / "tiny.params")
    mx.random.seed(0)
    net = network.build(TINY)
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.save_parameters(path)
    return path


def images(count):
    return np.random.default_rng(0).normal(size=(count, 3, 32, 32)).astype("float32")


def test_parameters_are_those_of_the_file(path):
    found = engine().load_network(TINY, path, Devices(), "float32").parameters()
    expected = {name: array.asnumpy() for name, array in mx.nd.load(path).items()}
    assert list(found) == list(engine().parameter_shapes(TINY)) == list(expected)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def test_parameters_are_means_over_the_devices():
    net = mx.gluon.nn.Dense(1, in_units=1, use_bias=False)
    contexts = [mx.cpu(0), mx.cpu(1)]
    net.initialize(ctx=contexts)
    for context, value in zip(contexts, (1, 4)):
        net.weight.data(context)[:] = value
    assert GluonNetwork(net, contexts).parameters()["weight"].tolist() == [[2.5]]


@pytest.mark.parametrize("devices", [Devices(), Devices("cpu", (0, 1))], ids=["one device", "two devices"])
def test_many_images_are_inferred_faster_on_one_cpu_and_as_well(path, devices, monkeypatch):
    fused = []
    monkeypatch.setattr(network, "fused", lambda net, fuse=network.fused: fused.append(net) or fuse(net))
    loaded = engine().load_network(TINY, path, devices, "float32")
    expected = loaded.infer(images(5))()
    np.testing.assert_allclose(loaded.for_many_images()(images(5))(), expected, atol=1e-5 * np.abs(expected).max())
    assert len(fused) == (len(devices) == 1)


def test_layers_are_called_as_their_parameters(path):
    loaded = engine().load_network(TINY, path, Devices(), "float32")
    for name in loaded.parameters():
        loaded.check_layer(name.rpartition(".")[0])
    with pytest.raises(InputError, match=r"unknown layer \(--layer\) 'features.99'"):
        loaded.check_layer("features.99")


def test_weights_of_another_network(path):
    with pytest.raises(ParamsFileError, match="does not fit AFFResNet: "):
        engine().load_network(model_record("aff_resnet50").architecture(), path, Devices(), "float32")


def test_arguments_that_no_network_can_have():
    with pytest.raises(InputError, match=r"^resnet20_fpn_b1: no network has these arguments \(.*num_filter") as error:
        engine().parameter_shapes(model_record("resnet20_fpn_b1").architecture(channel_times=0))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("contexts", [[mx.cpu()], [mx.cpu(0), mx.cpu(1)]], ids=["one device", "two devices"])
def test_figures_of_a_compiled_network(few_shapes, contexts):
    """The last batch is of one image."""
    data = load_cifar("cifar100", False, data_dir=few_shapes)
    mx.random.seed(2)
    net = network.build(model_record("aff_resnet32_cifar100").architecture(20, blocks=1, channel_times=1))
    net.initialize(mx.init.Xavier(), ctx=contexts)
    batches = list(validation_batches(data, 33))
    logits = [net(mx.nd.array(images, ctx=contexts[0])).asnumpy() for images, _ in batches]
    correct = [each.argmax(axis=1) == labels for each, (_, labels) in zip(logits, batches)]
    net.hybridize()
    found = evaluate(GluonNetwork(net, contexts).infer, batches, classes=20, total=len(data))
    assert found.images == 100
    assert found.top1 == pytest.approx(np.concatenate(correct).mean(), abs=1e-7)
    assert [count.images for count in found.per_class] == [5] * 20
