"""Masks in images: thresholds, sizes and figures against NumPy, Pillow and training; the command."""

import json
import os
import shutil

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from gluon_aff.cli import main
from gluon_aff.data.samples.stop_signs import write_stop_signs
from gluon_aff.errors import GluonAFFError
from gluon_aff.evaluation.segment import iou_and_niou_of, segment_images, segment_stop_signs
from gluon_aff.gluon.network import GluonNetwork
from gluon_aff.gluon.networks import get_model
from gluon_aff.inspection import picture_grid
from gluon_aff.settings.segmentation import SegmentationSettings
from gluon_aff.training.segmentation import train_segmentation

pytest.importorskip("pycocotools")
SIZE = 48
IMAGES = 9  # with a sign, and two without


def red_channel(images):
    """Stands for a network: it finds what is redder than average."""
    logits = images[:, :1]
    return lambda: logits


@pytest.fixture(scope="module")
def signs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "signs"
    write_stop_signs(str(folder), 8, IMAGES + 2)
    return folder


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 70, 3), dtype=np.uint8)
    pixels[:, :35] //= 3
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_what_is_above_zero_is_the_mask_and_grows_to_the_images_size(image):
    (found,) = segment_images(red_channel, [str(image)], SIZE, 3)
    with Image.open(image) as whole:
        seen = np.asarray(whole.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(found.image.pixels, seen)
    logits = ((seen[..., 0] / 255 - 0.485) / 0.229).astype(np.float32)
    np.testing.assert_array_equal(found.found, logits > 0)
    assert 0 < found.found.mean() < 0.5
    assert found.image.truth is None
    own = np.asarray(Image.fromarray(logits).resize((70, 30), Image.Resampling.BILINEAR)) > 0
    assert found.own_size_mask().shape == (30, 70)
    assert (found.own_size_mask() != own).mean() < 0.001


def test_figures_are_those_of_the_pixels(signs):
    from pycocotools.coco import COCO

    from gluon_aff.data.stop_signs.annotations import load_stop_signs

    images = load_stop_signs(str(signs), train=False).images
    found = list(segment_stop_signs(red_channel, images, SIZE, 2))
    coco = COCO(str(signs / "annotations" / "instances_val2017.json"))
    (category,) = coco.getCatIds(catNms=["stop sign"])
    overlaps = []
    with_sign = sorted(coco.getImgIds(catIds=[category]))
    assert len(found) == len(with_sign) == IMAGES == len(coco.imgs) - 2
    for each, number in zip(found, with_sign):
        masks = [
            coco.annToMask(annotation) for annotation in coco.imgToAnns[number] if annotation["category_id"] == category
        ]
        whole = Image.fromarray(np.max(masks, axis=0))
        truth = np.asarray(whole.resize((SIZE, SIZE), Image.Resampling.NEAREST)).astype(bool)
        overlaps.append(((each.found & truth).sum(), (each.found | truth).sum()))
        assert each.overlap == overlaps[-1]
        assert each.iou == overlaps[-1][0] / overlaps[-1][1]
    intersections, unions = np.array(overlaps).T
    expected = intersections.sum() / unions.sum(), (intersections / unions).mean()
    assert iou_and_niou_of(each.overlap for each in found) == pytest.approx(expected)
    assert 0 < expected[0] < 1


def test_no_mask_at_all_counts_as_nothing():
    assert iou_and_niou_of([(0, 0), (0, 0)]) == (0, 0)


def test_outputs_that_are_not_finite(image):
    with pytest.raises(GluonAFFError, match=r"image.png are not finite"):
        list(segment_images(lambda images: lambda: images * np.nan, [str(image)], SIZE, 1))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def segment(*arguments):
        code = main(["segment", "--base-size", str(SIZE), *map(str, arguments)])
        return code, capsys.readouterr()

    return segment


@pytest.fixture
def weights(tmp_path):
    """A network that finds a sign everywhere."""
    net = get_model("resnet20_fpn_b1", ctx=mx.cpu())
    net(mx.nd.zeros((1, 3, 64, 64)))
    for parameter, value in ((net.head[4].weight, 0), (net.head[4].bias, 1)):
        parameter.set_data(mx.nd.full(parameter.shape, value))
    mx.nd.waitall()
    net.save_parameters(str(tmp_path / "everywhere.params"))
    return "everywhere.params"


def drawn(monkeypatch):
    """The titles and the rows of cells that commands draw from now on."""
    figures = []

    def watched(titles, rows, draw=picture_grid.draw_grid):
        figures.append((titles, rows))
        return draw(titles, rows)

    monkeypatch.setattr(picture_grid, "draw_grid", watched)
    return figures


def test_a_trained_network_scores_as_in_its_log(signs, run, capsys, monkeypatch):
    trained = train_segmentation(
        SegmentationSettings(
            data_dir=str(signs),
            stem="tiny",
            base_size=SIZE,
            crop_size=32,
            batch_size=4,
            num_epochs=4,
            lr=0.05,
            num_workers=0,
            gpus="",
            seed=1,
        )
    )
    capsys.readouterr()
    figures = drawn(monkeypatch)
    code, printed = run(
        "--params", trained.params, "--data-dir", signs, "--json", "-o", "worst.png", "--masks", "masks"
    )
    assert code == 0, printed.err
    result = json.loads(printed.out)
    assert result["network"] == "stopsign-ASKCFuse-resnet-20-1-fpn-c-1-tiny"
    assert result["iou"] == pytest.approx(trained.best_iou, abs=1e-6)
    assert len(result["images"]) == IMAGES
    assert np.mean([image["iou"] for image in result["images"]]) == pytest.approx(result["niou"])
    ratios = [image["intersection"] / image["union"] for image in result["images"]]
    assert ratios == [image["iou"] for image in result["images"]]
    worst = sorted(result["images"], key=lambda image: image["iou"])[:6]
    assert worst[0]["iou"] < worst[-1]["iou"] < max(ratios)
    ((titles, rows),) = figures
    assert titles == ["input", "true mask", "found"]
    assert [row[0].text for row in rows] == [os.path.basename(image["image"]) for image in worst]
    assert [row[2].text for row in rows] == [f"IoU {image['iou']:.3f}" for image in worst]
    with Image.open("worst.png") as picture:
        assert picture.height > picture.width  # six rows of three
    masks = [os.path.splitext(os.path.basename(image["image"]))[0] + ".png" for image in result["images"]]
    assert sorted(os.listdir("masks")) == sorted(masks)
    code, printed = run("--params", trained.params, "--data-dir", signs)
    assert printed.out.splitlines()[1:] == [f"IoU   {result['iou']:.6f}", f"nIoU  {result['niou']:.6f}"]


def test_files_and_shares(run, weights, image, tmp_path):
    code, printed = run("--params", weights, image, "-o", "found.png", "--masks", "masks")
    assert (code, printed.out) == (0, f"1.0000  {image}\n")
    with Image.open("masks/image.png") as mask:
        assert (mask.size, mask.mode, mask.getextrema()) == ((70, 30), "L", (255, 255))
    with Image.open("found.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert (np.abs(pixels.astype(int) - (0, 220, 255)).max(axis=2) < 100).mean() > 0.2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name images, or the folder of COCO"),
        (("--data-dir", "coco", "image.png"), "but not both"),
        (("--data-dir", "coco"), "coco/annotations/instances_val2017.json is missing"),
        (("image.png", "-o", "image.png"), "this is one of the images"),
        (("image.png", "--masks", "masks", "-o", "masks/image.png"), "this is one of the images or masks"),
        (("image.png", "--masks", ""), "--masks is empty"),
        (("image.png", "--base-size", "4"), "--base-size 4: must be from 32 to 10000"),
        (("image.png", "-o", "found.jpg"), "does not end in .png"),
        (("image.png", "--masks", "."), "masks would replace images there; name another folder"),
        (("image.png", "other/image.jpg", "--masks", "masks"), "two images have the same name"),
        (("nothing.png",), "nothing.png cannot be read as an image"),
    ],
)
def test_what_cannot_be(arguments, said, run, weights, image, tmp_path):
    before = sorted(tmp_path.iterdir())
    code, printed = run("--params", weights, *arguments)
    assert (code, printed.out) == (2, "")
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_the_data_stays_as_it_is(signs, run, weights, tmp_path):
    """Data of PNG files would be overwritten by the masks of the same names."""
    data = tmp_path / "data"
    shutil.copytree(signs, data)
    annotations = data / "annotations" / "instances_val2017.json"
    for image in (data / "val2017").glob("*.jpg"):
        with Image.open(image) as pixels:
            pixels.save(image.with_suffix(".png"))
    annotations.write_text(annotations.read_text().replace(".jpg", ".png"))
    before = {path: path.read_bytes() for path in data.rglob("*.png")}
    for where in (("--masks", data / "val2017"), ("-o", min(before))):
        code, printed = run("--params", weights, "--data-dir", data, *where)
        assert code == 2
        assert "name another" in printed.err
    assert {path: path.read_bytes() for path in data.rglob("*.png")} == before


def test_places_that_cannot_be_written(run, weights, image, tmp_path):
    (tmp_path / "file").write_text("")
    for where in (("--masks", "file"), ("-o", "file/found.png")):
        code, printed = run("--params", weights, image, *where)
        assert code == 2
        assert f"error: {where[0]} file: " in printed.err
        assert printed.err.count("\n") == 1


def test_images_with_little_of_a_sign_can_be_left_out(signs, run, weights):
    areas = [
        json.loads(run("--params", weights, "--data-dir", signs, "--min-area", area, "--json")[1].out)
        for area in (0, 1000)
    ]
    assert len(areas[0]["images"]) == IMAGES > len(areas[1]["images"])


@pytest.mark.parametrize(("arguments", "sizes"), [((), [8, 1]), (("--batch-size", "4"), [4, 4, 1])])
def test_images_are_read_so_many_at_a_time(arguments, sizes, signs, run, weights, monkeypatch):
    seen = []

    def watched(network, images, infer=GluonNetwork.infer):
        seen.append(len(images))
        return infer(network, images)

    monkeypatch.setattr(GluonNetwork, "infer", watched)
    assert run("--params", weights, "--data-dir", signs, *arguments)[0] == 0
    assert seen == sizes


def test_nothing_was_published(run, image):
    code, printed = run("--params", "published", "--model", "resnet20_fpn_b1", image)
    assert code == 2
    assert "--params published: no weights of resnet20_fpn_b1 were published" in printed.err


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (lambda: get_model("afi_resnet32_cifar100"), "afi_resnet32_cifar100 classifies images"),
        (lambda: get_model("resnet20_fpn_b1", classes=3), "belongs to a network with 3 output maps"),
    ],
)
def test_networks_for_other_jobs(net, said, run, image, tmp_path):
    net = net()
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 64, 64)))
    mx.nd.waitall()
    net.save_parameters(str(tmp_path / "other.params"))
    code, printed = run("--params", "other.params", image)
    assert code == 2
    assert said in printed.err
