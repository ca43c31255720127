"""Scores of a validation, by hand."""

import numpy as np
import pytest
from shared_by_tests.fakes import Itself, Worker
from shared_by_tests.masks_by_hand import IOU, NIOU, PICTURES, batches

from gluon_aff.training.scores import iou_and_niou, overlaps, top1_accuracy

CLASSES = 10


def logits_and_labels():
    """Nine images, of which the first five are right."""
    dice = np.random.default_rng(0)
    logits = dice.normal(size=(9, CLASSES)).astype("float32")
    labels = logits.argmax(axis=1)
    labels[5:] = (labels[5:] + 1) % CLASSES
    return logits, labels.astype("float32")


@pytest.mark.parametrize("size", [1, 2, 4, 9])
def test_accuracy_counts_each_image_once(size):
    """Last batch smaller than the others included."""
    logits, labels = logits_and_labels()
    parts = [(logits[i : i + size], labels[i : i + size]) for i in range(0, 9, size)]
    assert top1_accuracy(Itself(), parts, Worker()) == 5 / 9


def test_of_equal_logits_the_first_counts():
    assert top1_accuracy(Itself(), [(np.ones((2, 3), "float32"), np.array([0, 2], "float32"))], Worker()) == 0.5


@pytest.mark.parametrize("name", PICTURES)
def test_overlaps_by_hand(name):
    (logits, mask), counts = PICTURES[name]
    assert tuple(part.tolist() for part in overlaps(logits, mask)) == tuple([count] for count in counts)


def test_a_logit_of_0_is_not_a_prediction():
    assert overlaps(np.zeros((1, 1, 1, 2)), np.ones((1, 1, 1, 2)))[0].tolist() == [0]


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_iou_is_of_all_pixels_and_niou_of_each_image(size):
    iou, niou = iou_and_niou(Itself(), batches(size), Worker())
    assert iou == pytest.approx(IOU)
    assert niou == pytest.approx(NIOU)


def test_a_set_without_anything_is_0():
    (logits, mask), _ = PICTURES["nothing"]
    assert iou_and_niou(Itself(), [(logits, mask)], Worker()) == (0, 0)


def test_scores_are_of_the_images_of_all_workers():
    """With unequal shares, and with none."""
    logits, labels = logits_and_labels()
    images = list(zip(logits[:, None], labels[:, None]))
    pictures = batches(1)
    for score, parts, expected in (
        (top1_accuracy, images, 5 / 9),
        (iou_and_niou, pictures, pytest.approx((IOU, NIOU))),
    ):
        for cut in (1, len(parts)):
            first, second = Worker(), Worker()
            score(Itself(), parts[:cut], first)
            if cut < len(parts):
                score(Itself(), parts[cut:], second)
                assert score(Itself(), parts[:cut], Worker([second.own])) == expected
            else:
                assert score(Itself(), [], Worker([first.own])) == expected


def test_the_next_batch_computes_while_one_is_scored():
    events = []

    class Noting(Itself):
        def infer(self, images):
            events.append(f"start {len(images)}")
            awaited = super().infer(images)
            return lambda: events.append(f"await {len(images)}") or awaited()

    logits, labels = logits_and_labels()
    sizes = (2, 3, 4)
    top1_accuracy(Noting(), [(logits[:size], labels[:size]) for size in sizes], Worker())
    assert events == ["start 2", "start 3", "await 2", "start 4", "await 3", "await 4"]
