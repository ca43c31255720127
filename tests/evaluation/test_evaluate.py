"""Figures against scikit-learn, NumPy and the validation of the training loop."""

from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

from gluon_aff.data.cifar import load_cifar
from gluon_aff.data.cifar_batches import validation_batches
from gluon_aff.data.imagenet import FOLDER_MEAN, FOLDER_STD, validation_data
from gluon_aff.errors import DataError, GluonAFFError
from gluon_aff.evaluation import evaluate as module
from gluon_aff.evaluation.evaluate import ClassCount, evaluate
from gluon_aff.gluon.cluster import Cluster
from gluon_aff.gluon.inference import inference
from gluon_aff.gluon.network import GluonNetwork
from gluon_aff.gluon.networks.zoo import cifar_resnet
from gluon_aff.training.scores import top1_accuracy

CPU = [mx.cpu()]
CPUS = [mx.cpu(0), mx.cpu(1)]


class Logits(mx.gluon.HybridBlock):
    """Network whose logits are the values of its input, so that a test can choose them; its one weight is 1."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.one = self.params.get("one", shape=(1,), init="ones")

    def hybrid_forward(self, F, x, one):
        return F.broadcast_mul(F.flatten(x), one)


class NearestColour(mx.gluon.HybridBlock):
    """Classifier by hand: the class is the one whose colour is nearest to the image's mean; no parameters."""

    def __init__(self, colours):
        super().__init__()
        self.colours = ((np.array(colours) - FOLDER_MEAN) / FOLDER_STD).tolist()

    def hybrid_forward(self, F, x):
        means = F.mean(x, axis=(2, 3))
        targets = [F.concat(*(F.full((1, 1), value) for value in colour), dim=1) for colour in self.colours]
        return -F.concat(*(F.sum(F.square(F.broadcast_sub(means, t)), 1, keepdims=True) for t in targets), dim=1)


def logits_network(contexts=CPU, dtype="float32"):
    net = Logits()
    net.cast(dtype)
    net.initialize(ctx=contexts)
    return net


def validate(net, batches, contexts):
    """Top-1 accuracy as training has it."""
    return top1_accuracy(GluonNetwork(net, contexts), batches, Cluster())


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
@pytest.mark.parametrize("contexts", [CPU, CPUS], ids=["one device", "two devices"])
def test_figures_are_those_of_scikit_learn_and_of_validate(batch_size, contexts):
    logits, labels = some_logits()
    net, batches = logits_network(contexts), batches_of(logits, labels, batch_size)
    found = evaluate(inference(net, contexts), batches)
    exact = logits.astype(np.float64)
    every = np.arange(30)
    probability = np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True)
    assert found.images == 101
    assert found.top1 == pytest.approx(accuracy_score(labels, logits.argmax(axis=1)), abs=1e-12)
    assert found.top5 == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=every), abs=1e-12)
    assert found.loss == pytest.approx(log_loss(labels, probability, labels=every), rel=1e-12)
    assert found.top1 == validate(net, batches, contexts)
    assert found.images_per_second > 0
    assert 0 < found.top1 < found.top5 < 1


def test_counts_per_class():
    logits, labels = some_logits()
    labels = labels // 2 * 2  # no image of an odd class
    found = evaluate(inference(logits_network(), CPU), batches_of(logits, labels, 10))
    correct = logits.argmax(axis=1) == labels
    assert found.per_class == [
        ClassCount(label, int((labels == label).sum()), int(correct[labels == label].sum())) for label in range(30)
    ]
    assert sum(count.correct for count in found.per_class) / 101 == pytest.approx(found.top1)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_of_equal_logits_the_lowest_label_comes_first(dtype):
    """As in argmax. 1 and 1 + 2**-13 differ in float32 and not in float16."""
    row = np.zeros(9, "float32")
    near = np.array([1, 1 + 2**-13, 0, 0, 0, 0, 0, 0, 0], "float32")
    net = logits_network(dtype=dtype)
    batches = batches_of(np.stack([row, row, row, row, near, near]), np.array([0, 1, 4, 5, 0, 1]), 4)
    found = evaluate(inference(net, CPU), batches)
    first = [count.correct for count in found.per_class]
    assert first[0] == (1 if dtype == "float32" else 2)
    assert first[1] == (1 if dtype == "float32" else 0)
    assert found.top5 == pytest.approx(5 / 6)
    assert found.top1 == validate(net, batches, CPU)


def test_many_ties_agree_with_validate():
    rng = np.random.default_rng(1)
    logits = rng.integers(0, 4, (200, 30)).astype("float32")
    labels = rng.integers(0, 30, 200)
    net, batches = logits_network(), batches_of(logits, labels, 64)
    found = evaluate(inference(net, CPU), batches)
    assert found.top1 == validate(net, batches, CPU)
    order = np.argsort(-logits, axis=1, kind="stable")
    assert found.top5 == pytest.approx((order[:, :5] == labels[:, np.newaxis]).any(axis=1).mean())


def test_a_float16_network_is_given_float16_images():
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.BatchNorm(), Logits())  # on the CPU, MXNet has no dense layer and no convolution of float16
    net.initialize()
    batches = batches_of(*some_logits(), 40)
    single = evaluate(inference(net, CPU), batches)
    net.cast("float16")
    half = evaluate(inference(net, CPU), batches)
    assert half.loss == pytest.approx(single.loss, rel=1e-2)
    assert half.loss != single.loss


def test_top5_of_three_classes_is_all():
    logits, labels = some_logits(20, 3)
    assert evaluate(inference(logits_network(), CPU), batches_of(logits, labels, 8)).top5 == 1.0


def test_loss_of_large_logits_and_of_many_images():
    logits = np.array([[60000, -60000, 0], [-60000, 60000, 60000]], "float32")
    found = evaluate(inference(logits_network(dtype="float16"), CPU), batches_of(logits, np.array([1, 2]), 2))
    assert found.loss == pytest.approx((119_936 + np.log(2)) / 2, abs=100)  # 60000 is 59968 or 60000 in float16
    small = np.tile(np.array([[9, 0, 0]], "float32"), (5000, 1))
    found = evaluate(inference(logits_network(), CPU), batches_of(small, np.zeros(5000, int), 1000))
    assert found.loss == pytest.approx(np.log1p(2 * np.exp(-9.0)), rel=1e-12)


def test_fewer_classes_than_outputs():
    """20 superclasses under a head of 99: counts for 20, and all outputs compete."""
    logits, labels = some_logits(200, 99)
    labels = labels % 20
    found = evaluate(inference(logits_network(), CPU), batches_of(logits, labels, 64), classes=20)
    assert len(found.per_class) == 20
    assert found.top1 == pytest.approx((logits.argmax(axis=1) == labels).mean())
    with pytest.raises(DataError, match=r"label 20 in batch 1 \(counted from 0\) is none of 0 to 19"):
        evaluate(inference(logits_network(), CPU), batches_of(logits[:4], np.array([0, 19, 20, 0]), 2), classes=20)


@pytest.mark.parametrize("label", [30, -1])
@pytest.mark.parametrize("classes", [None, 50])
def test_a_label_without_an_output(label, classes):
    logits, labels = some_logits(10)
    labels[7] = label
    with pytest.raises(DataError, match=rf"label {label} in batch 2 .* none of 0 to 29"):
        evaluate(inference(logits_network(), CPU), batches_of(logits, labels, 3), classes=classes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_an_error_with_the_batch(value):
    logits, labels = some_logits(10)
    logits[7, 3] = value
    with pytest.raises(GluonAFFError, match=r"outputs for batch 2 .* not finite") as error:
        evaluate(inference(logits_network(), CPU), batches_of(logits, labels, 3))
    assert "\n" not in str(error.value)


def test_no_images():
    with pytest.raises(DataError, match="no images to evaluate"):
        evaluate(inference(logits_network(), CPU), [])


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
    found = evaluate(inference(logits_network(), CPU), slow(batches_of(logits, labels, 10)))
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


@pytest.mark.parametrize("contexts", [CPU, CPUS], ids=["one device", "two devices"])
def test_a_fused_network_has_the_accuracy_that_validate_gives(few_shapes, contexts):
    data = load_cifar("cifar100", False, data_dir=few_shapes)
    mx.random.seed(2)
    net = cifar_resnet("ASKCFuse", 1, 1, classes=20)
    net.initialize(mx.init.Xavier(), ctx=contexts)
    net.hybridize()
    found = evaluate(inference(net, contexts), validation_batches(data, 33), classes=20, total=len(data))
    assert found.images == 100
    assert found.top1 == pytest.approx(validate(net, validation_batches(data, 33), contexts), abs=1e-7)
    assert [count.images for count in found.per_class] == [5] * 20


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
    net = NearestColour([colours[name] for name in data.folders])
    found = evaluate(inference(net, CPU), data.batches, data.classes, data.images)
    assert found.per_class == [ClassCount(0, 3, 3), ClassCount(1, 4, 4), ClassCount(2, 3, 1)]
    assert (found.images, found.top1, found.top5) == (10, 0.8, 1.0)
