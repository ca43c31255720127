"""The trainer's schedule is the original's, GluonCV's, also in the files that it is saved in."""

import pickletools

import mxnet as mx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mxnet import autograd, gluon
from shared_by_tests.original_schedule import LRScheduler, LRSequential, original_schedule

from gluon_aff.errors import GluonAFFError
from gluon_aff.gluon.optimizer_states import load_states, save_states
from gluon_aff.gluon.schedule import Scheduler
from gluon_aff.schedule import Schedule

SCHEDULES = st.builds(
    Schedule,
    mode=st.sampled_from(["cosine", "poly", "step", "linear", "constant"]),
    base=st.floats(1e-6, 10),
    warmup_epochs=st.integers(-1, 6),
    num_epochs=st.integers(1, 8),
    steps_per_epoch=st.integers(1, 9),
    cuts=st.lists(st.integers(-10, 8), max_size=4).map(tuple),
    factor=st.floats(0.01, 1),
    power=st.floats(0.1, 4),
)


@settings(max_examples=200, deadline=None)
@given(SCHEDULES)
@example(Schedule("cosine", 0.1, 1, 2, 1))  # both parts of one step, which has no slope
@example(Schedule("poly", 0.1, 1, 2, 1))
@example(Schedule("step", 0.1, 1, 2, 1, (0, 1)))
@example(Schedule("cosine", 0.3, 0, 7, 9))
@example(Schedule("poly", 0.3, 0, 7, 9, power=0.9))
@example(Schedule("step", 0.3, 0, 7, 9, (2, 5)))
@example(Schedule("cosine", 0.3, 5, 3, 9))  # never through the warm-up
def test_every_rate_is_gluoncvs_to_the_last_bit(schedule):
    steps = schedule.num_epochs * schedule.steps_per_epoch
    ours, original = Scheduler(schedule), original_schedule(schedule)
    for update in range(max(steps, schedule.warmup_steps) + 3):
        assert (ours(update), type(ours(update))) == (original(update), float)


def network():
    net = gluon.nn.Dense(3, in_units=4, prefix="net_")
    net.initialize(mx.init.One())
    return net


def trained(scheduler, steps):
    """A trainer after so many steps, each with its learning rate."""
    net = network()
    trainer = gluon.Trainer(net.collect_params(), "nag", {"lr_scheduler": scheduler, "momentum": 0.9})
    for step in range(steps):
        with autograd.record():
            loss = net(mx.nd.array(np.random.default_rng(step).random((2, 4)))).square().sum()
        loss.backward()
        trainer.step(2)
        assert trainer.learning_rate == scheduler(step + 1)
    return trainer


@pytest.mark.parametrize("steps", [1, 4, 9, 30])
@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_the_states_file_has_the_originals_schedule(steps, warmup_epochs, tmp_path):
    schedule, path = Schedule("cosine", 0.1, warmup_epochs, 8, 3), tmp_path / "a.states"
    trainer = trained(Scheduler(schedule), steps)
    save_states(trainer, str(path))
    assert isinstance(trainer.optimizer.lr_scheduler, Scheduler)
    named = " ".join(argument for _, argument, _ in pickletools.genops(path.read_bytes()) if isinstance(argument, str))
    assert "gluon_aff" not in named

    loaded = gluon.Trainer(network().collect_params(), "nag", {"learning_rate": 0.5, "momentum": 0.9})
    loaded.load_states(str(path))
    found, own = loaded.optimizer.lr_scheduler, trained(original_schedule(schedule), steps).optimizer.lr_scheduler
    assert type(found) is LRSequential
    assert [vars(part) for part in found.schedulers] == [vars(part) for part in own.schedulers]
    assert {type(part) for part in found.schedulers} == {LRScheduler}
    assert loaded.optimizer.num_update == steps
    assert [found(update) for update in range(30)] == [schedule.rate(update) for update in range(30)]

    fresh = trained(Scheduler(schedule), 0)
    assert load_states(fresh, str(path)) == steps


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(GluonAFFError, match="cannot be written"):
        save_states(trained(Scheduler(Schedule("cosine", 0.1, 0, 8, 3)), 1), str(tmp_path))
    assert list(tmp_path.iterdir()) == []
