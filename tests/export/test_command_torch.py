"""`gluon-aff export` and ONNX Runtime where PyTorch is the engine, which needs no MXNet."""

import csv
import json
import os
import re

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from shared_by_tests.golden_values import golden_arrays

from gluon_aff import engines
from gluon_aff.cli import main
from gluon_aff.errors import NoEngineError
from gluon_aff.models import model_record
from gluon_aff.pytorch import engine as torch_engine
from gluon_aff.weights.params_format import git_blob_sha1, write_params_file

NETWORK = "resnet20_b1"


@pytest.fixture(autouse=True)
def without_mxnet(monkeypatch):
    """MXNet as it is on a newer Python: not there."""
    monkeypatch.delenv("GLUON_AFF_ENGINE", raising=False)

    def missing(name):
        if ".gluon" in name:
            raise NoEngineError("MXNet is not here")
        return torch_engine

    monkeypatch.setattr(engines, "import_module", missing)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of the goldens' values, and an image."""
    folder = tmp_path_factory.mktemp("weights")
    shapes = torch_engine.parameter_shapes(model_record(NETWORK).architecture())
    write_params_file(str(folder / "a.params"), golden_arrays(shapes))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / "a.png")
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def export(path, *options):
    return main(["export", "--params", "a.params", "--superclass", *options, "-o", str(path)])


@pytest.mark.parametrize("options", [[], ["--engine", "torch"]])
def test_says_what_was_written_and_compared(tmp_path, capsys, options):
    assert export(tmp_path / "new" / "a.onnx", *options) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{tmp_path}/new/a.onnx: {NETWORK}, (batch, 3, height, width) -> (batch, 100)"
    assert second.startswith(f"equal to PyTorch {torch.__version__} on random 3x3x32x32 and 2x3x49x64: to ")
    assert os.listdir(tmp_path / "new") == ["a.onnx"]


def test_the_file_names_its_weights_labels_and_preprocessing(tmp_path):
    assert export(tmp_path / "a.onnx") == 0
    written = {entry.key: entry.value for entry in onnx.load(str(tmp_path / "a.onnx")).metadata_props}
    assert (written["network"], written["weights_git_blob_sha1"]) == (NETWORK, git_blob_sha1("a.params"))
    assert (written["labels"], written["preprocessing"], written["input_size"]) == ("superclass", "cifar", "32")


def test_predictions_and_evaluations_are_those_of_the_weights(few_shapes, tmp_path, capsys):
    """By the file, and by ONNX Runtime on an export that is made and forgotten."""
    path, table = str(tmp_path / "a.onnx"), str(tmp_path / "table.csv")
    assert export(path) == 0
    capsys.readouterr()
    scores = []
    for options in (["a.params"], [path], ["a.params", "--engine", "onnxruntime"]):
        given = ["--params", *options, "--superclass"]
        assert main(["predict", *given, "--json", "a.png"]) == 0
        scores.append(json.loads(capsys.readouterr().out)[0]["classes"])
        assert main(["evaluate", *given, "--dataset", "cifar100", "--data-dir", few_shapes, "--csv", table]) == 0
        capsys.readouterr()
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [re.sub(r"[\d.]+(\+\w+)?, ", "", row["devices"]) for row in rows] == [
        "cpu(0)",
        "ONNX Runtime cpu",
        "ONNX Runtime cpu",
    ]
    for other, row in zip(scores[1:], rows[1:]):
        assert [each["label"] for each in other] == [each["label"] for each in scores[0]]
        expected = [each["score"] for each in scores[0]]
        assert [each["score"] for each in other] == pytest.approx(expected, abs=1e-5)
        assert row["top1"] == rows[0]["top1"]
        assert float(row["loss"]) == pytest.approx(float(rows[0]["loss"]), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--engine", "torch"],
            "--engine torch: only MXNet can write a symbol; choose --engine mxnet, or --format onnx",
        ),
        ([], "MXNet is not here"),
    ],
)
def test_the_symbol_takes_mxnet(tmp_path, capsys, options, message):
    assert export(tmp_path / "new" / "a", "--format", "symbol", *options) == 2
    assert capsys.readouterr().err == f"gluon-aff: error: {message}\n"
    assert os.listdir(tmp_path) == []
