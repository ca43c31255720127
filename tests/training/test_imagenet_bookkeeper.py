"""The lines that an ImageNet run logs about its speed, and what its workers leave alone."""

import time
from types import SimpleNamespace

import pytest
from shared_by_tests.fakes import FakeLearner

from gluon_aff.settings.imagenet import ImageNetSettings
from gluon_aff.training.checkpoint import RunState
from gluon_aff.training.epoch import EpochProgress
from gluon_aff.training.imagenet_bookkeeper import ImageNetBookkeeper


def bookkeeper(writes=True, **settings):
    """One of a run with 32 images a step and 8 steps an epoch, and the lines that it logs."""
    lines = []
    setup = SimpleNamespace(settings=ImageNetSettings(**settings), global_batch=32, paths=SimpleNamespace(name="run"))
    files = SimpleNamespace(setup=setup, log=SimpleNamespace(info=lines.append), writes=writes)
    return ImageNetBookkeeper(files, 8, None), lines


@pytest.mark.parametrize(("interval", "steps"), [(3, [5, 8]), (0, [])])
def test_the_speed_of_steps_is_of_those_since_the_line_before(interval, steps, monkeypatch):
    """Of those that this process has made: another one was stopped after four steps of the epoch."""
    clock = iter([10.0, 12.0, 17.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    book, lines = bookkeeper(log_interval=interval)
    observe = book.observer(RunState(4, 0.5, begun=EpochProgress(4)))
    for step in range(4, 9):
        observe(step, 0.25, 0.1)
    speeds = {5: 32 * 2 / 2, 8: 32 * 3 / 5}
    expected = "Epoch[4] Batch [{}]\tSpeed: {:f} samples/sec\taccuracy=0.250000\tlr=0.100000"
    assert lines == [expected.format(step, speeds[step]) for step in steps]


def test_the_speed_of_an_epoch_is_that_of_its_training():
    book, lines = bookkeeper()
    state = RunState(4, 0.5, begun=EpochProgress(8, 2.0, 1.0, seconds=4.0))
    assert book.validated(FakeLearner(), state, (0.6, 0.2), seconds=5.0) == state
    assert lines == [
        "[Epoch 4] speed: 64 samples/sec\ttime cost: 5.000000",
        "[Epoch 4] validation: err-top1=0.600000 err-top5=0.200000",
    ]


def test_a_run_that_saves_nothing_has_no_periodic_weights():
    book, lines = bookkeeper(save_frequency=0)
    book.trained(FakeLearner(), RunState(4, 0.5, begun=EpochProgress(8, 2.0)), now=True)
    assert lines == ["[Epoch 4] training: accuracy=0.250000"]


@pytest.mark.parametrize("no_file", [{"writes": False}, {"save_frequency": 0}], ids=["worker 1", "no files any more"])
def test_only_who_writes_the_best_weights_removes_those_before(no_file, tmp_path):
    """All workers of a resumed run know where those are."""
    (tmp_path / "before.params").touch()
    book, _ = bookkeeper(keep_one_best=True, **no_file)
    state = RunState(4, 0.5, params=str(tmp_path / "before.params"), begun=EpochProgress(8, 2.0, 1.0, seconds=4.0))
    assert book.validated(FakeLearner(), state, (0.4, 0.2), seconds=5.0).best == 0.4
    assert (tmp_path / "before.params").exists()
