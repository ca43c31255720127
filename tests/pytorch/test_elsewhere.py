"""The networks through torch.hub and timm."""

import sys
from pathlib import Path

import pytest
import torch

from gluon_aff.errors import InputError
from gluon_aff.models import MODELS
from gluon_aff.pytorch import register_with_timm
from gluon_aff.pytorch.timm_models import pretrained_cfg

ROOT = Path(__file__).parents[2]


def test_torch_hub():
    net = torch.hub.load(str(ROOT), "resnet20_b1", source="local", classes=7)
    assert net.output.out_features == 7
    entries = torch.hub.load(str(ROOT), "aff_resnet18", source="local", features_only=True)
    assert entries.widths == [64, 128, 256, 512]
    sys.modules.pop("hubconf", None)


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"register_with_timm needs the package timm .*: pip install 'timm'"):
        register_with_timm()


@pytest.mark.parametrize(
    ("name", "side", "mean", "crop"),
    [
        ("aff_resnet50", 224, (0.485, 0.456, 0.406), 0.875),
        ("aff_resnet32_cifar100", 32, (0.4914, 0.4822, 0.4465), 1.0),
    ],
)
def test_what_timm_is_told_of_the_images(name, side, mean, crop):
    told = pretrained_cfg(MODELS[name])
    assert (told["input_size"], told["crop_pct"]) == ((3, side, side), crop)
    assert told["mean"] == pytest.approx(mean)


def test_timm():
    timm = pytest.importorskip(
        "timm", exc_type=(ImportError, RuntimeError)
    )  # torchvision of another build raises the latter
    names = register_with_timm()
    assert register_with_timm() == names
    assert "aff_resnet50" in names
    assert "resnet50" not in names  # timm's own
    assert not [name for name in names if MODELS[name].host == "fpn"]
    net = timm.create_model("aff_resnet18", num_classes=7)
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    assert timm.create_model("resnet20_b1", num_classes=0)(torch.zeros(2, 3, 32, 32)).shape == (2, 64)
    maps = timm.create_model("aff_resnet18", features_only=True, out_indices=(1, 3))
    assert maps.feature_info.channels() == [128, 512] == [each.shape[1] for each in maps(torch.zeros(2, 3, 64, 64))]
    assert maps.feature_info.reduction() == [8, 32]
    settings = timm.data.resolve_model_data_config(net)
    assert (settings["input_size"], settings["interpolation"], settings["crop_pct"]) == (
        (3, 224, 224),
        "bilinear",
        0.875,
    )
    assert settings["mean"] == pytest.approx((0.485, 0.456, 0.406))
    assert "aff_resnet50" in timm.list_models("aff_*", pretrained=True)
    with pytest.raises(InputError, match="in_chans=1: aff_resnet18 takes images of 3 channels"):
        timm.create_model("aff_resnet18", in_chans=1)
