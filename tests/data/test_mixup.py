import numpy as np
import pytest

from gluon_aff.data.mixup import draw_mixup_weights
from gluon_aff.errors import InputError


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_weights_follow_the_beta_distribution(alpha):
    weights = draw_mixup_weights(alpha, seed=0, epoch=0, batches=50_000)
    assert weights.dtype == np.float64
    assert ((weights >= 0) & (weights <= 1)).all()
    assert abs(weights.mean() - 0.5) < 0.01
    # The variance of Beta(a, a) is 1 / (4 * (2 * a + 1)).
    assert abs(weights.var() * 4 * (2 * alpha + 1) - 1) < 0.03


def test_weights_are_those_of_the_published_seeds():
    expected = np.random.Generator(np.random.PCG64((11, 4, 2))).beta(0.7, 0.7, 5)
    np.testing.assert_array_equal(draw_mixup_weights(0.7, 11, 4, 5), expected)


def test_weights_depend_on_seed_and_epoch():
    def draw(seed, epoch):
        return tuple(draw_mixup_weights(1.0, seed, epoch, 20))

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(1, 2), draw(2, 1), draw(1, 3)}) == 3


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_alpha_out_of_range(alpha):
    with pytest.raises(InputError, match="--mixup-alpha"):
        draw_mixup_weights(alpha, 0, 0, 1)
