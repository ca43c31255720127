"""Checkpoints: what is in them comes back to the bit, and what is wrong with one is said in a line."""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from shared_by_tests.fakes import FakeLearner, Worker
from shared_by_tests.limits import full_disk
from shared_by_tests.stopping import stop_at

from gluon_aff.cli import main
from gluon_aff.data.imagenet.record_writing import write_records
from gluon_aff.data.samples.pictures import write_pictures
from gluon_aff.engines import Devices
from gluon_aff.errors import GluonAFFError, InputError, Stopped
from gluon_aff.gluon.networks import resnet
from gluon_aff.results.logs import read_log
from gluon_aff.settings import imagenet as imagenet_settings
from gluon_aff.settings.cifar import CIFARSettings, resolve
from gluon_aff.settings.imagenet import ImageNetSettings
from gluon_aff.training import cifar, imagenet
from gluon_aff.training import run as training_run
from gluon_aff.training.checkpoint import (
    RunFacts,
    RunState,
    check_seen_by_all,
    clear,
    locked,
    newest_checkpoint,
    read_checkpoint,
    restore,
    same_run,
    save_checkpoint,
)
from gluon_aff.training.cifar import train_cifar
from gluon_aff.training.epoch import EpochProgress
from gluon_aff.training.imagenet import train_imagenet
from gluon_aff.training.logbook import open_log
from gluon_aff.weights.params_format import read_params_file

ROOT = Path(__file__).parents[2]
NAME = "cifar100-ASKCFuse-resnet-8-c-1-s-1"
FOLDER = f"params/{NAME}.checkpoint"
CPUS = {1: Devices(), 2: Devices("cpu", (0, 1))}


@pytest.fixture
def settings(few_shapes, tmp_path, monkeypatch):
    """A run of seconds, five steps an epoch; its files go under the working directory, a fresh one."""
    monkeypatch.chdir(tmp_path)
    return CIFARSettings(
        channel_times=1,
        batch_size=20,
        num_epochs=3,
        num_workers=0,
        lr=0.05,
        mixup=True,
        mixup_off_epoch=1,
        label_smoothing=True,
        cosine=True,
        warmup_epochs=1,
        data_dir=few_shapes,
        seed=3,
        resume="auto",
    )


def begun(learner, seeds):
    """The learner after a step for each of the seeds."""
    for seed in seeds:
        dice = np.random.default_rng(seed)
        learner.step(dice.normal(size=(8, 3)), dice.normal(size=8), 1.0, False)
    return learner


def saved(folder, devices, state, learner=None, log=b""):
    os.makedirs(folder, exist_ok=True)
    facts = RunFacts({"num_epochs": 9, "lr": 0.1}, devices, 17, ({"from": "the start", "versions": "x"},))
    return save_checkpoint(str(folder), state, facts, learner or begun(FakeLearner(devices), range(1)), log)


@pytest.mark.parametrize("devices", [1, 2])
def test_what_was_saved_comes_back_and_goes_on_to_the_bit(devices, tmp_path):
    learner = begun(FakeLearner(devices), range(3))
    state = RunState(2, 0.1, "best.params", EpochProgress(7, 0.1 + 0.2, 1 / 3, 4.5), ((0.1, 0.2), (0.3, 1 / 7)))
    path = saved(tmp_path, devices, state, learner, b"Namespace(a=1)\n")
    assert os.path.basename(path) == "epoch-2-step-7"
    found = read_checkpoint(str(tmp_path))
    assert (found.path, found.state, found.updates, found.log()) == (path, state, 3, b"Namespace(a=1)\n")
    assert found.facts.settings == {"num_epochs": 9, "lr": 0.1}
    assert found.facts.log_start == 17
    other = FakeLearner(devices)
    other.statistics = {name: array + 5 for name, array in other.statistics.items()}
    restore(found, other)
    assert other.restored_from == os.path.join(path, "parameters.params")
    if devices > 1:
        assert_same_arrays(other.statistics, learner.statistics)
    for each in (learner, other):
        begun(each, range(3, 6))
    np.testing.assert_array_equal(other.weights, learner.weights)
    np.testing.assert_array_equal(other.momentum, learner.momentum)
    assert other.updates == 6


def test_only_the_newest_stays_and_the_place_decides_not_the_clock(tmp_path):
    (tmp_path / "epoch-9-step-5.partial").mkdir()  # a killed run left it
    for epoch, steps in ((0, 0), (9, 5), (10, 0), (10, 2)):
        path = saved(tmp_path, 1, RunState(epoch, 0.0, begun=EpochProgress(steps)))
        assert newest_checkpoint(str(tmp_path)) == path
        assert {p.name for p in tmp_path.iterdir()} - {"epoch-9-step-5.partial"} == {os.path.basename(path)}
    shutil.copytree(path, tmp_path / "epoch-2")  # newer by the clock
    assert newest_checkpoint(str(tmp_path)) == path


def test_one_that_is_there_stays_as_it_is(tmp_path):
    path = saved(tmp_path, 1, RunState(2, 0.5), log=b"first")
    assert saved(tmp_path, 1, RunState(2, 0.5), log=b"second") == path
    assert read_checkpoint(path).log() == b"first"


def test_a_damaged_one_is_put_aside(tmp_path):
    folder = str(tmp_path / "x.checkpoint")
    Path(saved(folder, 1, RunState(9, 0.5)), "checkpoint.json").write_text("{}")
    assert clear(folder) == f"{folder}.1"
    assert os.listdir(f"{folder}.1") == ["epoch-9"]


def test_an_older_one_that_cannot_be_removed_is_no_reason_to_stop(tmp_path):
    (tmp_path / "epoch-1").write_text("no folder")
    path = saved(tmp_path, 1, RunState(2, 0.5))
    assert read_checkpoint(str(tmp_path)).path == path


def test_the_last_one_is_named_where_the_next_cannot_be_written(tmp_path, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device")

    last = saved(tmp_path, 1, RunState(1, 0.5))
    monkeypatch.setattr(os, "rename", full)
    reason = f"epoch-2 cannot be written .*No space left.*: {last} is intact, and --resume auto continues from it"
    with pytest.raises(GluonAFFError, match=reason):
        saved(tmp_path, 1, RunState(2, 0.5))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-1"]


def test_all_of_it_is_on_the_disk_before_it_has_its_name_and_before_the_last_one_goes(tmp_path, monkeypatch):
    """Else a machine that loses its power has a checkpoint with empty files, or none."""
    saved(tmp_path, 2, RunState(1, 0.5))
    done, fsync, rename, rmtree = [], os.fsync, os.rename, shutil.rmtree

    def flushed(descriptor):
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def renamed(source, target):
        done.append(f"{Path(source).name} to {Path(target).name}")
        rename(source, target)

    def removed(path, **named):
        done.extend([f"without {Path(path).name}"] if os.path.exists(path) else [])
        rmtree(path, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", flushed)
        patched.setattr(os, "rename", renamed)
        patched.setattr(shutil, "rmtree", removed)
        open_before = os.listdir("/proc/self/fd")
        path = Path(saved(tmp_path, 2, RunState(2, 0.5)))
        assert os.listdir("/proc/self/fd") == open_before
    files = {each.name for each in path.iterdir()}
    assert set(done[: len(files)]) == files
    assert done[len(files) :] == ["epoch-2.partial", "epoch-2.partial to epoch-2", tmp_path.name, "without epoch-1"]


def test_nothing_in_it_is_a_pickle(tmp_path):
    path = Path(saved(tmp_path, 2, RunState(1, 0.0)))
    assert {p.name for p in path.iterdir()} == {
        "parameters.params",
        "devices.params",
        "optimizer.params",
        "log.txt",
        "checkpoint.json",
    }
    for name in path.glob("*.params"):
        read_params_file(str(name))
    json.loads((path / "checkpoint.json").read_text())


def test_no_damage_passes(tmp_path):
    """Bytes flipped, cut off or appended anywhere, files missing, other types in the JSON: an InputError each."""
    path = Path(saved(tmp_path, 2, RunState(1, 0.5), log=b"Namespace(a=1)\n[Epoch 0]\n"))
    dice, refused = random.Random(0), 0
    for file in sorted(path.iterdir()):
        whole = file.read_bytes()
        for _ in range(60):
            place = dice.randrange(len(whole))
            flipped = whole[:place] + bytes([whole[place] ^ 1 << dice.randrange(8)]) + whole[place + 1 :]
            for damaged in (flipped, whole[:place], whole + b"x"):
                if file.suffix == ".json" and same_json(damaged, whole):
                    continue
                file.write_bytes(damaged)
                with pytest.raises(InputError, match="epoch-1"):
                    read_checkpoint(str(tmp_path))
                refused += 1
        file.unlink()
        with pytest.raises(InputError, match=r"epoch-1|no checkpoint"):
            read_checkpoint(str(path))
        file.write_bytes(whole)
    read_checkpoint(str(tmp_path))
    assert refused > 800


def same_json(one, two):
    try:
        return json.loads(one) == json.loads(two)
    except ValueError:
        return False


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 2}', '"x"', "[" * 100_000, '{"format": 1, "own_sha256": 3}'])
def test_a_strange_json_is_refused(text, tmp_path):
    path = saved(tmp_path, 1, RunState(1, 0.5))
    Path(path, "checkpoint.json").write_text(text)
    with pytest.raises(InputError, match="epoch-1"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("state", "epoch", None),
        ("state", "best", "0.5"),
        ("state", "params", 3),
        ("begun", "steps", 1.5),
        ("facts", "log_start", [0]),
        ("settings", "num_epochs", "9"),
        ("session", "engine", {}),
        ("session", "versions", None),
    ],
)
def test_a_field_of_another_type_is_named_though_the_hash_is_right(part, field, value, tmp_path):
    path = Path(saved(tmp_path, 1, RunState(1, 0.5)), "checkpoint.json")
    content = json.loads(path.read_text())
    state, facts = content["state"], content["facts"]
    parts = {"state": state, "begun": state["begun"], "facts": facts, "settings": facts["settings"]}
    {**parts, "session": facts["sessions"][0]}[part][field] = value
    del content["own_sha256"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "own_sha256": digest}))
    with pytest.raises(InputError, match=rf"epoch-1 is damaged \({field} is {re.escape(repr(value))}\): get it again"):
        read_checkpoint(str(tmp_path))


class Second(Worker):
    """The second of two workers, which hears what the first one has."""

    rank = 1

    def broadcast(self, array):
        return np.array(self.others)


def test_workers_that_find_different_checkpoints_are_told_so(tmp_path):
    found = read_checkpoint(saved(tmp_path, 1, RunState(2, 0.5, begun=EpochProgress(3))))
    for own, own_place in ((None, [-1, -1]), (found, [2, 3])):
        for other in ([-1, -1], [2, 3], [2, 0], [1, 3]):
            if other == own_place:
                check_seen_by_all(own, Second(other))
            else:
                reason = f"--resume: worker 1 and worker 0 see different .*worker 1: {own.path if own else 'none'}"
                with pytest.raises(InputError, match=reason):
                    check_seen_by_all(own, Second(other))


def test_a_checkpoint_that_is_not_there(settings):
    with pytest.raises(InputError, match="--resume nowhere: no checkpoint is there"):
        train_cifar(replace(settings, resume="nowhere"))
    with pytest.raises(InputError, match="--resume auto finds no checkpoints without --save-dir"):
        train_cifar(replace(settings, save_dir=""))


def untimed(path):
    return re.sub(r" time: .*|speed: .*|time cost: .*|Speed: \S+", "", Path(path).read_text())


def last_arrays(folder):
    path = newest_checkpoint(str(folder))
    return {
        key: a
        for name in ("parameters", "optimizer")
        for key, a in read_params_file(f"{path}/{name}.params").arrays.items()
    }


def assert_same_arrays(one, two):
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name], err_msg=name)


@pytest.mark.parametrize(
    ("devices", "steps"), [(2, 7), *(pytest.param(*case, marks=pytest.mark.long) for case in ((1, 7), (1, 1), (2, 1)))]
)
def test_a_run_stopped_within_an_epoch_ends_as_if_it_had_not_been(devices, steps, settings, tmp_path, monkeypatch):
    settings = replace(settings, batch_size=20 // devices)
    whole = train_cifar(replace(settings, save_dir="whole", logging_dir="whole"), CPUS[devices])
    with monkeypatch.context() as patched:
        stop_at(patched, steps)
        with pytest.raises(Stopped, match=r"stopped by SIGTERM after epoch-\d-step-\d.*--resume auto") as stop:
            train_cifar(settings, CPUS[devices])
    assert stop.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    run = train_cifar(settings, CPUS[devices])
    assert run.best_accuracy == whole.best_accuracy
    assert untimed(run.log) == untimed(whole.log).replace("'whole'", "'params'", 0).replace(
        "logging_dir='whole'", "logging_dir='logs'"
    ).replace("save_dir='whole'", "save_dir='params'")
    assert_same_arrays(last_arrays(tmp_path / "whole" / f"{NAME}.checkpoint"), last_arrays(tmp_path / FOLDER))


def test_a_run_stopped_while_it_validates_does_not_train_the_epoch_again(settings, tmp_path, monkeypatch):
    def validation(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments)

    original = cifar.validation_batches
    with monkeypatch.context() as patched:
        patched.setattr(cifar, "validation_batches", validation)
        with pytest.raises(Stopped, match="epoch-0-step-5"):
            train_cifar(settings)
    with monkeypatch.context() as patched:
        stop_at(patched, 1)  # the first step from now on is epoch 1's
        with pytest.raises(Stopped, match="epoch-1-step-1"):
            train_cifar(settings)
    (logged,) = read_log(str(tmp_path / f"logs/train_{NAME}.log"))
    assert logged.epochs["epoch"].tolist() == [0]


def test_settings_that_differ_are_named(settings, monkeypatch):
    stop_at(monkeypatch, 2)
    with pytest.raises(Stopped):
        train_cifar(settings)
    with pytest.raises(
        InputError, match=r"of another run \(--lr is 0\.1 and was 0\.05; --cosine is False and was True\)"
    ):
        train_cifar(replace(settings, lr=0.1, cosine=False))
    with pytest.raises(InputError, match="--seed is 4 and was 3"):
        train_cifar(replace(settings, seed=4))
    with pytest.raises(InputError, match="there are 2 devices and were 1"):
        train_cifar(settings, CPUS[2])
    train_cifar(replace(settings, seed=None, num_workers=1, logging_dir="other", resume=FOLDER))


def test_a_drawn_seed_is_on_the_disk_before_the_first_step(settings, monkeypatch, tmp_path):
    """A run that is killed in its first epoch can still be the run that it began as."""

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("gluon_aff.training.run.train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        train_cifar(replace(settings, seed=None))
    kept = read_checkpoint(FOLDER)
    assert kept.state.position == "epoch-0"
    (log,) = (tmp_path / "logs").glob("train_*.log")
    assert f"seed={kept.facts.settings['seed']}," in log.read_text()


def test_a_run_goes_on_with_other_places_but_with_nothing_else_that_differs(settings, tmp_path):
    """What may differ: where files are, who does the work, and what is kept of it."""
    settings = resolve(settings)
    checkpoint = read_checkpoint(saved(tmp_path / "x", 1, RunState(1, 0.0)))
    may = set()
    for name in asdict(settings):
        facts = replace(checkpoint.facts, settings={**asdict(settings), name: "another"}, devices=1)
        with contextlib.suppress(InputError):
            same_run(replace(checkpoint, facts=facts), settings, 1, True)
            may.add(name)
    places = {"data_dir", "save_dir", "logging_dir", "save_plot_dir"}
    work = {"num_workers", "gpus", "kvstore", "engine", "summary", "resume"}
    assert may == {*places, *work, "keep_one_best", "save_period", "checkpoint_every", "tensorboard"}


def test_a_drawn_seed_is_the_checkpoints(settings, tmp_path):
    path = saved(tmp_path / "x", 1, RunState(1, 0.0))
    checkpoint = read_checkpoint(path)
    drawn = resolve(replace(settings, seed=None))
    facts = replace(checkpoint.facts, settings={**asdict(drawn), "seed": 99}, devices=1)
    assert same_run(replace(checkpoint, facts=facts), drawn, 1, False).seed == 99


def test_settings_that_an_earlier_version_had_not_are_their_defaults(settings, tmp_path):
    settings = resolve(settings)
    checkpoint = read_checkpoint(saved(tmp_path / "x", 1, RunState(1, 0.0)))
    earlier = {name: value for name, value in asdict(settings).items() if name != "optimizer"}
    checkpoint = replace(checkpoint, facts=replace(checkpoint.facts, settings=earlier, devices=1))
    assert same_run(checkpoint, settings, 1, True) == settings
    with pytest.raises(InputError, match="--optimizer is 'sgd' and was 'nag'"):
        same_run(checkpoint, replace(settings, optimizer="sgd"), 1, True)
    with pytest.raises(InputError, match="--auto_aug is True and was False"):  # not --auto-aug, which there is not
        same_run(checkpoint, replace(settings, auto_aug=True), 1, True)


def test_a_new_run_keeps_an_unfinished_ones_checkpoint(settings, tmp_path, monkeypatch, capsys):
    for _ in range(2):
        with monkeypatch.context() as patched:
            stop_at(patched, 7)
            with pytest.raises(Stopped):
                train_cifar(replace(settings, resume=None))
    aside = f"{FOLDER}.1"
    assert f"--resume {aside}" in capsys.readouterr().err
    assert read_checkpoint(aside).state.epoch == 1
    run = train_cifar(replace(settings, resume=aside))
    assert run.best_accuracy > 0
    assert read_checkpoint(FOLDER).finished
    assert read_checkpoint(f"{FOLDER}.2").state.epoch == 1  # the one that was at work there before
    assert clear(FOLDER) is None  # that of a finished run is not kept
    assert newest_checkpoint(FOLDER) is None


def test_all_that_a_kill_left_of_another_run_is_put_aside(tmp_path):
    """Between the rename of its first epoch's checkpoint and the removal of the one before, say."""
    folder = str(tmp_path / "x.checkpoint")
    for epoch in (0, 1):
        first = saved(tmp_path / "other", 1, RunState(epoch, 0.5))
        shutil.copytree(first, os.path.join(folder, os.path.basename(first)))
    assert clear(folder) == f"{folder}.1"
    assert sorted(os.listdir(f"{folder}.1")) == ["epoch-0", "epoch-1"]
    assert newest_checkpoint(folder) is None
    learner = FakeLearner()
    facts = RunFacts({"num_epochs": 9, "seed": 7}, 1, 0, ({"from": "the start", "versions": "x"},))
    save_checkpoint(folder, RunState(0, 0.0), facts, learner, b"")
    assert read_checkpoint(folder).facts.settings["seed"] == 7


@pytest.mark.parametrize("renames", [1, 2, 3])
def test_a_kill_while_checkpoints_are_put_aside_leaves_the_newest_to_the_last(tmp_path, monkeypatch, renames):
    folder = str(tmp_path / "x.checkpoint")
    for epoch in (3, 8, 2):
        first = saved(tmp_path / "other", 1, RunState(epoch, 0.5))
        shutil.copytree(first, os.path.join(folder, os.path.basename(first)))
    done, rename = [], os.rename

    def killed(*paths):
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(rename(*paths))

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(os, "rename", killed)
        clear(folder)
    left = newest_checkpoint(folder)
    assert left is None if renames == 3 else left == os.path.join(folder, "epoch-8")


def test_a_run_that_is_refused_leaves_the_checkpoint_where_it_is(settings, monkeypatch):
    stop_at(monkeypatch, 7)
    with pytest.raises(Stopped):
        train_cifar(settings)
    with open_log(f"logs/train_{NAME}.log", "%(message)s"), pytest.raises(
        InputError, match="another run writes to logs"
    ):
        train_cifar(replace(settings, resume=None))
    assert newest_checkpoint(FOLDER) is not None


def test_the_log_comes_back_from_the_checkpoint(settings, tmp_path, monkeypatch):
    log = Path(f"logs/train_{NAME}.log")
    log.parent.mkdir()
    log.write_bytes(b"an older run, cut in the mid")
    whole = train_cifar(replace(settings, save_dir="whole", logging_dir="whole"))
    with monkeypatch.context() as patched:
        stop_at(patched, 11)
        with pytest.raises(Stopped):
            train_cifar(settings)
    expected = untimed(log).splitlines()
    for damage in (
        lambda text: b"",
        lambda text: text[:400],
        lambda text: text + b"[Epoch 2] tra",
        lambda text: text[5:],
    ):
        log.write_bytes(damage(log.read_bytes()))
        with monkeypatch.context() as patched:
            stop_at(patched, 1)
            with pytest.raises(Stopped):
                train_cifar(settings)
        found = untimed(log).splitlines()
        assert found[-4:] == expected[-4:]
    train_cifar(settings)
    last = read_log(str(log))[-1]
    (complete,) = read_log(whole.log)
    for column in ("epoch", "val_acc", "loss", "lr"):
        np.testing.assert_array_equal(last.epochs[column], complete.epochs[column])


@pytest.mark.parametrize("what", ["log", "checkpoints"])
def test_what_vanishes_stops_the_run_in_one_line(what, settings, tmp_path, monkeypatch):
    vanishing = tmp_path / ("logs" if what == "log" else FOLDER)
    original, calls = training_run.train_epoch, []

    def counted(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            shutil.rmtree(vanishing)
        return original(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(training_run, "train_epoch", counted)
        with pytest.raises(GluonAFFError, match="disappeared" if what == "log" else "there is no earlier one") as error:
            train_cifar(settings)
    assert "\n" not in str(error.value)
    run = train_cifar(settings)
    (logged,) = read_log(run.log) if what == "log" else read_log(run.log)[-1:]
    assert logged.epochs["epoch"].tolist() == [0, 1, 2]


def test_a_run_without_checkpoints(settings, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_at(patched, 1)
        with pytest.raises(Stopped, match="No checkpoint was kept, since checkpoints are turned off"):
            train_cifar(replace(settings, checkpoint_every=0, resume=None))
    run = train_cifar(replace(settings, checkpoint_every=0, resume=None))
    assert Path(run.params).is_file()
    assert not list(tmp_path.rglob("*.checkpoint"))


def test_clocks_that_go_backwards_are_no_matter(settings, monkeypatch):
    ticks = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(ticks)))
    (logged,) = read_log(train_cifar(settings).log)
    assert logged.epochs["epoch"].tolist() == [0, 1, 2]
    assert (logged.epochs["seconds"] >= 0).all()


def test_a_lock_says_who_has_it_and_ends_with_its_process(tmp_path):
    folder = str(tmp_path / "x.checkpoint")
    code = (
        "from gluon_aff.training.checkpoint import locked\n"
        f"with locked({folder!r}):\n    print(1, flush=True)\n    input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "1\n"
        with pytest.raises(InputError, match=f"in use by process {other.pid} on .*--save-dir"), locked(folder):
            pass
        (tmp_path / "x.checkpoint/owner").write_bytes(b"\xff\n")
        with pytest.raises(InputError, match=r"in use by .*--save-dir"), locked(folder):
            pass
        other.kill()
    with locked(folder):
        assert f"process {os.getpid()} on" in (tmp_path / "x.checkpoint" / "owner").read_text()
    assert os.listdir(folder) == []


@pytest.mark.parametrize("shares", [(1,), pytest.param((2, 50), marks=pytest.mark.long)])
def test_a_full_disk_leaves_the_last_checkpoint_whole(shares, settings, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        stop_at(patched, 7)
        with pytest.raises(Stopped):
            train_cifar(settings)
    kept = newest_checkpoint(FOLDER)
    before = {path.name: path.read_bytes() for path in Path(kept).iterdir()}
    arguments = [
        *("--channel-times", "1", "--batch-size", "20", "--num-epochs", "3", "-j", "0", "--lr", "0.05", "--mixup"),
        *("--mixup-off-epoch", "1", "--label-smoothing", "--cosine", "--warmup-epochs", "1", "--seed", "3"),
        *("--data-dir", settings.data_dir, "--resume", "auto"),
    ]
    size = os.path.getsize(f"{kept}/parameters.params")
    for limit in (size // share - 100 for share in shares):
        with full_disk(limit):
            assert main(arguments, "train_cifar.py", "train-cifar") == 1
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.startswith("train_cifar.py: ")
        assert "cannot be written" in last
        assert {path.name: path.read_bytes() for path in Path(kept).iterdir()} == before
        assert not [path for path in tmp_path.rglob("*.partial")]
    train_cifar(settings)
    (logged,) = read_log(str(tmp_path / f"logs/train_{NAME}.log"))
    assert logged.epochs["epoch"].tolist() == [0, 1, 2]


@pytest.fixture
def pictures(tmp_path_factory):
    """Record files of 48 training and 16 validation pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(str(folder), train_images=48, val_images=16)
    for part in ("train", "val"):
        write_records(str(folder / part), str(folder / part), num_workers=0)
    return folder


def test_an_imagenet_run_stopped_twice_ends_as_if_it_had_not_been(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet_settings, "BLOCKS", {50: (1, 1, 1, 1)})
    monkeypatch.setattr(resnet, "WIDTHS", (16, 16, 16, 16))
    settings = ImageNetSettings(
        model="resnet",
        use_rec=True,
        **{f"rec_{part}": str(pictures / f"{part}.rec") for part in ("train", "val")},
        **{f"rec_{part}_idx": str(pictures / f"{part}.idx") for part in ("train", "val")},
        mixup=True,
        label_smoothing=True,
        no_wd=True,
        batch_size=8,
        num_workers=0,
        num_epochs=3,
        warmup_epochs=1,
        input_size=32,
        classes=8,
        log_interval=2,
        lr=0.05,
        seed=1,
        resume="auto",
        keep_one_best=True,
        save_dir=str(tmp_path / "params"),
        logging_file=str(tmp_path / "train.log"),
    )
    folder = "imagenet-ImageNet-ASKCFuse-resnet--50-s-3.checkpoint"
    whole = train_imagenet(
        replace(settings, save_dir=str(tmp_path / "whole"), logging_file=str(tmp_path / "whole.log"))
    )
    for place, patch in (("epoch-0-step-3", (3, None)), ("epoch-1-step-6", (None, "validation"))):
        with monkeypatch.context() as patched:
            if patch[0]:
                stop_at(patched, patch[0])
            else:
                patched.setattr(imagenet, "evaluate", stopping_evaluation(imagenet.evaluate, 2))
            with pytest.raises(Stopped, match=place):
                train_imagenet(settings)
    run = train_imagenet(settings)
    assert run.best_error == whole.best_error
    assert untimed(run.log).splitlines()[1:] == untimed(whole.log).splitlines()[1:]
    assert_same_arrays(last_arrays(tmp_path / "whole" / folder), last_arrays(tmp_path / "params" / folder))
    names = [{path.name for path in (tmp_path / place).glob("*.params")} for place in ("whole", "params")]
    assert names[0] == names[1]


def stopping_evaluation(evaluate, count):
    calls = []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*arguments)

    return stopping
