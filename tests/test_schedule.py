"""Schedules against the published logs and closed forms."""

import math

import pytest

from gluon_aff.errors import InputError
from gluon_aff.published import curve, published_runs
from gluon_aff.schedule import Schedule, decay_epochs, step_rate


def published_rates(name):
    return curve(published_runs()[name])["lr"]


def test_the_steps_of_the_published_fine_label_run():
    """AFF-ResNet-32, 83.57 %: --lr-decay-epoch 300,450 and warm-up 10 cut at 290 and 440."""
    cuts = decay_epochs("300,450", 0, 640, 10)
    assert cuts == [290, 440]
    rates = [step_rate(0.2, 0.1, cuts, epoch) for epoch in range(640)]
    assert rates == pytest.approx(published_rates("aff_resnet32_fine"), abs=5e-7)


def test_the_cosine_of_a_published_superclass_run():
    """AFF-ResNet-32 run 2: four GPUs, so 97 steps an epoch; warm-up 20; the log has the rate after the epoch."""
    steps = 50_000 // 512
    schedule = Schedule("cosine", 0.2, 20, 640, steps)
    rates = [schedule.rate((epoch + 1) * steps) for epoch in range(640)]
    assert rates == pytest.approx(published_rates("aff_resnet32_superclass_run2"), abs=6e-7)


def test_warmup_and_cosine_in_closed_form():
    steps, warmup, epochs = 7, 3, 10
    schedule = Schedule("cosine", 0.5, warmup, epochs, steps)
    ramp, fall = warmup * steps, (epochs - warmup) * steps
    for update in range(1, ramp):
        assert schedule.rate(update) == pytest.approx(0.5 * update / (ramp - 1))
    for update in range(ramp, ramp + fall):
        expected = 0.25 * (1 + math.cos(math.pi * (update - ramp) / (fall - 1)))
        assert schedule.rate(update) == pytest.approx(expected)


@pytest.mark.parametrize(("warmup", "epochs", "steps"), [(0, 3, 2), (1, 2, 1), (10, 2, 5), (0, 1, 1)])
def test_short_schedules_stay_within_the_rate(warmup, epochs, steps):
    """GluonCV's scheduler divides by zero where a part has a single step."""
    schedule = Schedule("cosine", 0.2, warmup, epochs, steps)
    assert all(0 <= schedule.rate(update) <= 0.2 for update in range(1, epochs * steps + 1))


def test_a_decay_period_lasts_to_the_end():
    """The original dies one epoch after its last cut: --lr-decay-period 30, 100 epochs, at epoch 81."""
    cuts = decay_epochs("300,450", 30, 100, 10)
    assert cuts == [20, 50, 80]
    assert step_rate(1.0, 0.5, cuts, 99) == 0.125


def test_a_cut_before_the_warm_up_does_not_block_the_later_ones():
    cuts = decay_epochs("5,50", 0, 100, 10)
    assert [step_rate(1.0, 0.1, cuts, epoch) for epoch in (0, 39, 40)] == pytest.approx([0.1, 0.1, 0.01])


def test_the_same_cut_twice_counts_once():
    """As in the original: it compares each epoch with the next cut. Here the later ones come all the same."""
    rates = [step_rate(1.0, 0.1, decay_epochs("30,30,60", 0, 100, 10), epoch) for epoch in (19, 20, 49, 50)]
    assert rates == pytest.approx([1, 0.1, 0.1, 0.01])


def test_text_that_is_no_list_of_epochs():
    with pytest.raises(InputError, match="--lr-decay-epoch '300;450'"):
        decay_epochs("300;450", 0, 640, 10)


@pytest.mark.parametrize("power", [0.9, 2])
def test_poly_at_given_updates(power):
    """lr (1 - t / T)^power, T the last update: 54 steps in 300 epochs, as StopSign has them."""
    schedule = Schedule("poly", 0.01, 0, 300, 54, power=power)
    for update in (1, 54, 8100, 16_198):
        assert schedule.rate(update) == pytest.approx(0.01 * (1 - update / 16_199) ** power, rel=1e-9)
    assert schedule.rate(16_200) == 0
