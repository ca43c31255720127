"""The command `selectivity`: files, figures, defaults, errors."""

import csv
import json
from pathlib import Path

import mxnet as mx
import pytest
from PIL import Image
from shared_by_tests.validation_batches import batch_sizes

from gluon_aff.cli import main
from gluon_aff.gluon.networks import get_model
from gluon_aff.gluon.networks.zoo import cifar_resnet


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of an AFINet, of its plain host and of another network, untrained."""
    place = tmp_path_factory.mktemp("selectivity")
    mx.random.seed(0)
    networks = {
        "afi.params": get_model("afi_resnet32_cifar100"),
        "plain.params": get_model("resnet32_cifar100"),
        "0.5-cifar10-ASKCFuse-resnet-8-c-1-s-1-best.params": cifar_resnet("AFF", 1, 1, classes=10),
    }
    for name, net in networks.items():
        net.initialize(mx.init.Xavier())
        net(mx.nd.zeros((1, 3, 32, 32)))
        mx.nd.waitall()
        net.save_parameters(str(place / name))
    return place


@pytest.fixture
def run(folder, few_shapes, tmp_path, monkeypatch, capsys):
    """Run in the folder on the shapes, with the output elsewhere."""
    monkeypatch.chdir(folder)

    def selectivity(*arguments):
        out = tmp_path / "out"
        code = main(["selectivity", "--data-dir", few_shapes, *arguments, "-o", str(out / "figure.png")])
        return code, capsys.readouterr(), out

    return selectivity


CIFAR100 = ["--dataset", "cifar100", "--fine-label"]


def test_an_afinet_beside_its_host(run, few_shapes):
    code, printed, out = run("--params", "afi.params", "--compare", "plain.params", *CIFAR100, "--json")
    assert code == 0, printed.err
    ours, plain = json.loads(printed.out)
    assert (ours["network"], ours["layer"], ours["channels"]) == (
        "afi_resnet32_cifar100",
        "features.5.blocks.4.integrate",
        32,
    )
    assert (plain["network"], plain["layer"], plain["channels"]) == (
        "resnet32_cifar100",
        "features.5.blocks.4.first[32:]",
        32,
    )
    with open(out / "figure.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 64
    assert [int(row["channel"]) for row in rows] == [*range(32), *range(32, 64)]
    names = set(Path(few_shapes, "fine_label_names.txt").read_text().split())
    for each, mine in ((ours, rows[:32]), (plain, rows[32:])):
        alive = [float(row["selectivity"]) for row in mine if row["selectivity"]]
        assert alive == [index for index in each["index"] if index is not None]
        assert all(0 <= index <= 1 for index in alive)
        assert len(alive) + each["dead"] == 32
        assert [label is None for label in each["class"]] == [index is None for index in each["index"]]
        assert sum(alive) / len(alive) == pytest.approx(each["mean"])
        assert each["images"] == 100
        assert {row["class"] for row in mine if row["selectivity"]} <= names
    with Image.open(out / "figure.png") as picture:
        assert picture.size[0] > 600
    assert not list(out.glob("*.partial"))


def test_another_layer_as_text(run, monkeypatch):
    sizes = batch_sizes(monkeypatch)
    arguments = ["--params", "plain.params", *CIFAR100, "--layer", "features.2[4:12]", "--batch-size", "40"]
    code, printed, out = run(*arguments)
    assert code == 0, printed.err
    assert sizes == [40, 40, 20]
    with open(out / "figure.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["layer"], row["channel"]) for row in rows] == [("features.2", str(n)) for n in range(4, 12)]
    header, row, note, files = printed.out.splitlines()
    assert header.split() == ["network", "layer", "channels", "dead", "mean", "index"]
    assert row.split()[:3] == ["resnet32_cifar100", "features.2[4:12]", "8"]
    assert "100 validation images of cifar100 (not the official images)" in note
    assert files == f"{out / 'figure.png'}, {out / 'figure.csv'}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--params", "afi.params", "--fine-label"], "afi.params does not say which data set it is for: add --dataset"),
        (["--params", "afi.params", "--dataset", "cifar100"], "add --fine-label or --superclass"),
        (["--params", "afi.params", *CIFAR100, "--layer", "features.77"], "unknown layer (--layer) 'features.77'"),
        (["--params", "afi.params", *CIFAR100, "--layer", "features[1]"], "write NAME for all of its channels"),
        (
            ["--params", "afi.params", *CIFAR100, "--compare-layer", "features.5"],
            "name the other network with --compare",
        ),
        (
            ["--params", "afi.params", *CIFAR100, "--compare", "plain.params", "--compare-layer", "feature"],
            "unknown layer (--layer) 'feature'",
        ),
        (
            ["--params", "afi.params", *CIFAR100, "--compare", "0.5-cifar10-ASKCFuse-resnet-8-c-1-s-1-best.params"],
            "--dataset cifar100: 0.5-cifar10",
        ),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(run, arguments, message):
    code, printed, out = run(*arguments)
    assert code == 2
    (line,) = printed.err.splitlines()
    assert line.startswith("gluon-aff: error: ")
    assert message in line
    assert not out.exists()


def test_output_is_a_png(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["selectivity", "--params", "afi.params", "-o", "afi.params"]) == 2
    assert "does not end in .png" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["selectivity", "gradcam", "segment", "export"])
def test_an_output_that_cannot_be_written_is_said_first(command, capsys):
    """Before the weights are even looked for."""
    suffix = "onnx" if command == "export" else "png"
    images = ["a.png"] if command in ("gradcam", "segment") else []
    assert main([command, "--params", "none.params", "-o", f"/proc/none/out.{suffix}", *images]) == 2
    assert "error: -o /proc/none: /proc cannot be written to" in capsys.readouterr().err
