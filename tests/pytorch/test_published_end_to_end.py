"""A published file from its host to figures, classes, a heat map and an export, by the commands, without MXNet."""

import csv
import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from shared_by_tests.file_server import serving
from shared_by_tests.golden_values import GOLDENS, described_array, golden_arrays

from gluon_aff import cli, published
from gluon_aff.models import model_record
from gluon_aff.pytorch.networks.zoo import parameter_shapes
from gluon_aff.weights.params_format import git_blob_sha1, write_params_file

NAME = "aff_resnet32_cifar100"
PUBLISHED = "cifar100/AFF-ResNet-32/0.8357-cifar100-ASKCFuse-resnet-32-c-4-s-1-best.params"


@pytest.fixture(scope="module")
def golden_file(tmp_path_factory):
    """A `.params` file with the weights that the goldens were measured with."""
    path = tmp_path_factory.mktemp("golden") / "golden.params"
    shapes = parameter_shapes(model_record(NAME).architecture())
    write_params_file(str(path), golden_arrays(shapes))
    return path


@pytest.fixture
def run(golden_file, tmp_path, monkeypatch, capsys):
    """Run a command where the published file is that one, on a host of the test's; what is printed."""
    sha1 = git_blob_sha1(str(golden_file))
    known = [
        replace(each, git_blob_sha1=sha1) if each.model == NAME and each.labels == "fine" else each
        for each in published.published_weights()
    ]
    monkeypatch.setattr(published, "published_weights", lambda: tuple(known))
    monkeypatch.setenv("GLUON_AFF_ENGINE", "torch")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("GLUON_AFF_OPEN_AFF", raising=False)
    monkeypatch.chdir(tmp_path)
    images = np.random.RandomState(0).randint(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(images).save("a.png")
    with serving(golden_file) as (address, _):
        monkeypatch.setattr(published, "RAW_URL", address)

        def command(*arguments):
            assert cli.main(list(arguments)) == 0
            return capsys.readouterr().out

        yield command


def test_from_the_host_to_an_export(run, tmp_path, few_shapes):
    which = ("--model", NAME, "--fine-label")
    row = json.loads(run("evaluate", *which, "--data-dir", few_shapes, "--json"))
    assert git_blob_sha1(f"params/{PUBLISHED}") == row["git_blob_sha1"]
    assert "PyTorch" in row["versions"]
    assert "MXNet" not in row["versions"]
    with open("logs/evaluations.csv", newline="") as file:
        (written,) = csv.DictReader(file)
    assert float(written["top1"]) == row["top1"]
    (prediction,) = json.loads(run("predict", *which, "a.png", "--json"))
    scores = [each["score"] for each in prediction["classes"]]
    assert scores == sorted(scores, reverse=True)
    assert "a.png" in run("gradcam", *which, "a.png", "-o", "map.png")
    with Image.open("map.png") as picture:
        assert picture.size[0] > 40
    assert "equal to PyTorch" in run("export", *which, "-o", "net.onnx")
    golden = json.loads(GOLDENS[NAME].read_text())
    session = onnxruntime.InferenceSession("net.onnx")
    (logits,) = session.run(None, {"images": described_array(golden["input"])})
    expected = np.array(golden["logits_inference"])
    np.testing.assert_allclose(logits[:, : expected.shape[1]], expected, atol=1e-5 * np.abs(expected).max())
