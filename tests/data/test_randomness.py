import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gluon_aff.data.randomness import Purpose, epoch_order, stream, uniform_rows


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 1000), samples=st.integers(1, 300))
def test_order_is_a_permutation(seed, epoch, samples):
    order = epoch_order(seed, epoch, samples)
    np.testing.assert_array_equal(np.sort(order), np.arange(samples))
    np.testing.assert_array_equal(order, epoch_order(seed, epoch, samples))


def test_orders_differ():
    orders = [tuple(epoch_order(seed, epoch, 50)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


@pytest.mark.parametrize(
    ("purpose", "number"),
    [(Purpose.SHUFFLE, 0), (Purpose.AUGMENTATION, 1), (Purpose.MIXUP, 2), (Purpose.FRAMEWORK, 3)],
)
def test_streams_of_a_purpose_never_change(purpose, number):
    expected = np.random.Generator(np.random.PCG64((11, 4, number))).random(3)
    np.testing.assert_array_equal(stream(11, 4, purpose).random(3), expected)


def test_the_numbers_of_an_image_are_its_row_of_a_table():
    table = np.random.Generator(np.random.PCG64((11, 4, 1))).random((9, 6))
    np.testing.assert_array_equal(uniform_rows(11, 4, [7, 3], 6), table[[7, 3]])


def test_the_order_is_that_of_the_published_seeds():
    """PCG64 of the seed, the epoch and the purpose, 0: another number would make every seed another."""
    expected = np.random.Generator(np.random.PCG64((11, 4, 0))).permutation(90)
    np.testing.assert_array_equal(epoch_order(11, 4, 90), expected)
