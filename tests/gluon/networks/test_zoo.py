"""Networks by name."""

from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest

import gluon_aff
from gluon_aff.errors import InputError
from gluon_aff.gluon.networks.zoo import BUILDERS
from gluon_aff.models import HOSTS, MODELS, SEGMENTATION_HOST, model_record
from gluon_aff.weights.params_format import git_blob_sha1


def test_list_models_with_and_without_a_pattern():
    assert len(gluon_aff.list_models(published=True)) == 7
    assert len(gluon_aff.list_models()) == 7 + 3 * 4 + 2 + 7 * 3  # published, the paper's, AFINets' with their hosts
    assert gluon_aff.list_models("iaff*") == ["iaff_resnet50", "iaff_resnext50_32x4d"]


def test_arguments_overrule_the_published_ones():
    net = gluon_aff.get_model("aff_resnet32_cifar100", classes=20, blocks=1, channel_times=1, askc_type="iAFF")
    shapes = {name: p.shape for name, p in net._collect_params_with_prefix().items()}
    assert shapes["output.weight"] == (20, 64)
    assert "features.2.0.attention.global_att2.1.weight" in shapes
    assert "features.2.1.resfwd.0.gamma" not in shapes


def test_ctx_initialises():
    net = gluon_aff.get_model("aff_resnet32_cifar100", blocks=1, channel_times=1, ctx=mx.cpu(1))
    assert net(mx.nd.zeros((1, 3, 32, 32), ctx=mx.cpu(1))).shape == (1, 100)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean aff_resnet50"):
        gluon_aff.get_model("aff_resnet5")


@pytest.mark.parametrize("name", ["AFF_ResNet50", "AFF-ResNet-50", "aff_resnet_50"])
def test_names_ignore_case_and_hyphens_and_titles_are_names(name):
    assert model_record(name) is MODELS["aff_resnet50"]


def test_every_title_is_the_name_of_its_network():
    assert all(model_record(record.title) is record for record in MODELS.values())


def test_published_errors_are_the_best_epochs_of_the_logs():
    """Validation accuracy in the weights' names: 83.57, 85.38 (fine), 90.78, 91.23, 91.84 (superclass) percent."""
    errors = {name: {labels: w.error for labels, w in r.weights.items()} for name, r in MODELS.items()}
    assert errors["aff_resnet32_cifar100"] == pytest.approx({"fine": 100 - 83.57, "superclass": 100 - 90.78})
    assert errors["aff_resnext38_32x4d_cifar100"] == pytest.approx({"superclass": 100 - 91.23})
    assert errors["aff_resnext47_32x4d_cifar100"] == pytest.approx({"fine": 100 - 85.38, "superclass": 100 - 91.84})
    on_imagenet = gluon_aff.list_models("*50*", published=True)
    assert [errors[name]["imagenet"] for name in on_imagenet] == [20.28, 20.28, 20.22, 19.78]


@pytest.fixture
def published_narrow(tmp_path, monkeypatch):
    """A narrow AFF-ResNet's file in a clone of open-aff, published as aff_resnet32_cifar100's fine weights."""
    net = gluon_aff.get_model("aff_resnet32_cifar100", blocks=1, channel_times=1, ctx=mx.cpu())
    net(mx.nd.zeros((1, 3, 32, 32)))
    mx.nd.waitall()
    fine = MODELS["aff_resnet32_cifar100"].weights["fine"]
    path = tmp_path / "clone" / fine.path
    path.parent.mkdir(parents=True)
    net.save_parameters(str(path))
    known = replace(fine, git_blob_sha1=git_blob_sha1(str(path)))
    monkeypatch.setattr("gluon_aff.published.published_weights", lambda: (known,))
    monkeypatch.setenv("GLUON_AFF_OPEN_AFF", str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path)
    return net, str(path)


def narrow(**kwargs):
    return gluon_aff.get_model("aff_resnet32_cifar100", blocks=1, channel_times=1, **kwargs)


def assert_same_but_for_the_head(net, other):
    first, second = (n._collect_params_with_prefix() for n in (net, other))
    for name in first:
        if not name.startswith("output"):
            np.testing.assert_array_equal(first[name].data().asnumpy(), second[name].data().asnumpy(), err_msg=name)


def test_weights_that_nobody_published():
    with pytest.raises(InputError, match="no weights of resnet50 were published"):
        gluon_aff.get_model("resnet50", pretrained=True)


@pytest.mark.parametrize("pretrained", ["fine", True, None])
def test_pretrained_by_label_set_default_and_path(pretrained, published_narrow):
    net, path = published_narrow
    loaded = narrow(pretrained=path if pretrained is None else pretrained)
    assert_same_but_for_the_head(net, loaded)
    np.testing.assert_array_equal(loaded.output.weight.data().asnumpy(), net.output.weight.data().asnumpy())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MXNet's, which pytest.warns would raise again
def test_another_number_of_classes_loads_all_but_the_head_and_says_so(published_narrow):
    devices = [mx.cpu(0), mx.cpu(1)]
    with pytest.warns(UserWarning, match=r"the head \(output.weight, output.bias\) was left out") as caught:
        loaded = narrow(pretrained="fine", classes=7, ctx=devices)
    assert [each.filename for each in caught if each.category is UserWarning] == [__file__]
    assert_same_but_for_the_head(published_narrow[0], loaded)
    for device in devices:
        assert loaded(mx.nd.zeros((1, 3, 32, 32), ctx=device)).shape == (1, 7)
    assert_xaviers(loaded.output.weight.data(devices[1]).asnumpy())


def test_pretrained_in_float16(published_narrow):
    loaded = narrow(pretrained="fine", dtype="float16")
    types = {name: np.dtype(p.dtype).name for name, p in loaded._collect_params_with_prefix().items()}
    assert types["output.weight"] == types["features.1.weight"] == "float16"
    assert types["features.0.running_mean"] == "float32"


def test_label_sets_that_do_not_exist(published_narrow):
    with pytest.raises(InputError, match="unknown label set of aff_resnet32_cifar100's published weights 'imagenet'"):
        narrow(pretrained="imagenet")
    for text in ("fines", "Fine", "coarse", ""):
        with pytest.raises(InputError, match=r"there are fine, a \.params file"):
            narrow(pretrained=text)
    with pytest.raises(InputError, match=r"gone\.params: No such file"):
        narrow(pretrained="gone.params")


@pytest.mark.parametrize("classes", [0, -1, "10", 2.5, True, None])
def test_impossible_numbers_of_classes_change_nothing(classes):
    net = narrow(ctx=mx.cpu())
    head = net.output
    with pytest.raises(InputError, match="whole number from 1"):
        net.reset_classifier(classes)
    assert net.output is head
    if classes is not None:
        with pytest.raises(InputError, match="whole number from 1"):
            narrow(classes=classes)


def assert_xaviers(weight):
    """Glorot and Bengio 2010: uniform to sqrt(6 / (inputs + outputs))."""
    assert np.abs(weight).max() == pytest.approx(np.sqrt(6 / sum(weight.shape)), rel=0.02)
    assert np.unique(weight).size > 100


@pytest.mark.parametrize("initialised", [True, False])
def test_a_new_head_is_xaviers_and_has_the_old_ones_type_and_devices(initialised):
    devices = [mx.cpu(0), mx.cpu(1)]
    net = narrow(dtype="float16", ctx=devices if initialised else None)
    net.reset_classifier(50)
    assert {np.dtype(p.dtype).name for p in (net.output.weight, net.output.bias)} == {"float16"}
    if not initialised:
        net.initialize(mx.init.One(), ctx=devices)
        assert net.output.weight.data(devices[0]).asnumpy().all()  # had been left for this
        return
    assert net.output.weight.list_ctx() == devices
    assert_xaviers(net.output.weight.data(devices[1]).asnumpy())
    assert not net.output.bias.data(devices[0]).asnumpy().any()


@pytest.mark.parametrize("dtype", ["banana", "int8", "float64"])
def test_other_types_than_float32_and_float16(dtype):
    with pytest.raises(InputError, match="there are float32, float16"):
        narrow(dtype=dtype)


# One of each host, as other records have other depths and fusions, which the head does not see
CLASSIFIERS = {record.host: name for name, record in MODELS.items() if record.host != SEGMENTATION_HOST}.values()


def _fewest_blocks(host):
    if host in ("afi_cifar_resnext29", "afi_cifar_mobilenet_v2", "afi_cifar_shufflenet_v2"):
        return {}
    if host == "afi_cifar_resnet":
        return {"blocks": 1}
    return {"layers": (1, 1, 1, 1)} if "imagenet" in host else {"blocks": 1, "channel_times": 1}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_reset_classifier_on_every_host(name):
    for_cifar = MODELS[name].input_size == 32
    net = gluon_aff.get_model(name, **_fewest_blocks(MODELS[name].host))
    net.reset_classifier(5)
    net.initialize()
    net.hybridize()
    side = 32 if for_cifar else 64
    names, raw_names = list(net._collect_params_with_prefix()), list(net.collect_params())
    assert net(mx.nd.zeros((2, 3, side, side))).shape == (2, 5)
    net.reset_classifier(3)
    assert net(mx.nd.zeros((2, 3, side, side))).shape == (2, 3)
    assert list(net._collect_params_with_prefix()) == names
    assert list(net.collect_params()) == raw_names


def test_every_host_can_be_built():
    assert sorted(BUILDERS) == sorted(HOSTS)
