"""Loss and metrics of segmentation in NumPy and by hand."""

import mxnet as mx
import numpy as np
import pytest

from gluon_aff.training.loop import Training, train_epoch
from gluon_aff.training.masks import Masks, iou_and_niou, overlaps, soft_iou_loss

CPU = [mx.cpu()]


class Itself(mx.gluon.nn.HybridBlock):
    """A network whose logits are its input."""

    def hybrid_forward(self, F, x):
        return F.identity(x)


def nd(*arrays):
    return tuple(mx.nd.array(np.asarray(array, np.float32)) for array in arrays)


def picture(*rows):
    """Logits and mask, 1 x 1 x H x W, of rows in words: P predicted and M mask, B both, . neither."""
    signs = np.array([list(row) for row in rows])
    return np.where(np.isin(signs, ["P", "B"]), 0.5, -0.5)[None, None], np.isin(signs, ["M", "B"])[None, None]


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


# Pixels in the intersection and in the union of each
PICTURES = {
    "half": (picture("BBPP", "...."), (2, 4)),
    "all": (picture("BB..", "BB.."), (4, 4)),
    "missed": (picture("MMMM", "MM.."), (0, 6)),
    "invented": (picture("....", "...P"), (0, 1)),
    "nothing": (picture("....", "...."), (0, 0)),
    "third": (picture("BPM.", "...."), (1, 3)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_overlaps_by_hand(name):
    (logits, mask), counts = PICTURES[name]
    assert tuple(float(part.asscalar()) for part in overlaps(*nd(logits, mask))) == counts


def test_a_logit_of_0_is_not_a_prediction():
    assert overlaps(*nd(np.zeros((1, 1, 1, 2)), np.ones((1, 1, 1, 2))))[0].asscalar() == 0


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_iou_is_of_all_pixels_and_niou_of_each_image(size):
    logits, masks = (np.concatenate(part) for part in zip(*(pair for pair, _ in PICTURES.values())))
    batches = [nd(logits[i : i + size], masks[i : i + size]) for i in range(0, 6, size)]
    for contexts in (CPU, [mx.cpu(0), mx.cpu(1)]):
        iou, niou = iou_and_niou(Itself(), batches, contexts)
        assert iou == pytest.approx(7 / 18)
        assert niou == pytest.approx((2 / 4 + 4 / 4 + 0 + 0 + 0 + 1 / 3) / 6)


def test_a_set_without_anything_is_0():
    (logits, mask), _ = PICTURES["nothing"]
    assert iou_and_niou(Itself(), [nd(logits, mask)], CPU) == (0, 0)


def test_an_epochs_figures_are_iou_and_soft_iou_of_its_batches():
    net = mx.gluon.nn.Conv2D(1, 1, in_channels=3)
    net.initialize(mx.init.Normal(0.5))
    trainer = mx.gluon.Trainer(net.collect_params(), "adagrad", {"learning_rate": 0.0})
    dice = np.random.default_rng(2)
    batches = [(dice.normal(size=(2, 3, 4, 4)), dice.integers(0, 2, (2, 1, 4, 4))) for _ in range(3)]
    progress = train_epoch(Training(net, trainer, Masks(), CPU), [nd(*b) for b in batches], np.ones(3), 0)
    weight, bias = net.weight.data().asnumpy().reshape(3), net.bias.data().asscalar()
    ious, losses = [], []
    for images, masks in batches:
        logits = np.einsum("nchw,c->nhw", images, weight)[:, None] + bias
        ious.append(((logits > 0) & (masks == 1)).sum() / ((logits > 0) | (masks == 1)).sum())
        p = 1 / (1 + np.exp(-logits))
        losses.append(1 - ((p * masks).sum() + 1) / ((p + masks - p * masks).sum() + 1))
    assert progress.metric == pytest.approx(np.mean(ious), rel=1e-5)
    assert progress.loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_step_is_adagrads():
    """The sister project divides the gradient of the mean loss by the batch size once more; so do we."""
    net = mx.gluon.nn.Conv2D(1, 1, in_channels=3, use_bias=False)
    net.initialize(mx.init.Normal(0.5))
    before = net.weight.data().asnumpy().copy()
    images, masks = nd(np.random.default_rng(3).normal(size=(4, 3, 4, 4)), np.ones((4, 1, 4, 4)))
    with mx.autograd.record():
        soft_iou_loss(net(images), masks).backward()
    gradient = net.weight.grad().asnumpy() / 4
    trainer = mx.gluon.Trainer(net.collect_params(), "adagrad", {"learning_rate": 0.01, "wd": 1e-4})
    train_epoch(Training(net, trainer, Masks(), CPU), [(images, masks)], np.ones(1), 0)
    expected = before - 0.01 * (gradient / np.sqrt(gradient**2 + 1e-7) + 1e-4 * before)
    np.testing.assert_allclose(net.weight.data().asnumpy(), expected, rtol=1e-5)
