"""`gluon-aff evaluate`: what it prints, writes and reads, against NumPy; which images are the official ones."""

import csv
import json
import os
import platform
import shlex
import struct
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from importlib import metadata
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from shared_by_tests.cards import card_for
from shared_by_tests.exported_networks import filled
from shared_by_tests.validation_batches import batch_sizes

from gluon_aff import __version__
from gluon_aff.cli import main
from gluon_aff.data.cifar.files import load_cifar
from gluon_aff.data.class_names import class_names
from gluon_aff.data.samples.cifar_layout import write_shapes
from gluon_aff.evaluation import weights_file
from gluon_aff.evaluation.weights_file import validation_set
from gluon_aff.gluon.networks.zoo import cifar_resnet
from gluon_aff.published import published_weights
from gluon_aff.weights import description
from gluon_aff.weights.params_format import git_blob_sha1

NETWORK = "cifar100-ASKCFuse-resnet-8-c-1-s-1"
IMAGES = 200


@pytest.fixture(scope="module")
def net():
    return filled(cifar_resnet("ASKCFuse", 1, 1, classes=100), 32)


@pytest.fixture(scope="module")
def folder(net, tmp_path_factory):
    """Weights of `net`, and images in CIFAR-100's layout."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_shapes(str(folder / "shapes"), train_images=100, test_images=IMAGES)
    net.save_parameters(str(folder / f"0.5-{NETWORK}-best.params"))
    return folder


@pytest.fixture(scope="module")
def figures(net, folder):
    """Top-1 and top-5 accuracy, loss, and each class's images and correct ones, by NumPy."""
    data = load_cifar("cifar100", False, True, str(folder / "shapes"))
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])  # the original's
    x = ((data.images / 255 - mean) / std).transpose(0, 3, 1, 2).astype("float32")
    logits = net(mx.nd.array(x)).asnumpy().astype("float64")
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    order = np.argsort(-logits, axis=1)
    first = order[:, 0] == data.labels
    fifth = (order[:, :5] == data.labels[:, None]).any(axis=1)
    counts = [(int((data.labels == k).sum()), int(first[data.labels == k].sum())) for k in range(100)]
    assert 0 < first.mean() < fifth.mean() < 1
    return first.mean(), fifth.mean(), -log_softmax[np.arange(IMAGES), data.labels].mean(), counts


@pytest.fixture
def evaluate(folder, tmp_path, monkeypatch, capsys):
    """Run with those weights and images in an empty folder; return what was printed."""
    monkeypatch.chdir(tmp_path)

    def run(*more):
        arguments = ["evaluate", "--params", str(folder / f"0.5-{NETWORK}-best.params"), "--fine-label"]
        arguments += ["--data-dir", str(folder / "shapes"), *more]
        monkeypatch.setattr(sys, "argv", ["gluon-aff", *arguments])
        assert main(arguments) == 0
        return capsys.readouterr()

    return run


@pytest.mark.parametrize(("arguments", "sizes"), [((), [128, 72]), (("--batch-size", "90"), [90, 90, 20])])
def test_images_are_read_so_many_at_a_time(arguments, sizes, evaluate, monkeypatch):
    seen = batch_sizes(monkeypatch)
    printed = evaluate(*arguments, "--csv", "")
    assert seen == sizes
    assert f"on cpu(0), {sizes[0]} at a time" in printed.out
    assert os.listdir() == []


def test_every_figure_of_the_row(evaluate, figures, folder):
    """In JSON and in the table, whose name is the default."""
    top1, top5, loss, counts = figures
    printed = evaluate("--json")
    found = json.loads(printed.out)
    assert printed.err == "row appended to logs/evaluations.csv\n"
    path = str(folder / f"0.5-{NETWORK}-best.params")
    assert {name: found[name] for name in ("network", "weights", "git_blob_sha1", "dataset", "labels")} == {
        "network": NETWORK,
        "weights": path,
        "git_blob_sha1": git_blob_sha1(path),
        "dataset": "cifar100",
        "labels": "fine",
    }
    assert (found["official_data"], found["images"], found["batch_size"]) == (False, IMAGES, 128)
    assert (found["devices"], found["published_error_percent"]) == ("cpu(0)", None)
    assert (found["top1"], found["top5"]) == (pytest.approx(top1), pytest.approx(top5))
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    assert found["images_per_second"] > 0
    assert found["command"] == shlex.join(sys.argv)
    versions = f"gluon_aff {__version__}, MXNet 1.9.1, NumPy {np.__version__}, Python {platform.python_version()}"
    assert found["versions"] == versions
    age = datetime.now(timezone.utc) - datetime.fromisoformat(found["date"])
    assert timedelta(0) <= age + timedelta(seconds=1) < timedelta(minutes=2)
    per_class = found.pop("per_class")
    assert per_class == [{"label": k, "images": n, "correct": right} for k, (n, right) in enumerate(counts)]
    (row,) = csv.DictReader(Path("logs/evaluations.csv").read_text().splitlines())
    assert row == {name: "" if value is None else str(value) for name, value in found.items()}


def test_the_text_says_the_same(evaluate, figures, folder):
    top1, top5, loss, counts = figures
    lines = evaluate("--csv", "", "--per-class").out.splitlines()
    data = "cifar100 (not the official images), fine labels, 200 images, 100 classes under 100 outputs"
    assert lines[3] == f"data            {data}"
    assert lines[4] == f"top-1 accuracy  {top1:.6f} (error {100 * (1 - top1):.2f} %)"
    assert lines[5] == f"top-5 accuracy  {top5:.6f} (error {100 * (1 - top5):.2f} %)"
    assert float(lines[6].split()[1]) == pytest.approx(loss, abs=2e-5 * loss)
    assert lines[8] == "engine          MXNet 1.9.1, the reference"
    assert lines[9] == "published       no: not a file of the original repository"
    rows = [line.split() for line in lines[-100:]]
    names = (folder / "shapes" / "fine_label_names.txt").read_text().split()
    for label, ((images, right), name, row) in enumerate(zip(counts, names, rows)):
        share = f"{100 * right / images:.2f}" if images else "-"
        assert row[:4] == [str(label), name, str(images), share]


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_the_text_says_which_engine_was_asked_for(engine, evaluate):
    named = {
        "torch": f"PyTorch {metadata.version('torch')}",
        "onnxruntime": f"ONNX Runtime {metadata.version('onnxruntime')}",
    }
    assert f"\nengine          {named[engine]}, as asked for\n" in evaluate("--csv", "", "--engine", engine).out


@pytest.mark.parametrize(("error", "difference"), [(50.0, "+"), (99.99, "-")])
def test_beside_what_was_published(error, difference, evaluate, figures, monkeypatch):
    """On the official images the difference of the errors, positive where it is worse here."""
    record = replace(published_weights()[0], error=error)
    for module in (weights_file, description):
        monkeypatch.setattr(module, "weights_with_hash", lambda digest: record)

    def official(*arguments, set_of=weights_file.validation_set):
        return replace(set_of(*arguments), official=True)

    monkeypatch.setattr(weights_file, "validation_set", official)
    points = f"{difference}{abs(100 * (1 - figures[0]) - error):.2f}"
    said = f"published       top-1 error {error:.2f} %: {points} points from it here"
    assert evaluate("--csv", "").out.splitlines()[9] == said
    found = json.loads(evaluate("--csv", "", "--json").out)
    assert (found["published_error_percent"], found["official_data"]) == (error, True)


def write_labels(folder, labels):
    """A record file of images without a byte, as far as their labels."""
    records = b"".join(struct.pack("<IIIfQQ", 0xCED7230A, 24, 0, label, i, 0) for i, label in enumerate(labels))
    (folder / "val.rec").write_bytes(records)
    (folder / "val.idx").write_text("".join(f"{i}\t{32 * i}\n" for i in range(len(labels))))


@pytest.mark.parametrize(
    ("images", "classes", "official"), [(50_000, 1000, True), (49_999, 1000, False), (50_000, 999, False)]
)
def test_imagenets_official_set_has_50_000_images_of_1000_classes(images, classes, official, tmp_path):
    write_labels(tmp_path, [i % classes for i in range(images)])
    data = validation_set(card_for("x", 224, 1000), "x.params", "imagenet", str(tmp_path), 100, 0)
    assert (data.images, data.official) == (images, official)
    assert data.names == (class_names("imagenet") if official else list(map(str, range(classes))))


def test_imagenets_images_have_the_size_that_is_asked_for(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (120, 90)).save(tmp_path / name / "1.png")
    for size in (64, 80):
        data = validation_set(card_for("x", size, 2), "x.params", "imagenet", str(tmp_path), 2, 0)
        assert [images.shape for images, _ in data.batches] == [(2, 3, size, size)]


@pytest.mark.parametrize(("arguments", "sizes", "shown"), [((), [5], 5), (("--batch-size", "2"), [2, 2, 1], 5)])
def test_files_are_predicted_so_many_at_a_time(arguments, sizes, shown, folder, tmp_path, monkeypatch, capsys):
    seen = []

    def watched(request, many_images=False, load=weights_file.load_weights):
        loaded = load(request, many_images=many_images)
        return replace(loaded, infer=lambda images: (seen.append(len(images)), loaded.infer(images))[1])

    monkeypatch.setattr(weights_file, "load_weights", watched)
    paths = [str(tmp_path / f"{number}.png") for number in range(5)]
    for number, path in enumerate(paths):
        Image.new("RGB", (32, 32), (number * 40, 0, 0)).save(path)
    weights = str(folder / f"0.5-{NETWORK}-best.params")
    assert main(["predict", "--params", weights, "--fine-label", *arguments, *paths]) == 0
    assert seen == sizes
    lines = capsys.readouterr().out.splitlines()
    assert lines[:: shown + 1] == paths
    assert all(line.split()[1] in class_names("cifar100", True) for line in lines if line not in paths)
