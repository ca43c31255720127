"""Whole segmentation runs on drawn stop signs: what they write and learn, and that they repeat to the bit."""

import json
import re
from dataclasses import asdict, replace

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from shared_by_tests.fakes import Worker
from shared_by_tests.stopping import stop_at

from gluon_aff.cli import main
from gluon_aff.data.samples.stop_signs import write_stop_signs
from gluon_aff.data.stop_signs.annotations import load_stop_signs
from gluon_aff.data.stop_signs.batches import MaskBatches
from gluon_aff.engines import Devices
from gluon_aff.errors import InputError, Stopped, TrainingError
from gluon_aff.gluon.network import GluonNetwork
from gluon_aff.gluon.networks.zoo import build
from gluon_aff.gluon.parameters import load_parameters
from gluon_aff.results.logs import read_log
from gluon_aff.settings.segmentation import SegmentationSettings, resolve
from gluon_aff.training.architectures import segmentation_architecture
from gluon_aff.training.scores import iou_and_niou
from gluon_aff.training.segmentation import train_segmentation
from gluon_aff.weights.description import describe
from gluon_aff.weights.params_format import read_params_file

pytest.importorskip("pycocotools")

NAME = "stopsign-ASKCFuse-resnet-20-1-fpn-c-1"


@pytest.fixture(scope="module")
def few_signs(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("data") / "signs")
    write_stop_signs(folder, 17, 6)
    return folder


@pytest.fixture
def settings(few_signs, tmp_path, monkeypatch):
    """A run of seconds, three steps an epoch; its files go under the working directory, a fresh one."""
    monkeypatch.chdir(tmp_path)
    return SegmentationSettings(
        data_dir=few_signs, base_size=64, crop_size=48, batch_size=5, num_epochs=2, num_workers=0, gpus="", seed=3
    )


def log_lines(run):
    with open(run.log) as file:
        return file.read().splitlines()


def without_times(lines):
    return [re.sub(r" time: .*", "", line) for line in lines if "[Epoch" in line]


def weights(path):
    return dict(read_params_file(path).arrays)


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array)


def test_files_and_log_lines(settings, tmp_path):
    run = train_segmentation(settings)
    assert run.params == f"params/{run.best_iou:.4f}-{NAME}-best.params"
    assert (run.log, run.rank) == (f"logs/train_{NAME}.log", 0)
    assert {p.name for p in tmp_path.iterdir()} == {"params", "logs", f"{NAME}_history.png"}
    header, versions, *epochs = log_lines(run)
    written = asdict(replace(settings, askc_type="ASKCFuse"))
    assert header == "INFO:root:Namespace({})".format(", ".join(f"{k}={v!r}" for k, v in sorted(written.items())))
    assert "devices cpu(0), 5 images per step, other data" in versions
    number = r"\d+\.\d{6}"
    pattern = rf"INFO:root:\[Epoch (\d)\] train={number} val={number} niou={number} loss={number} lr: {number} time: "
    assert [re.match(pattern, line)[1] for line in epochs] == ["0", "1"]
    (logged,) = read_log(run.log)
    assert logged.epochs["val_iou"].max() == pytest.approx(run.best_iou, abs=1e-6)
    assert logged.epochs["val_niou"].max() == pytest.approx(run.best_niou, abs=1e-6)
    with Image.open(run.curve) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (pixels == (255, 127, 14)).all(axis=1).any()


def test_the_card_says_what_the_weights_are_of(settings, capsys):
    """So that images are squashed as in the validation."""
    run = train_segmentation(settings)
    architecture, card = describe(read_params_file(run.params))
    given = segmentation_architecture(resolve(settings))
    assert architecture.settings == {name: value for name, value in given.settings.items() if value is not None}
    assert (card.network, card.dataset, card.names) == ("resnet20_fpn_b1", "stopsign", ("stop sign",))
    assert (card.base_size, card.input_size, card.outputs) == (64, 48, 1)
    capsys.readouterr()
    assert main(["segment", "--params", run.params, "--data-dir", settings.data_dir, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["iou"] == pytest.approx(run.best_iou, abs=1e-6)


def test_best_weights_give_the_best_iou_to_the_digit(settings):
    run = train_segmentation(replace(settings, num_epochs=4))
    net = build(segmentation_architecture(resolve(settings)))
    load_parameters(net, run.params)
    halves = [load_stop_signs(settings.data_dir, train) for train in (True, False)]
    with MaskBatches(*halves, 4, 64, 48, 0, 0) as batches:
        iou, _ = iou_and_niou(GluonNetwork(net, [mx.cpu()]), batches.validation(), Worker())
    assert iou == pytest.approx(run.best_iou, abs=1e-6)


def test_same_seed_same_bits_for_any_number_of_workers(settings):
    """With the dropout of the network's head."""
    runs = [
        train_segmentation(replace(settings, num_workers=workers, seed=seed, save_dir=place, logging_dir=place))
        for workers, seed, place in ((0, 3, "a"), (2, 3, "b"), (0, 4, "c"))
    ]
    figures = [without_times(log_lines(run)) for run in runs]
    assert figures[0] == figures[1] != figures[2]
    assert_same_weights(runs[0].params, runs[1].params)


@pytest.mark.parametrize("steps", [pytest.param(2, marks=pytest.mark.long), 4, pytest.param(6, marks=pytest.mark.long)])
def test_a_run_that_was_stopped_goes_on_to_the_bit(settings, steps, monkeypatch):
    """Stopped within an epoch, or behind the last step of one, which it then validates first."""
    settings = replace(settings, num_epochs=3, resume="auto")
    whole = train_segmentation(replace(settings, save_dir="whole", logging_dir="whole"))
    with monkeypatch.context() as patch:
        stop_at(patch, steps)
        with pytest.raises(Stopped, match="To continue, give the same command with --resume auto"):
            train_segmentation(settings)
    run = train_segmentation(settings)
    assert without_times(log_lines(run)) == without_times(log_lines(whole))
    assert (run.best_iou, run.best_niou) == (whole.best_iou, whole.best_niou)
    assert_same_weights(run.params, whole.params)
    again = train_segmentation(settings)
    assert (again.best_iou, again.best_niou, again.params) == (run.best_iou, run.best_niou, run.params)


def test_another_network_does_not_go_on(settings):
    train_segmentation(replace(settings, num_epochs=1, lr_mode="constant"))
    with pytest.raises(InputError, match="--num-epochs is 2 and was 1"):
        train_segmentation(replace(settings, lr_mode="constant", resume="auto"))


@pytest.mark.parametrize(
    "changed",
    [
        {"askc_type": "Concatenation", "stem": "tiny", "blocks": 2},
        {"askc_type": "MS-SENet", "context": "conv", "scale": 1.0},
    ],
)
def test_other_networks_train(settings, changed):
    run = train_segmentation(replace(settings, num_epochs=1, **changed))
    assert len(without_times(log_lines(run))) == 1


def test_without_a_place_for_weights(settings, tmp_path):
    run = train_segmentation(replace(settings, num_epochs=1, save_dir=""))
    assert run.params is None
    assert not list(tmp_path.rglob("*.params"))


def test_two_devices(settings):
    run = train_segmentation(replace(settings, num_epochs=1), Devices("cpu", (0, 1)))
    assert "devices cpu(0),cpu(1), 10 images per step" in log_lines(run)[1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data_dir": None}, "--data-dir is missing"),
        ({"data_dir": "nowhere"}, "nowhere/annotations/instances_train2017.json is missing"),
        ({"min_area": 10**6}, "lower --min-area"),
        ({"batch_size": 99}, "fewer than one batch of 99"),
        ({"askc_type": "AFFF"}, "did you mean AFF"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(settings, tmp_path, changed, said):
    with pytest.raises(InputError, match=said):
        train_segmentation(replace(settings, **changed))
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_stops(settings):
    with pytest.raises(TrainingError, match=r"epoch \d, step \d.*Kept: "):
        train_segmentation(replace(settings, lr=1e30, wd=1e30))


def test_the_command(settings, few_signs, capsys):
    line = f"--data-dir {few_signs} --base-size 64 --crop-size 48 --batch-size 5 --num-epochs 1 -j 0 --gpus= --seed 3"
    assert main(line.split(), "train_segmentation.py", "train-segmentation") == 0
    out, err = capsys.readouterr()
    files = rf"weights:   params/0\.\d{{4}}-{NAME}-best\.params\nlog:       logs/\S+\ncurve:     \./\S+\n"
    assert re.fullmatch(rf"best IoU:  0\.\d+\nbest nIoU: 0\.\d+\n{files}", out)
    assert f"reading the annotations in {few_signs}\n" in err
    assert "\nattention: COCO 2017 has about 1,734 training and 69 validation images with a stop sign: " in err
    assert main([*line.split(), "--fusion", "None"], "train_segmentation.py", "train-segmentation") == 2
    assert main(["--summary"], "train_segmentation.py", "train-segmentation") == 0
    assert "trainable parameters: 95,533" in capsys.readouterr().out  # AFF, r = 4 (paper_spec 3.2)


@pytest.mark.long
def test_it_learns(tmp_path, monkeypatch):
    """From nothing to signs told from the shapes around them, in under a minute."""
    monkeypatch.chdir(tmp_path)
    write_stop_signs("signs", 48, 12)
    settings = SegmentationSettings(
        data_dir="signs", stem="tiny", base_size=64, crop_size=48, batch_size=4, num_epochs=10, num_workers=0, gpus="",
        seed=1, lr=0.05, save_dir="",
    )  # fmt: skip
    run = train_segmentation(settings)
    (logged,) = read_log(run.log)
    assert logged.epochs["val_iou"][-1] > 0.6
    assert logged.epochs["loss"][-1] < logged.epochs["loss"][0] - 0.2


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_it_finds_nine_tenths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_stop_signs("signs")
    settings = SegmentationSettings(
        data_dir="signs",
        stem="tiny",
        base_size=128,
        crop_size=96,
        batch_size=8,
        num_epochs=15,
        lr=0.05,
        gpus="",
        seed=1,
    )
    run = train_segmentation(settings)
    assert run.best_iou > 0.9
    assert run.best_niou > 0.88
