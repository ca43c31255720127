"""Losses and metrics in NumPy and by hand."""

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.masks_by_hand import PICTURES

from gluon_aff.engines import Classification
from gluon_aff.gluon.objectives import Classes, Masks, soft_iou_loss


def nd(*arrays):
    return tuple(mx.nd.array(np.asarray(array, np.float32)) for array in arrays)


def test_classes_beyond_float16_stay_themselves():
    """Dense labels are cast, as in the original; no network of float16 runs on a CPU."""
    labels = mx.nd.array([2047, 2049, 4097, 9999])
    images = mx.nd.zeros((4, 3, 2, 2))
    x, target = Classes(Classification(10_000), "float16").pair(images, labels, 1.0)
    assert x.dtype == np.float16
    np.testing.assert_array_equal(target.asnumpy(), labels.asnumpy())
    assert Classes(Classification(10_000, 0.1), "float16").pair(images, labels, 1.0)[1].dtype == np.float16


def test_soft_iou_over_the_whole_batch_in_numpy():
    dice = np.random.default_rng(0)
    logits, masks = dice.normal(size=(3, 1, 5, 7)), dice.integers(0, 2, (3, 1, 5, 7))
    p = 1 / (1 + np.exp(-logits))
    expected = 1 - ((p * masks).sum() + 1) / ((p + masks - p * masks).sum() + 1)
    loss = soft_iou_loss(*nd(logits, masks))
    assert loss.shape == (1,)
    assert loss.asscalar() == pytest.approx(expected, rel=1e-5)
    each = [soft_iou_loss(*nd(logits[i : i + 1], masks[i : i + 1])).asscalar() for i in range(3)]
    assert np.mean(each) != pytest.approx(expected, rel=1e-3)


def test_soft_iou_at_its_ends():
    masks = np.zeros((2, 1, 4, 4))
    masks[0, 0, :2] = 1
    sure = np.where(masks, 50.0, -50.0)
    assert soft_iou_loss(*nd(sure, masks)).asscalar() == pytest.approx(0, abs=1e-6)
    assert soft_iou_loss(*nd(-sure, masks)).asscalar() == pytest.approx(1 - 1 / 33, rel=1e-5)
    assert soft_iou_loss(*nd(np.full((1, 1, 4, 4), -50.0), np.zeros((1, 1, 4, 4)))).asscalar() == 0


def test_the_gradient_is_that_of_differences():
    dice = np.random.default_rng(1)
    logits, masks = dice.normal(size=(2, 1, 2, 2)), dice.integers(0, 2, (2, 1, 2, 2))
    x, y = nd(logits, masks)
    x.attach_grad()
    with mx.autograd.record():
        soft_iou_loss(x, y).backward()

    def loss(z):
        p = 1 / (1 + np.exp(-z))
        return 1 - ((p * masks).sum() + 1) / ((p + masks - p * masks).sum() + 1)

    step = 1e-5 * np.eye(8).reshape(8, 2, 1, 2, 2)
    differences = np.array([(loss(logits + d) - loss(logits - d)) / 2e-5 for d in step])
    np.testing.assert_allclose(x.grad.asnumpy().ravel(), differences, atol=1e-6)


def iou(logits, masks):
    output, target = nd(logits, masks)
    metric = Masks().metric(output, target, target)
    assert metric.shape == (1,)
    return metric.asscalar()


@pytest.mark.parametrize("name", PICTURES)
def test_iou_of_a_slice_by_hand(name):
    (logits, mask), (intersection, union) = PICTURES[name]
    assert iou(logits, mask) == pytest.approx(intersection / max(union, 1))


def test_iou_of_a_slice_is_of_all_its_pixels():
    assert iou(*map(np.concatenate, zip(*(pair for pair, _ in PICTURES.values())))) == pytest.approx(7 / 18)


def test_a_logit_of_0_is_not_a_prediction():
    assert iou(np.zeros((1, 1, 1, 2)), np.ones((1, 1, 1, 2))) == 0
