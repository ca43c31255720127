"""The Python that docs/pytorch.md and the README print runs as printed."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from gluon_aff.models import MODELS
from gluon_aff.pytorch import get_model, save_params
from gluon_aff.pytorch.networks import zoo

ROOT = Path(__file__).parents[2]


def blocks(document):
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A picture, and weights where published ones would be downloaded to."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (500, 375), (90, 60, 30)).save("cat.jpg")
    save_params(get_model("aff_resnet50"), "any.params")
    monkeypatch.setattr(zoo, "pretrained_file", lambda *_: "any.params")


@pytest.mark.usefixtures("published")
def test_pytorch_md(capsys):
    names = {}
    features, scores, own, fusions, hub, timm = blocks("docs/pytorch.md")
    for block in (features, scores, own, fusions):
        exec(block, names)
    printed, scored = capsys.readouterr().out.splitlines()
    assert f"It prints `{printed}`" in (ROOT / "docs/pytorch.md").read_text(encoding="utf-8")
    assert 0 < float(scored.split()[-1]) <= 1
    assert names["fused"].shape == (2, 64, 56, 56)
    exec(hub.replace("path/to/the/clone", str(ROOT)), {"torch": torch})
    assert "timm.create_model" in timm  # test_elsewhere.py has it


@pytest.mark.usefixtures("published")
def test_readme(capsys):
    (block,) = [block for block in blocks("README.md") if "gluon_aff.pytorch" in block]
    exec(block, {})
    assert capsys.readouterr().out


def test_every_published_model_can_be_asked_for():
    assert MODELS["aff_resnet50"].weights
