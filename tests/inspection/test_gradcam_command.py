"""The command `gradcam`: files, scores, classes, errors."""

import json

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from gluon_aff.cli import main
from gluon_aff.gluon.networks.zoo import cifar_resnet, imagenet_resnet
from gluon_aff.inspection import picture_grid
from gluon_aff.inspection.gradcam import overlay
from gluon_aff.inspection.picture_grid import Cell, draw_grid

SMALL = "cifar10-ASKCFuse-resnet-8-c-1-s-1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images and the weights of three small networks, untrained."""
    place = tmp_path_factory.mktemp("gradcam")
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (40, 32)), ("b.jpg", (300, 200)), ("c.png", (32, 32))):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(place / name)
    mx.random.seed(0)
    networks = {
        f"0.5-{SMALL}-best.params": (cifar_resnet("AFF", 1, 1, classes=10), 32),
        f"0.6-{SMALL}-best.params": (cifar_resnet("AFF", 1, 1, classes=10), 32),
        "resnet18.params": (imagenet_resnet("AFF", (2, 2, 2, 2), block="basic", classes=5), 64),
    }
    for name, (net, side) in networks.items():
        net.initialize(mx.init.Xavier(magnitude=30))
        net(mx.nd.zeros((1, 3, side, side)))
        mx.nd.waitall()
        net.save_parameters(str(place / name))
    return place


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capsys):
    """Run in the folder, with the output elsewhere; return exit code, output and the folder of the output."""
    monkeypatch.chdir(folder)

    def gradcam(*arguments):
        code = main(["gradcam", *arguments, "-o", str(tmp_path / "out" / "maps.png")])
        return code, capsys.readouterr(), tmp_path / "out"

    return gradcam


FIRST, SECOND = (f"0.{n}-{SMALL}-best.params" for n in (5, 6))


def test_a_full_disk_leaves_the_old_picture_with_its_own_maps_and_scores(run, monkeypatch):
    _, _, out = run("--params", FIRST, "a.png")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gluon_aff.results.plots.draw_png", full)
    code, printed, _ = run("--params", FIRST, "b.jpg")
    assert code == 1
    assert "maps.json cannot be written (" in printed.err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert len(before) == 3


def test_writes_a_picture_maps_and_scores_those_of_predict(run, capsys):
    assert main(["predict", "--params", FIRST, "--json", "a.png", "b.jpg"]) == 0
    predictions = [found["classes"] for found in json.loads(capsys.readouterr().out)]
    code, printed, out = run("--params", FIRST, "--compare", SECOND, "a.png", "b.jpg")
    assert code == 0
    maps = np.load(out / "maps.npy", allow_pickle=False)
    assert (maps.shape, maps.dtype) == ((2, 2, 32, 32), np.float32)
    assert maps.min() >= 0
    assert maps.max() <= 1
    found = json.loads((out / "maps.json").read_text())
    assert [row["image"] for row in found] == ["a.png", "b.jpg"]
    for row, (likeliest, *_) in zip(found, predictions):
        first, second = row["networks"]
        assert (first["weights"], second["weights"]) == (FIRST, SECOND)
        assert first["predicted"]["name"] == likeliest["name"]
        assert first["predicted"]["score"] == pytest.approx(likeliest["score"], rel=1e-4)
        assert first["shown"] == first["predicted"]
        assert (first["layer"], first["missed"], row["label"]) == ("features.6", None, None)
        assert f"  {likeliest['score']:.4f}  {likeliest['name']}  (0.5-{SMALL}-best)" in printed.out
    with Image.open(out / "maps.png") as image:
        assert image.size[0] > 3 * 200
    assert not list(out.glob("*.partial"))


def test_a_class_by_name_or_number_and_missed_labels(run):
    code, printed, out = run("--params", FIRST, "--class", "dog", "--label", "3", "--label", "ship", "a.png", "c.png")
    assert code == 0
    rows = json.loads((out / "maps.json").read_text())
    assert [row["label"] for row in rows] == ["cat", "ship"]
    for row in rows:
        (facts,) = row["networks"]
        assert (facts["shown"]["label"], facts["shown"]["name"]) == (5, "dog")
        assert facts["missed"] == (facts["predicted"]["name"] != row["label"])
    assert printed.out.count("missed)") == sum(row["networks"][0]["missed"] for row in rows) > 0


def test_resize_sees_the_whole_image(run, monkeypatch):
    maps, extremes, cells = {}, {}, {}
    for flags in ([], ["--resize"], ["--tutorial"]):
        name = " ".join(flags)

        def watched(titles, rows, name=name, draw=draw_grid):
            (cells[name],) = rows
            return draw(titles, rows)

        monkeypatch.setattr(picture_grid, "draw_grid", watched)
        code, _, out = run("--params", FIRST, *flags, "b.jpg")
        assert code == 0
        maps[name] = np.load(out / "maps.npy")
        (facts,) = json.loads((out / "maps.json").read_text())[0]["networks"]
        extremes[name] = facts["least"], facts["largest"]
    assert 0 <= extremes[""][0] < extremes[""][1]
    assert extremes["--tutorial"][1] == pytest.approx(extremes[""][1] + 1)  # added before the ReLU
    for name, (image, picture) in cells.items():
        expected = overlay(image.pixels, maps[name][0, 0], name == "--tutorial")
        np.testing.assert_array_equal(picture.pixels, expected)
    assert not np.allclose(maps[""], maps["--resize"], atol=0.01)
    steps = maps["--tutorial"] * 255
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


def test_an_imagenet_network_and_another_layer(run):
    model = ["--params", "resnet18.params", "--input-size", "96"]
    code, _, out = run(*model, "--layer", "layer3.0.conv2", "b.jpg", "c.png")
    assert code == 0
    assert np.load(out / "maps.npy").shape == (2, 1, 96, 96)
    (facts,) = json.loads((out / "maps.json").read_text())[0]["networks"]
    assert (facts["network"], facts["layer"]) == ("aff_resnet18", "layer3.0.conv2")
    assert facts["predicted"]["name"].startswith("output ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--params", FIRST, "--layer", "features.66", "a.png"], "unknown layer (--layer) 'features.66': did you mean"),
        (["--params", FIRST, "--layer", "output", "a.png"], "--layer output: its output is not (N, C, H, W)"),
        (["--params", "resnet18.params", "--input-size", "32", "a.png"], "--layer layer4: its maps are 1 x 1"),
        (["--params", FIRST, "none.png"], "none.png cannot be read as an image"),
        (["--params", FIRST, "--class", "dogg", "a.png"], "unknown class (--class) 'dogg': did you mean dog?"),
        (["--params", FIRST, "--class", "10", "a.png"], "unknown class (--class) '10'"),
        (["--params", FIRST, "--label", "dog", "a.png", "b.jpg"], "--label: 1 for 2 images"),
        (["--params", FIRST, "--compare", "resnet18.params", "a.png"], "takes images of 224 pixels, and"),
        (["--params", FIRST, "--compare", "vgg=x.params", "a.png"], "x.params"),
        (["--params", "x.onnx", "a.png"], "--params x.onnx: this is already an export"),
        (["--params", FIRST, "--compare", "published", "a.png"], "name the weights: --model NAME"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(run, arguments, message):
    code, printed, out = run(*arguments)
    assert code == 2
    (line,) = printed.err.splitlines()
    assert line.startswith("gluon-aff: error: ")
    assert message in line
    assert not out.exists()


def test_an_image_is_not_overwritten(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for name, message in (("c.png", "one of the images"), ("c.jpg", "does not end in .png")):
        assert main(["gradcam", "--params", FIRST, "c.png", "-o", name]) == 2
        assert message in capsys.readouterr().err


def test_a_cross_is_drawn_where_it_is_asked_for():
    grey = np.full((8, 8, 3), 128, np.uint8)

    def drawn(crossed):
        figure = draw_grid(["input", "a network"], [[Cell(grey), Cell(grey, r"no $\formula$", crossed)]])
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)

    plain, marked = drawn(False), drawn(True)
    right = plain.shape[1] // 2
    changed = (plain != marked).any(axis=2)
    assert changed[:, right:].any()
    assert not changed[:, :right].any()
    red = (marked[..., 0] > 180) & (marked[..., 1] < 60)
    assert red[: len(red) // 2, right:].any()
    assert not ((plain[..., 0] > 180) & (plain[..., 1] < 60)).any()
