"""Whole runs on sample data: what they write, that they can be repeated, how they stop."""

import re
import socket
from dataclasses import asdict, replace

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from shared_by_tests.fakes import Worker

from gluon_aff.data.cifar.batches import validation_batches
from gluon_aff.data.cifar.files import load_cifar
from gluon_aff.engines import Devices
from gluon_aff.errors import GluonAFFError, InputError, ParamsFileError, TrainingError
from gluon_aff.gluon.network import GluonNetwork
from gluon_aff.gluon.networks.zoo import build
from gluon_aff.gluon.parameters import load_parameters
from gluon_aff.settings.cifar import CIFARSettings, resolve
from gluon_aff.training.architectures import cifar_architecture
from gluon_aff.training.cifar import train_cifar
from gluon_aff.training.logbook import draw_curve
from gluon_aff.training.scores import top1_accuracy
from gluon_aff.training.setup import Setup
from gluon_aff.weights.description import describe
from gluon_aff.weights.params_format import read_params_file

NAME = "cifar100-ASKCFuse-resnet-8-c-1-s-1"


@pytest.fixture
def settings(few_shapes, tmp_path, monkeypatch):
    """A run of seconds; its files go under the working directory, a fresh one."""
    monkeypatch.chdir(tmp_path)
    return CIFARSettings(
        askc_type="ASKCFuse",
        channel_times=1,
        batch_size=20,
        num_epochs=2,
        num_workers=0,
        lr=0.05,
        auto_aug=True,
        mixup=True,
        mixup_off_epoch=1,
        label_smoothing=True,
        data_dir=few_shapes,
        seed=3,
    )


def log_lines(run):
    with open(run.log) as file:
        return file.read().splitlines()


def test_files_log_lines_and_curve_are_the_originals(settings, tmp_path):
    run = train_cifar(settings)
    best = f"{run.best_accuracy:.4f}"
    best_log = f"cifar100_{socket.gethostname()}_GPU_0,1,2,3_best_Acc.log"
    assert run.params == f"params/{best}-{NAME}-best.params"
    assert run.log == f"logs/train_{NAME}.log"
    assert {p.name for p in tmp_path.iterdir()} == {"params", "logs", f"{NAME}_history.png", best_log}
    assert (tmp_path / best_log).read_text() == f"best Acc: {best}\n"
    header, versions, *epochs = log_lines(run)
    assert header == "INFO:root:Namespace({})".format(
        ", ".join(f"{k}={v!r}" for k, v in sorted(asdict(settings).items()))
    )
    assert "20 label values under a 100-way head" in versions
    number = r"\d+\.\d{6}"
    pattern = rf"INFO:root:\[Epoch (\d)\] train={number} val={number} loss={number} lr: {number} time: {number}"
    assert [re.fullmatch(pattern, line)[1] for line in epochs] == ["0", "1"]
    with Image.open(run.curve) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ((31, 119, 180), (255, 127, 14)):  # matplotlib's first two, of a line each
        assert (pixels == colour).all(axis=1).any()


def test_a_curve_is_drawn_between_errors_of_0_and_1(tmp_path):
    """In Matplotlib's figure of 640 x 480 pixels the axes reach from 0.11 to 0.88 of the height."""
    draw_curve([(0.5, 0.25)] * 3, str(tmp_path / "curve.png"))
    with Image.open(tmp_path / "curve.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for colour, error in (((31, 119, 180), 0.5), ((255, 127, 14), 0.25)):
        drawn = (pixels == colour).all(axis=2)
        (rows,) = np.nonzero(drawn[:, 300])  # left of the legend
        assert 480 - rows.mean() == pytest.approx(480 * (0.11 + 0.77 * error), abs=2)
        assert drawn[:120, 400:].any()  # in the legend
    below_the_axes = pixels[480 - round(0.11 * 480) + 2, 80:, 0]
    assert (below_the_axes < 128).sum() == 3  # ticks, at the epochs 0, 1 and 2


def test_the_card_says_what_the_weights_are_of(settings):
    run = train_cifar(replace(settings, num_epochs=1))
    with open(run.log) as file:
        versions = file.read().splitlines()[1]
    architecture, card = describe(read_params_file(run.params))
    assert architecture.host == "cifar_resnet"
    assert architecture.settings == cifar_architecture(resolve(settings)).settings
    assert (card.network, card.dataset, card.labels, card.outputs) == (NAME, "cifar100", "superclass", 100)
    with open(f"{settings.data_dir}/coarse_label_names.txt") as file:
        shapes = file.read().split()
    assert card.names == (*shapes, *(f"output {label}" for label in range(20, 100)))
    assert (card.engine, f"INFO:root:{card.versions}") == (f"MXNet {mx.__version__}", versions)


def test_the_card_goes_with_a_file_that_is_superseded(settings, tmp_path, monkeypatch):
    scores = iter([0.1, 0.3, 0.2, 0.4])
    monkeypatch.setattr("gluon_aff.training.cifar.top1_accuracy", lambda *arguments: next(scores))
    kept = train_cifar(replace(settings, num_epochs=4, keep_one_best=True, checkpoint_every=0))
    assert kept.params == f"params/0.4000-{NAME}-best.params"
    names = sorted(path.name for path in (tmp_path / "params").iterdir())
    assert names == [f"0.4000-{NAME}-best.json", f"0.4000-{NAME}-best.params"]
    assert describe(read_params_file(kept.params))[1].engine


def test_best_weights_give_the_best_accuracy_to_the_digit(settings):
    run = train_cifar(settings)
    net = build(cifar_architecture(resolve(settings)))
    load_parameters(net, run.params)
    data = load_cifar("cifar100", False, data_dir=settings.data_dir)
    network = GluonNetwork(net, [mx.cpu()])
    accuracy = top1_accuracy(network, validation_batches(data, 7), Worker())
    assert accuracy == pytest.approx(run.best_accuracy, abs=1e-12)


def without_times(lines):
    return [re.sub(r" time: .*", "", line) for line in lines if "[Epoch" in line]


def test_same_seed_same_bits_for_any_number_of_workers(settings):
    """Over several epochs: validating with the network that trains changed the rounding of later updates."""
    settings = replace(settings, batch_size=5, num_epochs=3)
    runs, weights = [], []
    for number, workers in enumerate((0, 2)):
        run = train_cifar(replace(settings, num_workers=workers, save_dir=f"p{number}", logging_dir=f"l{number}"))
        runs.append(without_times(log_lines(run)))
        weights.append(dict(read_params_file(run.params).arrays))
    assert runs[0] == runs[1]
    for name, array in weights[0].items():
        np.testing.assert_array_equal(weights[1][name], array)


def test_a_second_run_appends_to_the_log(settings):
    train_cifar(replace(settings, num_epochs=1))
    run = train_cifar(replace(settings, num_epochs=1))
    assert sum("Namespace(" in line for line in log_lines(run)) == 2
    assert "" not in log_lines(run)


def test_a_run_of_no_epochs_without_a_log(settings, tmp_path):
    """As in the original: --num-epochs 0 --logging-dir '' --resume-from ''."""
    run = train_cifar(replace(settings, num_epochs=0, logging_dir="", resume_from="", mode="symbolic", save_dir=""))
    (only,) = tmp_path.iterdir()
    assert only.read_text() == "best Acc: 0.0000\n"
    assert (run.best_accuracy, run.params, run.log, run.curve) == (0, None, None, None)


def test_what_is_kept_names_no_log_where_there_is_none(settings, tmp_path):
    with pytest.raises(TrainingError, match=r"Kept: params/[^ ]*$|Kept: no weights yet$"):
        train_cifar(replace(settings, lr=1e20, logging_dir=""))
    assert not (tmp_path / "logs").exists()


def test_a_first_releases_model_says_so_at_the_start(settings, monkeypatch):
    def announce(setup, learner, workers, facts, warnings):
        raise AssertionError(*warnings)

    monkeypatch.setattr(Setup, "learner", lambda *arguments: None)
    monkeypatch.setattr(Setup, "announce", announce)
    with pytest.raises(AssertionError, match="--model resnext29_32x4d is a name of the first release"):
        train_cifar(replace(settings, model="resnext29_32x4d"))


def test_a_listed_network_shares_no_batch_statistics(settings, tmp_path):
    listed = replace(settings, model="afi_resnet32_cifar100", askc_type=None, channel_times=4, sync_bn=True)
    with pytest.raises(InputError, match="--sync-bn works only with networks assembled from flags"):
        train_cifar(listed, Devices(numbers=(0, 1)))
    assert list(tmp_path.iterdir()) == []


def test_labels_beyond_the_head_are_refused_before_anything_is_written(settings, tmp_path):
    with pytest.raises(InputError, match=r"--classes 10 is too small for labels 0\.\.19"):
        train_cifar(replace(settings, classes=10))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(settings, tmp_path):
    with pytest.raises(ParamsFileError, match="No such file"):
        train_cifar(replace(settings, resume_from="missing.params"))
    assert list(tmp_path.iterdir()) == []
    first = train_cifar(replace(settings, num_epochs=1))
    with pytest.raises(ParamsFileError, match=r"does not fit CIFARAFFResNet: .*missing.*another shape"):
        train_cifar(replace(settings, resume_from=first.params, askc_type="iAFF", classes=50))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_files(settings, tmp_path):
    with pytest.raises(TrainingError, match=r"epoch \d, step \d.*Kept: .*train_cifar100"):
        train_cifar(replace(settings, lr=1e30, num_epochs=5))
    assert not list(tmp_path.rglob("*.partial"))


def test_weights_spoilt_by_the_last_step_are_not_saved(settings, tmp_path):
    """One step an epoch: its loss is from before the update."""
    with pytest.raises(TrainingError, match="weights are not finite after epoch 0, step 0"):
        train_cifar(replace(settings, lr=1e30, wd=1e30, batch_size=100))
    assert not list(tmp_path.glob("params/*.params"))


def test_a_curve_that_cannot_be_written_is_one_line(settings, tmp_path):
    (tmp_path / f"{NAME}_history.png").mkdir()
    with pytest.raises(GluonAFFError, match=r"history\.png cannot be written") as error:
        train_cifar(settings)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("flag", ["save_dir", "logging_dir", "save_plot_dir"])
def test_a_directory_that_cannot_be_made(settings, flag, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"--{flag.replace('_', '-')} file/inside: .*file cannot be written to"):
        train_cifar(replace(settings, **{flag: "file/inside"}))


def test_two_devices_run(settings):
    run = train_cifar(replace(settings, num_epochs=1), Devices("cpu", (0, 1)))
    assert "devices cpu(0),cpu(1), 40 images per step, other data" in log_lines(run)[1]


def test_more_images_per_step_than_there_are(settings, tmp_path):
    with pytest.raises(InputError, match="fewer than one batch of 200"):
        train_cifar(replace(settings, batch_size=200))
    assert list(tmp_path.iterdir()) == []
