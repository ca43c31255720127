"""Networks by name."""

import mxnet as mx
import pytest

import gluon_aff
from gluon_aff.errors import InputError
from gluon_aff.networks import MODELS, model_record


def test_list_models_with_and_without_a_pattern():
    assert len(gluon_aff.list_models()) == 7
    assert gluon_aff.list_models("iaff*") == ["iaff_resnet50", "iaff_resnext50_32x4d"]


def test_arguments_overrule_the_published_ones():
    net = gluon_aff.get_model("aff_resnet32_cifar100", classes=20, blocks=1, channel_times=1, askc_type="iAFF")
    shapes = {name: p.shape for name, p in net._collect_params_with_prefix().items()}
    assert shapes["output.weight"] == (20, 64)
    assert "features.2.0.attention.global_att2.1.weight" in shapes
    assert "features.2.1.resfwd.0.gamma" not in shapes


def test_ctx_initialises():
    net = gluon_aff.get_model("aff_resnet32_cifar100", blocks=1, channel_times=1, ctx=mx.cpu())
    assert net(mx.nd.zeros((1, 3, 32, 32))).shape == (1, 100)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean aff_resnet50"):
        gluon_aff.get_model("aff_resnet_50")


def test_names_ignore_case():
    assert model_record("AFF_ResNet50") is MODELS["aff_resnet50"]


def test_published_errors_are_the_best_epochs_of_the_logs():
    """Validation accuracy in the weights' names: 83.57, 85.38 (fine), 90.78, 91.23, 91.84 (superclass) percent."""
    errors = {name: record.published_error for name, record in MODELS.items()}
    assert errors["aff_resnet32_cifar100"] == pytest.approx({"fine": 100 - 83.57, "superclass": 100 - 90.78})
    assert errors["aff_resnext38_32x4d_cifar100"] == pytest.approx({"superclass": 100 - 91.23})
    assert errors["aff_resnext47_32x4d_cifar100"] == pytest.approx({"fine": 100 - 85.38, "superclass": 100 - 91.84})
    assert [errors[n]["imagenet"] for n in gluon_aff.list_models("*50*")] == [20.28, 20.28, 20.22, 19.78]
