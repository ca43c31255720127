"""Figures against scikit-learn, NumPy and the validation of the training loop."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

from gluon_aff.data.imagenet.images import FOLDER_MEAN, FOLDER_STD
from gluon_aff.data.imagenet.validation_batches import validation_data
from gluon_aff.errors import DataError, GluonAFFError
from gluon_aff.evaluation import evaluate as module
from gluon_aff.evaluation.evaluate import ClassCount, evaluate
from gluon_aff.training.scores import top1_accuracy

ALONE = SimpleNamespace(sum=list)  # a run of one worker


def given(images):
    """Infers the values of the images, so that a test can choose the logits."""
    logits = images.reshape(len(images), -1)
    return lambda: logits


def rounded(images):
    """The same in float16."""
    return given(images.astype("float16").astype("float32"))


def nearest_colour(colours):
    """Classifier by hand: the class is the one whose colour is nearest to the image's mean."""
    targets = (np.array(colours) - FOLDER_MEAN) / FOLDER_STD

    def infer(images):
        means = images.mean(axis=(2, 3))[:, np.newaxis]
        return lambda: -np.square(means - targets).sum(axis=2)

    return infer


def accuracy_in_training(infer, batches):
    return top1_accuracy(SimpleNamespace(infer=infer), batches, ALONE)


def batches_of(logits, labels, batch_size):
    """Batches whose images (N, 3, 1, K / 3) are the logits."""
    images = np.asarray(logits, "float32").reshape(len(logits), 3, 1, -1)
    starts = range(0, len(logits), batch_size)
    return [(images[s : s + batch_size], labels[s : s + batch_size].astype("float32")) for s in starts]


def some_logits(images=101, classes=30, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    logits = rng.normal(size=(images, classes)).astype("float32") * 2
    logits[np.arange(images), labels] += 2
    return logits, labels


@pytest.mark.parametrize("batch_size", [1, 16, 101, 500])
def test_figures_are_those_of_scikit_learn_and_of_training(batch_size):
    logits, labels = some_logits()
    batches = batches_of(logits, labels, batch_size)
    found = evaluate(given, batches)
    exact = logits.astype(np.float64)
    every = np.arange(30)
    probability = np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True)
    assert found.images == 101
    assert found.top1 == pytest.approx(accuracy_score(labels, logits.argmax(axis=1)), abs=1e-12)
    assert found.top5 == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=every), abs=1e-12)
    assert found.loss == pytest.approx(log_loss(labels, probability, labels=every), rel=1e-12)
    assert found.top1 == accuracy_in_training(given, batches)
    assert found.images_per_second > 0
    assert 0 < found.top1 < found.top5 < 1


def test_counts_per_class():
    logits, labels = some_logits()
    labels = labels // 2 * 2  # no image of an odd class
    found = evaluate(given, batches_of(logits, labels, 10))
    correct = logits.argmax(axis=1) == labels
    assert found.per_class == [
        ClassCount(label, int((labels == label).sum()), int(correct[labels == label].sum())) for label in range(30)
    ]
    assert sum(count.correct for count in found.per_class) / 101 == pytest.approx(found.top1)


@pytest.mark.parametrize(("infer", "found_first"), [(given, [1, 1]), (rounded, [2, 0])])
def test_of_equal_logits_the_lowest_label_comes_first(infer, found_first):
    """As in argmax. 1 and 1 + 2**-13 differ in float32 and not in float16."""
    row = np.zeros(9, "float32")
    near = np.array([1, 1 + 2**-13, 0, 0, 0, 0, 0, 0, 0], "float32")
    batches = batches_of(np.stack([row, row, row, row, near, near]), np.array([0, 1, 4, 5, 0, 1]), 4)
    found = evaluate(infer, batches)
    assert [count.correct for count in found.per_class][:2] == found_first
    assert found.top5 == pytest.approx(5 / 6)
    assert found.top1 == accuracy_in_training(infer, batches)


def test_many_ties_agree_with_training():
    rng = np.random.default_rng(1)
    logits = rng.integers(0, 4, (200, 30)).astype("float32")
    labels = rng.integers(0, 30, 200)
    batches = batches_of(logits, labels, 64)
    found = evaluate(given, batches)
    assert found.top1 == accuracy_in_training(given, batches)
    order = np.argsort(-logits, axis=1, kind="stable")
    assert found.top5 == pytest.approx((order[:, :5] == labels[:, np.newaxis]).any(axis=1).mean())


def test_top5_of_three_classes_is_all():
    logits, labels = some_logits(20, 3)
    assert evaluate(given, batches_of(logits, labels, 8)).top5 == 1.0


def test_loss_of_large_logits_and_of_many_images():
    logits = np.array([[60000, -60000, 0], [-60000, 60000, 60000]], "float32")
    found = evaluate(rounded, batches_of(logits, np.array([1, 2]), 2))
    assert found.loss == pytest.approx((119_936 + np.log(2)) / 2, abs=100)  # 60000 is 59968 or 60000 in float16
    small = np.tile(np.array([[9, 0, 0]], "float32"), (5000, 1))
    found = evaluate(given, batches_of(small, np.zeros(5000, int), 1000))
    assert found.loss == pytest.approx(np.log1p(2 * np.exp(-9.0)), rel=1e-12)


def test_fewer_classes_than_outputs():
    """20 superclasses under a head of 99: counts for 20, and all outputs compete."""
    logits, labels = some_logits(200, 99)
    labels = labels % 20
    found = evaluate(given, batches_of(logits, labels, 64), classes=20)
    assert len(found.per_class) == 20
    assert found.top1 == pytest.approx((logits.argmax(axis=1) == labels).mean())
    with pytest.raises(DataError, match=r"label 20 in batch 1 \(counted from 0\) is not in the range 0 to 19"):
        evaluate(given, batches_of(logits[:4], np.array([0, 19, 20, 0]), 2), classes=20)


@pytest.mark.parametrize("label", [30, -1])
@pytest.mark.parametrize("classes", [None, 50])
def test_a_label_without_an_output(label, classes):
    logits, labels = some_logits(10)
    labels[7] = label
    with pytest.raises(DataError, match=rf"label {label} in batch 2 .* not in the range 0 to 29"):
        evaluate(given, batches_of(logits, labels, 3), classes=classes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_an_error_with_the_batch(value):
    logits, labels = some_logits(10)
    logits[7, 3] = value
    with pytest.raises(GluonAFFError, match=r"outputs for batch 2 .* not finite") as error:
        evaluate(given, batches_of(logits, labels, 3))
    assert "\n" not in str(error.value)


def test_no_images():
    with pytest.raises(DataError, match="no images to evaluate"):
        evaluate(given, [])


@pytest.mark.parametrize(("images", "expected"), [(40, 30 / 3), (10, 10 / 10)])
def test_speed_leaves_the_first_batch_out_where_there_are_several(monkeypatch, images, expected):
    """Batches of 10: the first takes 10 seconds to come, the others one."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def slow(batches):
        for number, batch in enumerate(batches):
            clock.now += 1 if number else 10
            yield batch

    logits, labels = some_logits(images)
    found = evaluate(given, slow(batches_of(logits, labels, 10)))
    assert found.images_per_second == pytest.approx(expected)


def test_a_batch_is_awaited_once_the_next_is_under_way():
    events = []

    def infer(images):
        number = len([event for event in events if "batch" in event])
        events.append(f"batch {number}")

        def awaited():
            events.append(f"logits of {number}")
            return images.reshape(len(images), -1)

        return awaited

    evaluate(infer, batches_of(*some_logits(40), 10))
    assert events == [
        "batch 0", "logits of 0", "batch 1", "batch 2", "logits of 1", "batch 3", "logits of 2", "logits of 3",
    ]  # fmt: skip


def test_pictures_in_class_folders_by_their_colour(tmp_path):
    """Known pictures, a classifier made by hand; two green ones lie in the folder for red."""
    colours = {"blue": (20, 30, 200), "green": (10, 190, 40), "red": (210, 20, 30)}
    rng = np.random.default_rng(0)
    for folder, painted in (
        [("blue", "blue")] * 3 + [("green", "green")] * 4 + [("red", "red")] + [("red", "green")] * 2
    ):
        (tmp_path / "val" / folder).mkdir(parents=True, exist_ok=True)
        noise = rng.normal(colours[painted], 20, (rng.integers(30, 60), rng.integers(30, 60), 3))
        image = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
        image.save(tmp_path / "val" / folder / f"{rng.integers(1 << 30)}.jpg", quality=95)
    data = validation_data(str(tmp_path), 32, 4, 2)
    infer = nearest_colour([colours[name] for name in data.class_list.ordered])
    found = evaluate(infer, data.batches, data.classes, data.images)
    assert found.per_class == [ClassCount(0, 3, 3), ClassCount(1, 4, 4), ClassCount(2, 3, 1)]
    assert (found.images, found.top1, found.top5) == (10, 0.8, 1.0)
