import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gluon_aff.gluon.mixup import dense_labels, mixup

LABELS = mx.nd.array([3, 0, 9, 3], dtype="float32")


def test_one_hot():
    np.testing.assert_array_equal(dense_labels(LABELS, 10).asnumpy(), np.eye(10)[[3, 0, 9, 3]])


@settings(deadline=None, max_examples=25)
@given(classes=st.integers(10, 200), eta=st.just(0.0) | st.floats(1e-6, 1))
def test_smoothed_labels(classes, eta):
    dense = dense_labels(LABELS, classes, eta)
    assert (dense.shape, dense.dtype) == ((4, classes), np.float32)
    expected = np.full((4, classes), eta / classes)
    expected[np.arange(4), [3, 0, 9, 3]] = 1 - eta + eta / classes
    np.testing.assert_allclose(dense.asnumpy(), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(dense.asnumpy().sum(axis=1), 1, rtol=1e-5)


def test_smoothed_labels_of_the_recipe():
    dense = dense_labels(LABELS, 100, 0.1).asnumpy()
    assert dense[0, 3] == np.float32(0.901)
    assert dense[0, 4] == np.float32(0.001)


@settings(deadline=None, max_examples=25)
@given(weight=st.floats(0, 1), batch=st.integers(1, 9))
def test_mixup(weight, batch):
    images = np.random.default_rng(batch).normal(size=(batch, 3, 4, 4)).astype(np.float32)
    mixed = mixup(mx.nd.array(images), weight)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed.asnumpy(), weight * images + (1 - weight) * images[::-1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weight", [5e-324, 1e-40, 1e-13])
def test_weights_too_small_for_float32_count_as_zero(weight):
    images = mx.nd.random.normal(shape=(4, 3))
    np.testing.assert_array_equal(mixup(images, weight).asnumpy(), images.asnumpy()[::-1])


def test_weight_one_leaves_the_batch_as_it_is():
    images = mx.nd.random.normal(shape=(5, 3, 8, 8))
    np.testing.assert_array_equal(mixup(images, 1.0).asnumpy(), images.asnumpy())


def test_mixed_dense_labels_still_sum_to_one():
    mixed = mixup(dense_labels(LABELS, 10, 0.1), 0.3).asnumpy()
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(mixed[1, [0, 9]], [0.3 * 0.9 + 0.01, 0.7 * 0.9 + 0.01], rtol=1e-5)
