"""The networks through torch.hub and timm."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from gluon_aff.errors import InputError
from gluon_aff.models import MODELS
from gluon_aff.pytorch import preprocessing, register_with_timm, timm_models
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
    ("name", "size", "side", "mean", "std"),
    [
        ("aff_resnet18", None, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("aff_resnet18", 64, 64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("resnet20_b1", None, 32, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201)),
    ],
)
def test_a_picture_becomes_the_networks_input(tmp_path, name, size, side, mean, std):
    """Of one colour, so that the formula gives every value; from a file and from Pillow, in colours and in grey."""
    preprocess = preprocessing(name, size)
    for mode, colour in (("RGB", (200, 100, 50)), ("L", 120)):
        picture = Image.new(mode, (40, 48), colour)
        picture.save(tmp_path / "a.png")
        found = preprocess(picture)
        assert (found.shape, found.dtype) == ((3, side, side), torch.float32)
        assert torch.equal(preprocess(str(tmp_path / "a.png")), found)
        expected = (torch.tensor(colour).expand(3) / 255 - torch.tensor(mean)) / torch.tensor(std)
        torch.testing.assert_close(found, expected[:, None, None].expand_as(found), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "side", "mean", "std", "crop", "interpolation", "head", "published"),
    [
        ("aff_resnet50", 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.875, "bilinear", "fc", True),
        ("resnet20_b1", 32, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201), 1.0, "bicubic", "output", False),
    ],
)
def test_what_timm_is_told_of_the_images(name, side, mean, std, crop, interpolation, head, published):
    told = pretrained_cfg(MODELS[name])
    assert (told["input_size"], told["crop_pct"], told["interpolation"]) == ((3, side, side), crop, interpolation)
    assert told["mean"] == pytest.approx(mean)
    assert told["std"] == pytest.approx(std)
    assert (told["classifier"], told["num_classes"]) == (head, MODELS[name].classes)
    assert str(told["url"]).startswith("https://") == published


class FeatureInfo:
    """timm's, as far as a network needs it."""

    def __init__(self, stages, out_indices):
        self.stages = [stages[index] for index in out_indices]

    def channels(self):
        return [stage["num_chs"] for stage in self.stages]

    def reduction(self):
        return [stage["reduction"] for stage in self.stages]


def stand_in(monkeypatch):
    """A registry like timm's, which has a network of its own."""
    entries = {"resnet50": SimpleNamespace(__module__="timm.models.resnet")}

    def register(entry):
        assert entry.__name__ not in entries, "timm warns of a name that is there"
        entries[entry.__name__] = entry

    models = SimpleNamespace(
        is_model=entries.__contains__,
        model_entrypoint=entries.__getitem__,
        register_model=register,
        FeatureInfo=FeatureInfo,
    )
    timm = SimpleNamespace(models=models, create_model=lambda name, **arguments: entries[name](**arguments))
    monkeypatch.setitem(sys.modules, "timm", timm)
    return timm


@pytest.fixture(params=["timm", "a stand-in"])
def timm(request, monkeypatch):
    if request.param == "timm":  # torchvision of another build raises RuntimeError
        return pytest.importorskip("timm", exc_type=(ImportError, RuntimeError))
    return stand_in(monkeypatch)


def test_timm(timm):
    names = register_with_timm()
    assert register_with_timm() == names == list(timm_models.default_cfgs)
    assert {"aff_resnet50", "resnet20_b1"} < set(names)
    assert "resnet50" not in names  # timm's own
    assert not [name for name in names if MODELS[name].host == "fpn"]
    net = timm.create_model("aff_resnet18", num_classes=7)
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    assert net.pretrained_cfg == pretrained_cfg(MODELS["aff_resnet18"])
    assert timm.create_model("resnet20_b1")(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
    assert timm.create_model("resnet20_b1", num_classes=0)(torch.zeros(2, 3, 32, 32)).shape == (2, 64)
    maps = timm.create_model("aff_resnet18", features_only=True, out_indices=(1, 3))
    assert maps.feature_info.channels() == [128, 512] == [each.shape[1] for each in maps(torch.zeros(2, 3, 64, 64))]
    assert maps.feature_info.reduction() == [8, 32]
    with pytest.raises(InputError, match="in_chans=1: aff_resnet18 takes images of 3 channels"):
        timm.create_model("aff_resnet18", in_chans=1)
    with pytest.raises(InputError, match="no weights of aff_resnet18 were published"):
        timm.create_model("aff_resnet18", pretrained=True)


def test_what_timm_makes_of_it():
    timm = pytest.importorskip("timm", exc_type=(ImportError, RuntimeError))
    register_with_timm()
    settings = timm.data.resolve_model_data_config(timm.create_model("aff_resnet18"))
    assert (settings["input_size"], settings["interpolation"], settings["crop_pct"]) == (
        (3, 224, 224),
        "bilinear",
        0.875,
    )
    assert settings["mean"] == pytest.approx((0.485, 0.456, 0.406))
    assert "aff_resnet50" in timm.list_models("aff_*", pretrained=True)
