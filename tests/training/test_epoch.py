"""An epoch of a learner: its figures, how it stops and goes on, what it refuses."""

import io
import math
import signal
from dataclasses import astuple

import numpy as np
import pytest
from shared_by_tests.fakes import FakeLearner
from tqdm import tqdm

from gluon_aff.errors import TrainingError
from gluon_aff.training.epoch import NOT_BEGUN, EpochProgress, train_epoch
from gluon_aff.training.stopping import StopRequest

CLASSES = 10


def batch(seed=0, n=8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3, 4, 4)).astype("float32"), rng.integers(0, CLASSES, n).astype("float32")


def train(learner, batches, weights, epoch=0, stop=None, begun=NOT_BEGUN, on_step=None):
    return train_epoch(learner, batches, np.asarray(weights), epoch, stop or StopRequest(), begun, on_step)


def test_epoch_figures_are_means_over_batches():
    batches = [batch(seed) for seed in range(3)]
    single = [train(FakeLearner(rate=0.0), [each], [0.5]) for each in batches]
    together = train(FakeLearner(rate=0.0), batches, [0.5] * 3)
    expected = np.mean([(each.metric, each.loss) for each in single], axis=0)
    assert (together.metric, together.loss) == pytest.approx(tuple(expected), rel=1e-6)
    assert together.metric == pytest.approx(np.mean([labels.mean() for _, labels in batches]), rel=1e-6)


def test_a_step_is_awaited_while_the_next_one_computes():
    learner = FakeLearner()
    train(learner, [batch()] * 4, [1.0] * 4)
    assert learner.events == [
        *("start 0", "start 1", "await 0", "start 2", "await 1", "start 3", "await 2", "await 3"),
    ]


def test_a_loss_that_is_not_finite_stops_and_names_the_step():
    good, bad = batch(), batch()
    bad[0][0, 0, 0, 0] = math.nan
    with pytest.raises(TrainingError, match="the loss is nan at epoch 7, step 1; a lower --lr may help"):
        train(FakeLearner(), [good, bad, good], [1.0] * 3, 7)


def test_weights_that_are_not_finite_behind_the_last_step_stop_and_name_it():
    with pytest.raises(TrainingError, match="weights are not finite after epoch 7, step 2; a lower --lr may help"):
        train(FakeLearner(), [batch()] * 3, [1.0, 1.0, math.inf], 7)


def test_the_observer_sees_each_step_with_its_learning_rate():
    seen = []
    batches = [batch(seed) for seed in range(4)]
    progress = train(FakeLearner(), batches, [0.5] * 4, on_step=lambda *step: seen.append(step))
    assert [step for step, _, _ in seen] == [0, 1, 2, 3]
    assert seen[-1][1] == pytest.approx(progress.metric)
    assert seen[1][1] == pytest.approx(np.mean([labels.mean() for _, labels in batches[:2]]))
    rates = [rate for _, _, rate in seen]
    assert rates == pytest.approx([0.1, 0.05, 0.025, 0.0125])


def test_an_epoch_in_two_parts_is_the_epoch():
    """Bit for bit: what is stopped goes on with its sums and the batches left."""
    batches, shares = [batch(seed) for seed in range(6)], np.linspace(0.3, 0.8, 6)
    whole = FakeLearner()
    expected = train(whole, batches, shares)
    learner, stop = FakeLearner(), StopRequest()

    def ask(step, metric, rate):
        stop.signal = signal.SIGTERM if step == 1 else stop.signal

    first = train(learner, batches, shares, stop=stop, on_step=ask)
    assert first.steps == 3  # one was under way
    done = train(learner, batches[first.steps :], shares, begun=first)
    assert (done.steps, done.metric_sum, done.loss_sum) == (6, expected.metric_sum, expected.loss_sum)
    assert 0 < first.seconds < done.seconds < 10
    np.testing.assert_array_equal(learner.weights, whole.weights)
    again = train(learner, [], shares, begun=done)  # nothing left to do
    assert again.steps == 6


def test_a_terminal_shows_the_steps_of_the_whole_epoch_and_the_last_loss(monkeypatch):
    screen = io.StringIO()
    shown = {"disable": False, "file": screen, "mininterval": 0, "ncols": 80}
    monkeypatch.setattr("gluon_aff.training.epoch.tqdm", lambda **named: tqdm(**{**named, **shown}))
    done = train(FakeLearner(rate=0.0), [batch()] * 3, [1.0] * 5, 7, begun=EpochProgress(2, 0.0, 0.0, 0.0))
    assert screen.getvalue().count("epoch 7:") == 4
    for steps in (2, 3, 4, 5):
        assert f" {steps}/5 [" in screen.getvalue()
    assert f"loss={done.loss_sum / 3:.4f}]" in screen.getvalue()


def test_workers_stop_behind_the_step_that_they_agree_on():
    """One that is asked to goes on until all know; one that is not stops where the others have been."""
    asked = StopRequest(signal.SIGINT, alone=False)
    assert train(FakeLearner(), [batch()] * 6, [1.0] * 6, stop=asked).steps == 2
    assert asked.signal == signal.SIGINT

    class Told(FakeLearner):
        def step(self, images, labels, mixup_weight, asked_to_stop):
            assert not asked_to_stop
            return super().step(images, labels, mixup_weight, self.updates == 3)

    other = StopRequest(alone=False)
    assert train(Told(), [batch()] * 6, [1.0] * 6, stop=other).steps == 5  # one was under way
    assert (other.agreed, other.signal) == (True, signal.SIGTERM)


def test_progress_is_the_mean_of_what_was_done():
    progress = EpochProgress(steps=4, metric_sum=1.0, loss_sum=8.0)
    assert (progress.metric, progress.loss) == (0.25, 2.0)
    assert astuple(NOT_BEGUN) == (0, 0, 0, 0)
