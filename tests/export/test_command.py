"""`gluon-aff export`, and the engines of `predict` and `evaluate`, on weights of networks never trained."""

import csv
import json
import os
import re
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from shared_by_tests.exported_networks import filled

from gluon_aff.cli import main
from gluon_aff.evaluation.weights_file import WeightsRequest, load_weights
from gluon_aff.gluon.networks.zoo import cifar_resnet
from gluon_aff.weights.params_format import git_blob_sha1

CIFAR100 = "0.5-cifar100-ASKCFuse-resnet-8-c-1-s-1-best"
CIFAR10 = "0.5-cifar10-ASKCFuse-resnet-8-c-1-s-1-best"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights for both CIFARs, exports of both, and an image."""
    folder = tmp_path_factory.mktemp("weights")
    for name, outputs in ((CIFAR10, 10), (CIFAR100, 100)):
        filled(cifar_resnet("ASKCFuse", 1, 1, classes=outputs), 32).save_parameters(str(folder / f"{name}.params"))
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    assert main(["export", "--params", params(folder, CIFAR10), "-o", str(folder / "cifar10.onnx")]) == 0
    command = ["export", "--params", params(folder, CIFAR100), "--fine-label", "-o", str(folder / "cifar100.onnx")]
    assert main(command) == 0
    return folder


def params(folder, name):
    return str(folder / f"{name}.params")


def refused(command, capsys):
    """The error of a command line that is wrong."""
    assert main(list(map(str, command))) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    return err


def test_says_what_was_written_and_compared(folder, tmp_path, capsys):
    path = str(tmp_path / "new" / "a.onnx")
    assert main(["export", "--params", params(folder, CIFAR10), "-o", path]) == 0
    out = capsys.readouterr().out
    assert f"{path}: cifar10-ASKCFuse-resnet-8-c-1-s-1, (batch, 3, height, width) -> (batch, 10)" in out
    assert "equal to MXNet 1.9.1 on random 3x3x32x32 and 2x3x49x64: to " in out
    assert os.listdir(tmp_path / "new") == ["a.onnx"]


def test_the_file_names_its_weights_labels_and_classes(folder):
    written = {entry.key: entry.value for entry in onnx.load(str(folder / "cifar100.onnx")).metadata_props}
    assert written["network"] == "cifar100-ASKCFuse-resnet-8-c-1-s-1"
    assert written["weights_git_blob_sha1"] == git_blob_sha1(params(folder, CIFAR100))
    assert (written["dataset"], written["labels"], written["preprocessing"]) == ("cifar100", "fine", "cifar")
    names = json.loads(written["class_names"])
    assert (len(names), names[:2], names[-1]) == (100, ["apple", "aquarium_fish"], "worm")


def test_a_name_that_is_no_text_is_as_good_as_any(folder, tmp_path, capsys):
    path = str(tmp_path / os.fsdecode(b"a\xff.onnx"))
    assert main(["export", "--params", params(folder, CIFAR10), "-o", path]) == 0
    assert main(["predict", "--params", path, str(folder / "0.png")]) == 0
    assert capsys.readouterr().out.count("  0.") == 5


def test_names_of_ones_own_go_with_the_file(folder, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("\n".join(f"digit {i}" for i in range(10)))
    path = str(tmp_path / "a.onnx")
    command = ["export", "--params", params(folder, CIFAR10), "--names", str(tmp_path / "names.txt"), "-o", path]
    assert main(command) == 0
    assert main(["predict", "--params", path, str(folder / "0.png")]) == 0
    out, err = capsys.readouterr()
    assert out.count("  digit ") == 5
    assert err == ""


def test_the_symbol_is_two_files(folder, tmp_path, capsys):
    prefix = str(tmp_path / "net")
    assert main(["export", "--params", params(folder, CIFAR10), "--format", "symbol", "-o", prefix]) == 0
    assert f"{prefix}-symbol.json and {prefix}-0000.params: " in capsys.readouterr().out
    assert len(mx.model.load_checkpoint(prefix, 0)) == 3


@pytest.mark.parametrize("source", ["cifar10.onnx", f"{CIFAR10}.params"])
def test_predictions_of_onnx_runtime_are_mxnets(folder, capsys, source):
    images = [str(folder / f"{i}.png") for i in range(5)]
    printed = {}
    for engine, file in (("mxnet", f"{CIFAR10}.params"), ("onnxruntime", source)):
        command = [
            "predict",
            "--params",
            str(folder / file),
            "--engine",
            engine,
            "--batch-size",
            "3",
            "--json",
            *images,
        ]
        assert main(command) == 0
        printed[engine] = json.loads(capsys.readouterr().out)
    for one, other in zip(*printed.values()):
        assert [row["name"] for row in one["classes"]] == [row["name"] for row in other["classes"]]
        scores = [[row["score"] for row in found["classes"]] for found in (one, other)]
        np.testing.assert_allclose(*scores, rtol=0, atol=1e-5)


def test_evaluations_of_onnx_runtime_are_mxnets(folder, few_shapes, tmp_path, capsys):
    table = str(tmp_path / "table.csv")
    files = (f"{CIFAR100}.params", "cifar100.onnx")
    for file, labels in zip(files, (["--fine-label"], [])):
        command = ["evaluate", "--params", str(folder / file), *labels, "--data-dir", few_shapes, "--csv", table]
        assert main([*command, "--batch-size", "33"]) == 0
    assert f"on ONNX Runtime {onnxruntime.__version__}, cpu, 33 at a time" in capsys.readouterr().out
    mxnets, onnxs = csv.DictReader(Path(table).read_text().splitlines())
    for column in ("network", "git_blob_sha1", "dataset", "labels", "images", "top1", "top5"):
        assert mxnets[column] == onnxs[column]
    assert float(onnxs["loss"]) == pytest.approx(float(mxnets["loss"]), rel=1e-5)
    assert (mxnets["devices"], onnxs["devices"]) == ("cpu(0)", f"ONNX Runtime {onnxruntime.__version__}, cpu")


@pytest.mark.parametrize("engine", ["mxnet", "onnxruntime"])
def test_logits_agree_whatever_the_batch(folder, engine):
    """A short batch after a long one, and a long one again."""
    images = np.random.default_rng(0).normal(size=(9, 3, 32, 32)).astype("float32")
    expected = load_weights(WeightsRequest(params(folder, CIFAR10))).infer(images)()
    infer = load_weights(WeightsRequest(params(folder, CIFAR10), engine=engine), many_images=True).infer
    started = [infer(images[:count]) for count in (8, 1, 9, 3)]
    for wait, count in zip(started, (8, 1, 9, 3)):
        np.testing.assert_allclose(wait(), expected[:count], rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "mxnet"], "--engine mxnet: .*cifar100.onnx is for onnxruntime; name the .params file"),
        (
            ["--model", "aff_resnet50"],
            "--model aff_resnet50: .* is an export of cifar100-ASKCFuse-resnet-8-c-1-s-1; leave",
        ),
        (["--model", "resnet"], "unknown model"),
        (["--superclass"], "--superclass: .*cifar100.onnx was exported for fine labels; leave the flag out"),
        (["--dtype", "float16"], "--dtype float16: an .onnx file computes in float32; leave the flag out"),
        (["--input-size", "64"], "--input-size 64: CIFAR images are 32 x 32 pixels; leave the flag out"),
    ],
)
def test_options_that_contradict_the_file(folder, capsys, options, message):
    command = ["predict", "--params", folder / "cifar100.onnx", *options, folder / "0.png"]
    assert re.search(message, refused(command, capsys))


def cut(content):
    return content[: len(content) // 2]


def foreign(content):
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    return model.SerializeToString()


def other_shape(content):
    model = onnx.load_from_string(content)
    model.graph.initializer[0].dims[0] += 1
    return model.SerializeToString()


def without_size(content):
    model = onnx.load_from_string(content)
    next(entry for entry in model.metadata_props if entry.key == "input_size").value = "large"
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "a.onnx cannot be read as ONNX"),
        (lambda content: b"", "a.onnx cannot be read as ONNX"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "a.onnx cannot be read as ONNX"),
        (other_shape, "a.onnx cannot be read as ONNX"),
        (foreign, "a.onnx does not describe its network"),
        (without_size, "a.onnx does not describe its network"),
        (None, "a.onnx cannot be read (No such file or directory)"),
    ],
    ids=["cut", "empty", "lfs", "other shape", "foreign", "no size", "missing"],
)
def test_files_that_are_damaged_or_of_others(folder, tmp_path, capfd, spoil, message):
    path = tmp_path / "a.onnx"
    if spoil:
        path.write_bytes(spoil((folder / "cifar10.onnx").read_bytes()))
    assert message in refused(
        ["predict", "--params", path, folder / "0.png"], capfd
    )  # ONNX Runtime writes there itself


def with_weight(content, value):
    """ONNX Runtime's ReLU passes NaN on, but an infinite variance is a channel of zeros to it."""
    model = onnx.load_from_string(content)
    variance = next(each for each in model.graph.initializer if each.name.endswith("running_var"))
    array = onnx.numpy_helper.to_array(variance).copy()
    array[0] = value
    variance.CopyFrom(onnx.numpy_helper.from_array(array, variance.name))
    return model.SerializeToString(), variance.name


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_weights_that_are_not_finite_are_named(folder, tmp_path, capsys, command, value):
    path = tmp_path / "a.onnx"
    content, name = with_weight((folder / "cifar10.onnx").read_bytes(), value)
    path.write_bytes(content)
    rest = [folder / "0.png"] if command == "predict" else ["--csv", tmp_path / "table.csv"]
    message = refused([command, "--params", path, *rest], capsys)
    assert re.search(rf"a\.onnx has NaN or infinity in 1 of \d+ arrays \({name}\): export it again", message)
    assert os.listdir(tmp_path) == ["a.onnx"]


def with_unused(folder, path, **fields):
    """A file with one weight more, that no layer takes."""
    model = onnx.load(str(folder / "cifar10.onnx"))
    model.graph.initializer.add(name="unused", data_type=onnx.TensorProto.FLOAT, dims=[3], **fields)
    path.write_bytes(model.SerializeToString())
    return ["predict", "--params", str(path), str(folder / "0.png")]


def test_a_weight_that_no_layer_takes_may_be_cut(folder, tmp_path, capsys):
    command = with_unused(folder, tmp_path / "a.onnx", raw_data=b"123")
    assert "a.onnx cannot be read as ONNX (" in refused(command, capsys)


def test_a_weight_in_another_file_that_no_layer_takes_is_not_looked_for(folder, tmp_path):
    place = onnx.StringStringEntryProto(key="location", value="there/is/none")
    fields = {"data_location": onnx.TensorProto.EXTERNAL, "external_data": [place]}
    assert main(with_unused(folder, tmp_path / "a.onnx", **fields)) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "a.params"], "-o 'a.params' does not end in .onnx"),
        (["--format", "symbol", "-o", "a.onnx"], "-o a.onnx: give only the start of the two file names"),
        (["--format", "symbol", "-o", "folder/"], "-o folder/: give only the start of the two file names"),
        (["--params", "a.onnx", "-o", "b.onnx"], "--params a.onnx: this is already an export; name the .params file"),
        (["--input-size", "64", "-o", "a.onnx"], "--input-size 64: CIFAR images are 32 x 32"),
    ],
)
def test_what_cannot_be_exported(folder, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(["export", "--params", params(folder, CIFAR10), *options], capsys)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("onnx", ["export", "--params", f"{CIFAR10}.params", "-o", "new.onnx"]),
        ("onnxruntime", ["export", "--params", f"{CIFAR10}.params", "-o", "new.onnx"]),
        ("onnxruntime", ["predict", "--params", "cifar10.onnx", "0.png"]),
        ("onnx", ["predict", "--params", "cifar10.onnx", "0.png"]),
        ("onnx", ["predict", "--params", f"{CIFAR10}.params", "--engine", "onnxruntime", "0.png"]),
    ],
)
def test_a_missing_package(folder, monkeypatch, capsys, package, command):
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, package, None)
    assert f"ONNX needs the package {package} (" in (err := refused(command, capsys))
    assert "): pip install 'gluon_aff[onnx]'" in err
    assert not (folder / "new.onnx").exists()


def test_the_weights_of_a_symbol_are_weights(folder, tmp_path, capsys):
    command = ["export", "--params", params(folder, CIFAR10), "--format", "symbol", "-o", str(tmp_path / CIFAR10)]
    assert main(command) == 0
    exported = str(tmp_path / f"{CIFAR10}-0000.params")
    capsys.readouterr()
    assert main(["params", exported]) == 0
    assert "fits: cifar10-ASKCFuse-resnet-8-c-1-s-1\n" in capsys.readouterr().out
    said = []
    for file in (params(folder, CIFAR10), exported):
        assert main(["predict", "--params", file, "--json", str(folder / "0.png")]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_files_of_mxnet_need_no_onnx(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["predict", "--params", params(folder, CIFAR10), str(folder / "0.png")]) == 0
    command = ["export", "--params", params(folder, CIFAR10), "--format", "symbol", "-o", str(tmp_path / "net")]
    assert main(command) == 0
