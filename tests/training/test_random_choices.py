"""Random numbers that a run gives its framework."""

from shared_by_tests.fakes import FakeLearner

from gluon_aff.training.random_choices import reseeding


def test_numbers_for_dropout_are_the_steps_own():
    def drawn(first):
        learner = FakeLearner()
        return [(step, learner.events[-1]) for step in reseeding(learner, range(first, 6), 1, 2, first)]

    assert [step for step, _ in drawn(0)] == list(range(6))
    assert drawn(4) == drawn(0)[4:]
    assert len({seed for _, seed in drawn(0)}) == 6
