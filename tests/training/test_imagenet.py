"""ImageNet runs on a small set of pictures: files, log, resuming, what is refused."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.documented_commands import DOCUMENTED_IMAGENET

from gluon_aff.cli import main
from gluon_aff.data.imagenet.record_writing import write_records
from gluon_aff.data.samples.pictures import write_pictures
from gluon_aff.errors import DataError, GluonAFFError, InputError
from gluon_aff.evaluation.evaluate import Evaluation
from gluon_aff.gluon.networks import resnet
from gluon_aff.gluon.networks.zoo import build
from gluon_aff.results.compare import nearest_runs
from gluon_aff.results.logs import read_log
from gluon_aff.settings import imagenet as imagenet_settings
from gluon_aff.settings.imagenet import ImageNetSettings, resolve
from gluon_aff.training import imagenet
from gluon_aff.training.architectures import imagenet_architecture
from gluon_aff.training.imagenet import train_imagenet
from gluon_aff.weights.description import describe
from gluon_aff.weights.params_format import read_params_file

ROOT = Path(__file__).parents[2]
NAME = "ImageNet-ASKCFuse-resnet--50-s-3"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Class folders and record files of 48 training and 16 validation pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(str(folder), train_images=48, val_images=16)
    for part in ("train", "val"):
        write_records(str(folder / part), str(folder / part), num_workers=0)
    return folder


@pytest.fixture
def settings(pictures, tmp_path, monkeypatch):
    """Of a run on the records: one block per stage, 16 channels in each, 8 classes, 32 x 32 pixels."""
    monkeypatch.setattr(imagenet_settings, "BLOCKS", {50: (1, 1, 1, 1)})
    monkeypatch.setattr(resnet, "WIDTHS", (16, 16, 16, 16))
    return ImageNetSettings(
        model="resnet",
        use_rec=True,
        **{f"rec_{part}": str(pictures / f"{part}.rec") for part in ("train", "val")},
        **{f"rec_{part}_idx": str(pictures / f"{part}.idx") for part in ("train", "val")},
        mixup=True,
        mixup_off_epoch=1,
        label_smoothing=True,
        no_wd=True,
        last_gamma=True,
        batch_size=8,
        num_workers=0,
        num_epochs=2,
        warmup_epochs=1,
        input_size=32,
        classes=8,
        seed=1,
        log_interval=2,
        save_frequency=1,
        save_dir=str(tmp_path / "params"),
        logging_file=str(tmp_path / "train.log"),
    )


def test_files_and_log(settings, tmp_path):
    run = train_imagenet(settings)
    best = f"{run.best_error:.4f}-imagenet-{NAME}-"
    names = {path.name for path in (tmp_path / "params").iterdir()}
    assert {f"imagenet-{NAME}-{epoch}.{kind}" for epoch in (0, 1) for kind in ("params", "states")} <= names
    assert any(name.startswith(best) and name.endswith("-best.states") for name in names)
    lines = (tmp_path / "train.log").read_text().splitlines()
    (logged,) = read_log(run.log)
    assert (logged.settings_line, logged.lines) == (1, (3, len(lines)))
    assert logged.finished == 2
    assert logged.batch_lines == 6  # 48 / 8 steps an epoch, a line every two
    assert len(lines) == 2 + logged.batch_lines + 3 * logged.finished  # nothing left over
    assert 1 - run.best_error == pytest.approx(1 - logged.epochs["err_top1"].min(), abs=5e-7)
    assert logged.header["label_values"] == "8"
    nearest, differing = nearest_runs(logged)[0]
    assert nearest.name == "aff_resnet50"
    assert {d.setting for d in differing} >= {"epochs", "images per step", "outputs", "data"}


def test_weights_that_cannot_be_written_leave_no_states(settings, tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gluon_aff.weights.card_file.sha256", full)
    with pytest.raises(GluonAFFError, match=r"\.states, .*\.json, .*\.params cannot be written \(.*No space left"):
        train_imagenet(settings)
    assert [path.name for path in (tmp_path / "params").iterdir() if path.suffix == ".states"] == []


def test_learning_rates_in_closed_form(settings):
    """Linear over the warm-up, then a half cosine; GluonCV's parts have one step less each. 6 steps an epoch."""
    (logged,) = read_log(train_imagenet(replace(settings, num_epochs=3, log_interval=1)).log)
    rates = [
        float(line.split("lr=")[1])
        for line in Path(settings.logging_file).read_text().splitlines()
        if "lr=" in line and "Batch" in line
    ]
    ramp = [0.075 * step / 5 for step in range(1, 6)]
    fall = [0.0375 * (1 + np.cos(np.pi * step / 11)) for step in range(12)]
    assert rates == pytest.approx([*ramp, *fall, 0.0], abs=1e-6)
    assert logged.epochs["lr"] == pytest.approx([rates[5], rates[11], rates[17]])


def test_resuming_gives_the_run_that_would_have_been(settings, tmp_path):
    whole = replace(settings, num_epochs=2, log_interval=1)
    train_imagenet(whole)
    stem = f"{settings.save_dir}/imagenet-{NAME}-"
    expected = {name: np.array(array) for name, array in read_params_file(f"{stem}1.params").arrays.items()}
    rates = read_log(whole.logging_file)[0].epochs["lr"]
    resumed = replace(
        whole,
        resume_epoch=1,
        resume_params=f"{stem}0.params",
        resume_states=f"{stem}0.states",
        save_dir=str(tmp_path / "again"),
        logging_file=str(tmp_path / "again.log"),
    )
    with mx.name.NameManager() as names:  # as where a process has built other networks: "9" goes behind "10" in order
        for hint in 8 * ["conv", "batchnorm", "bottleneck"]:
            names.get(None, hint)
        run = train_imagenet(resumed)
    (logged,) = read_log(run.log)
    assert logged.epochs["epoch"].tolist() == [1]
    np.testing.assert_array_equal(logged.epochs["lr"], rates[1:])
    for name, array in read_params_file(f"{tmp_path}/again/imagenet-{NAME}-1.params").arrays.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    without_states = replace(resumed, resume_states="", logging_file=str(tmp_path / "third.log"))
    (logged,) = read_log(train_imagenet(without_states).log)
    np.testing.assert_array_equal(logged.epochs["lr"], rates[1:])  # the original began the warm-up again


def test_the_card_says_what_the_weights_are_of(settings, pictures):
    run = train_imagenet(replace(settings, num_epochs=1))
    for path in (run.params, f"{settings.save_dir}/imagenet-{NAME}-0.params"):
        architecture, card = describe(read_params_file(path))
        assert (architecture.host, architecture.settings["layers"]) == ("imagenet_resnet", [1, 1, 1, 1])
        assert (card.network, card.dataset, card.outputs, card.input_size) == (NAME, "imagenet", 8, 32)
        assert card.names == tuple(sorted(each.name for each in (pictures / "train").iterdir()))
        assert not card.for_cifar


def best_files(folder):
    return sorted(path.name for path in folder.glob("*-best.params"))


def test_a_resumed_run_remembers_the_best_of_its_earlier_epochs(settings, tmp_path, capsys):
    (tmp_path / "params").mkdir()
    of_earlier, of_later = (f"{error}-imagenet-{NAME}-{epoch}-best.params" for error, epoch in ((0.1, 0), (0.01, 1)))
    earlier = of_earlier.replace("0.1-", "0.1000-")
    later = of_later.replace("0.01-", "0.0100-")
    for name in (earlier, later):
        (tmp_path / "params" / name).write_bytes(b"")
    run = train_imagenet(replace(settings, resume_epoch=1, keep_one_best=True))
    assert run.best_error == 0.1
    assert os.path.basename(run.params) == earlier
    assert best_files(tmp_path / "params") == sorted([earlier, later])
    assert "best so far: 0.1 in " in capsys.readouterr().err


def test_keep_one_best_removes_its_own_only(settings, tmp_path, monkeypatch):
    other = f"0.9990-imagenet-{NAME}-0-best.params"  # without states, as after a full disk
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / other).write_bytes(b"")
    errors = iter([0.5, 0.4, 0.3])
    figures = Evaluation(10, 0.0, 1.0, 0.0, [], 1.0)
    monkeypatch.setattr(imagenet, "evaluate", lambda *arguments: replace(figures, top1=1 - next(errors)))
    train_imagenet(replace(settings, num_epochs=3, keep_one_best=True))
    assert best_files(tmp_path / "params") == [f"0.3000-imagenet-{NAME}-2-best.params", other]
    best = {path.name for path in (tmp_path / "params").glob(f"0.*-imagenet-{NAME}-*-best.*")}
    assert best == {other, *(f"0.3000-imagenet-{NAME}-2-best.{kind}" for kind in ("json", "params", "states"))}


def test_the_schedule_goes_with_the_epochs_whatever_the_states_say(settings):
    """States of 6 updates; with another batch size, epoch 1 of 3 begins at update 3. The log has an epoch's last rate:

    that after the warm-up, then of a half cosine over six steps, of which GluonCV's part has one less.
    """
    train_imagenet(replace(settings, num_epochs=1))
    stem = f"{settings.save_dir}/imagenet-{NAME}-0"
    rates = [0.075, 0.0375 * (1 + np.cos(np.pi * 3 / 5)), 0]
    whole = replace(settings, batch_size=16, num_epochs=3, log_interval=1)
    for start in (0, 1):
        log = f"{settings.save_dir}/{start}.log"
        resumed = replace(whole, resume_epoch=start, resume_states=f"{stem}.states", logging_file=log)
        (logged,) = read_log(train_imagenet(resumed).log)
        assert logged.epochs["lr"] == pytest.approx(rates[start:], abs=1e-6)


def test_a_damaged_validation_picture_costs_no_epoch(settings, pictures, tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    next((folder / "val").rglob("*.jpg")).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"\.jpg"):
        train_imagenet(replace(settings, use_rec=False, data_dir=str(folder)))
    assert (tmp_path / "params" / f"imagenet-{NAME}-0.states").is_file()
    assert (tmp_path / "params" / f"imagenet-{NAME}-0.params").is_file()
    assert "[Epoch 0] training:" in (tmp_path / "train.log").read_text()


def test_train_and_val_of_different_classes_are_refused(settings, pictures, tmp_path):
    """Labels are the folders' order: every class behind the missing one would be another."""
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    shutil.rmtree(folder / "val" / "chequers")
    with pytest.raises(InputError, match=r"different classes \(chequers\)"):
        train_imagenet(replace(settings, use_rec=False, data_dir=str(folder)))
    assert not (tmp_path / "train.log").exists()


def test_records_without_a_class_of_the_training_sets_are_refused_or_doubted(settings, pictures, tmp_path, capsys):
    folder = tmp_path / "pictures"
    shutil.copytree(pictures / "val", folder / "val")
    shutil.rmtree(folder / "val" / "chequers")
    write_records(str(folder / "val"), str(folder / "val"), num_workers=0)
    files = {"rec_val": str(folder / "val.rec"), "rec_val_idx": str(folder / "val.idx")}
    with pytest.raises(DataError, match=r"different classes \(chequers\).*make-records"):
        train_imagenet(replace(settings, **files))
    assert not (tmp_path / "train.log").exists()
    for ending in ("classes", "lst"):
        (folder / f"val.{ending}").unlink()
    train_imagenet(replace(settings, **files, num_epochs=1, warmup_epochs=0))
    assert "attention: the training labels go up to 7 and the validation labels only to 6" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_stops_the_run(settings):
    with pytest.raises(GluonAFFError, match=r"/dev/full cannot be written \(.*No space left"):
        train_imagenet(replace(settings, logging_file="/dev/full"))


def test_a_teacher_that_cannot_teach_is_refused(settings, tmp_path):
    teacher = build(imagenet_architecture(resolve(settings)))
    teacher.initialize()
    teacher(mx.nd.zeros((1, 3, 32, 32)))
    mx.nd.waitall()
    path = str(tmp_path / "teacher.params")
    teacher.save_parameters(path)
    taught = replace(settings, teacher="aff_resnet50", teacher_params=path, num_epochs=1)
    with pytest.raises(InputError, match="does not fit AFFResNet"):  # one block a stage is no aff_resnet50
        train_imagenet(taught)
    with pytest.raises(InputError, match="neither GluonCV nor this package"):
        train_imagenet(replace(taught, teacher="nix"))
    with pytest.raises(InputError, match="--teacher-params"):
        train_imagenet(replace(taught, teacher_params=None))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"rec_train": "gone.rec"}, DataError, "gone.rec"),
        ({"rec_val_idx": "gone.idx"}, DataError, "gone.idx"),
        ({"use_rec": False, "data_dir": "gone"}, DataError, "gone"),
        ({"batch_size": 100}, DataError, "fewer than one batch"),
        ({"classes": 7}, InputError, "classes"),
        ({"strict_devices": True}, InputError, "--strict-devices"),
        ({"resume_params": "gone.params"}, InputError, "gone.params: No such file"),
        ({"resume_states": "gone.states"}, InputError, "gone.states"),
        ({"input_size": 1}, InputError, "--input-size 1 is too small"),
        ({"teacher": "yolo3_darknet53_voc", "teacher_params": "x.params"}, InputError, "--teacher yolo3_darknet53_voc"),
    ],
)
def test_what_cannot_run_leaves_nothing(changed, error, message, settings, tmp_path):
    with pytest.raises(error, match=message):
        train_imagenet(replace(settings, **changed))
    assert list(tmp_path.iterdir()) == []


def test_summary_needs_no_data(capsys):
    assert main(["train-imagenet", "--model", "resnext", "--summary"]) == 0
    assert "trainable parameters: 29,953,704" in capsys.readouterr().out


def test_layers_of_152():
    blocks = {exact: resolve(ImageNetSettings(num_layer=152, exact_layers=exact)).blocks for exact in (False, True)}
    assert blocks == {False: (3, 4, 36, 3), True: (3, 8, 36, 3)}


def run_command(arguments, cwd):
    command = [sys.executable, str(ROOT / "train_imagenet.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280)


def short(pictures):
    return [
        *("--rec-train", str(pictures / "train.rec"), "--rec-train-idx", str(pictures / "train.idx")),
        *("--rec-val", str(pictures / "val.rec"), "--rec-val-idx", str(pictures / "val.idx")),
        *("--input-size", "32", "--batch-size", "16", "--num-epochs", "2", "--save-dir", "params", "--seed", "0"),
    ]


def assert_trained(which, said, folder):
    """Its log is whole, and its last weights are there; the best ones only if an error is below 1."""
    arguments, (name, *_) = DOCUMENTED_IMAGENET[which]
    log = arguments.split("--logging-file ")[1].split()[0]
    (logged,) = read_log(str(folder / log))
    assert logged.finished == 2
    for kind in ("params", "states"):
        assert (folder / "params" / f"imagenet-{name}-1.{kind}").is_file()
    assert "this run is in float32" in said


@pytest.mark.long
@pytest.mark.parametrize("which", DOCUMENTED_IMAGENET)
def test_all_documented_commands_train(which, pictures, tmp_path):
    result = run_command([*DOCUMENTED_IMAGENET[which][0].split(), *short(pictures)], tmp_path)
    assert result.returncode == 0, result.stderr
    assert_trained(which, result.stderr, tmp_path)


def test_bfloat16(pictures, tmp_path):
    """In a process of its own: MXNet's mixed precision cannot be turned off again."""
    few = ["--dtype", "bfloat16", "--use-rec", "--classes", "8", "--num-gpus", "0", "--num-layer", "18", "-j", "0"]
    result = run_command([*few, *short(pictures), "--num-epochs", "1"], tmp_path)
    assert result.returncode == 0, result.stderr
    (logged,) = read_log(str(tmp_path / "train_imagenet.log"))
    assert logged.finished == 1
    assert logged.settings["dtype"] == "bfloat16"
    (weights,) = (tmp_path / "params").glob("imagenet-*-0.params")
    assert {array.dtype for array in read_params_file(str(weights)).arrays.values()} == {np.dtype("float32")}
    assert os.path.exists(str(weights).replace(".params", ".states"))


def test_float16_files_have_the_types_of_the_published_ones(settings, tmp_path):
    """params_index.json: convolution and dense float16, batch norm float32."""
    net = build(imagenet_architecture(resolve(settings)))
    net.cast("float16")
    net.initialize()
    path = str(tmp_path / "net.params")
    for parameter in net.collect_params().values():
        parameter.shape = tuple(size or 3 for size in parameter.shape)
        parameter._finish_deferred_init()
    net.save_parameters(path)
    for name, array in read_params_file(path).arrays.items():
        normalisation = name.rsplit(".", 1)[1] in ("gamma", "beta", "running_mean", "running_var")
        assert array.dtype == ("float32" if normalisation else "float16"), name
