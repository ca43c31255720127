"""Training steps and validation against NumPy, and several devices against one."""

import math
import signal

import mxnet as mx
import numpy as np
import pytest

from gluon_aff.errors import TrainingError
from gluon_aff.gluon.networks.zoo import cifar_resnet
from gluon_aff.iteration import one_behind
from gluon_aff.training.loop import EpochProgress, Targets, Teacher, Training, train_epoch, validate
from gluon_aff.training.stopping import StopRequest

CLASSES = 10


def linear_network(contexts, seed=0):
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Flatten(), mx.gluon.nn.Dense(CLASSES, in_units=48))
    mx.random.seed(seed)
    net.initialize(mx.init.Normal(0.2), ctx=contexts)
    return net


def batch(n=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3, 4, 4)).astype("float32"), rng.integers(0, CLASSES, n)


def trainer_of(net, lr=0.1):
    return mx.gluon.Trainer(net.collect_params(), "nag", {"learning_rate": lr, "momentum": 0.9, "wd": 1e-4})


def train(net, trainer, batches, targets, weights, contexts, epoch, observer=None):
    """Metric and loss of an epoch."""
    progress = train_epoch(Training(net, trainer, targets, contexts), batches, weights, epoch, on_step=observer)
    return progress.metric, progress.loss


def nd(arrays):
    return tuple(map(mx.nd.array, arrays))


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("mixup", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_metric_and_loss_in_numpy(mixup, smoothing):
    net = linear_network([mx.cpu()])
    weight, bias = (p.data().asnumpy() for p in net.collect_params().values())
    images, labels = batch()
    share = 0.3 if mixup else 1.0
    target = np.full((8, CLASSES), smoothing / CLASSES)
    target[np.arange(8), labels] += 1 - smoothing
    mixed, target = (share * a + (1 - share) * a[::-1] for a in (images, target))
    probability = softmax(mixed.reshape(8, -1) @ weight.T + bias)
    metric, loss = train(
        net, trainer_of(net), [nd((images, labels))], Targets(CLASSES, smoothing, mixup), [share], [mx.cpu()], 0
    )
    assert loss == pytest.approx(-(target * np.log(probability)).sum(axis=1).mean(), rel=1e-5)
    rmse = np.sqrt(((probability - target) ** 2).mean())
    accuracy = (probability.argmax(axis=1) == labels).mean()
    assert metric == pytest.approx(rmse if mixup else accuracy, rel=1e-5)


def test_classes_beyond_float16_stay_themselves():
    """Dense labels are cast, as in the original; no network of float16 runs on a CPU."""
    labels = mx.nd.array([2047, 2049, 4097, 9999])
    images = mx.nd.zeros((4, 3, 2, 2))
    x, target = Targets(10_000, 0.0, False, "float16").pair(images, labels, 1.0)
    assert x.dtype == np.float16
    np.testing.assert_array_equal(target.asnumpy(), labels.asnumpy())
    assert Targets(10_000, 0.1, False, "float16").pair(images, labels, 1.0)[1].dtype == np.float16


def test_epoch_figures_are_means_over_batches():
    net = linear_network([mx.cpu()])
    batches = [nd(batch(seed=seed)) for seed in range(3)]
    frozen = trainer_of(net, lr=0.0)
    targets = Targets(CLASSES, 0.1, True)
    single = [train(net, frozen, [b], targets, [0.5], [mx.cpu()], 0) for b in batches]
    together = train(net, frozen, batches, targets, [0.5] * 3, [mx.cpu()], 0)
    assert together == pytest.approx(tuple(np.mean(single, axis=0)), rel=1e-6)


def test_two_devices_train_as_one_with_the_same_global_batch():
    images, labels = batch(16)
    results = []
    for contexts in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]):
        net = linear_network(contexts)
        train(net, trainer_of(net), [nd((images, labels))] * 3, Targets(CLASSES, 0.1, False), [1.0] * 3, contexts, 0)
        results.append([p.data(contexts[0]).asnumpy() for p in net.collect_params().values()])
    for one, two in zip(*results):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)


def test_two_devices_train_the_fused_network_as_one_where_their_slices_agree():
    """BatchNorm sees its own device's slice; with equal slices its statistics are those of the whole batch."""
    rng = np.random.default_rng(0)
    half, half_labels = rng.normal(size=(4, 3, 32, 32)).astype("float32"), rng.integers(0, CLASSES, 4)
    images, labels = np.concatenate([half, half]), np.concatenate([half_labels, half_labels])
    results = []
    for contexts in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]):
        mx.random.seed(1)
        net = cifar_resnet("ASKCFuse", 1, 1, classes=CLASSES)
        net.initialize(mx.init.Xavier(), ctx=contexts)
        net.hybridize()
        figures = train(
            net, trainer_of(net, 0.05), [nd((images, labels))], Targets(CLASSES, 0.1, False), [1.0], contexts, 0
        )
        weights = [p.data(contexts[-1]).asnumpy() for p in net.collect_params().values() if p.grad_req != "null"]
        results.append((figures, weights))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-4)
    for one, two in zip(results[0][1], results[1][1]):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=2e-4)


def test_mixup_stays_within_a_devices_slice():
    """The original mixes each device's slice with its own reverse (train_cifar.py 333, 339)."""
    contexts = [mx.cpu(0), mx.cpu(1)]
    images, labels = batch(8)
    net = linear_network(contexts)
    weight, bias = (p.data(contexts[0]).asnumpy() for p in net.collect_params().values())
    _, loss = train(net, trainer_of(net), [nd((images, labels))], Targets(CLASSES, 0.0, True), [0.3], contexts, 0)
    hot = np.eye(CLASSES)[labels]
    expected = []
    for part in (slice(0, 4), slice(4, 8)):
        x, y = (0.3 * a[part] + 0.7 * a[part][::-1] for a in (images, hot))
        expected.append(-(y * np.log(softmax(x.reshape(4, -1) @ weight.T + bias))).sum(axis=1).mean())
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("contexts", [[mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]], ids=["one", "two"])
def test_validation_counts_each_image_once(contexts):
    """Last batch smaller than the devices included."""
    net = linear_network(contexts)
    images, labels = batch(9)
    weight, bias = (p.data(contexts[0]).asnumpy() for p in net.collect_params().values())
    right = (images.reshape(9, -1) @ weight.T + bias).argmax(axis=1)
    labels[:5], labels[5:] = right[:5], (right[5:] + 1) % CLASSES
    batches = [nd((images[i : i + 4], labels[i : i + 4])) for i in (0, 4, 8)]
    assert validate(net, batches, contexts) == pytest.approx(5 / 9)


def test_a_loss_that_is_not_finite_stops_and_names_the_step():
    net = linear_network([mx.cpu()])
    good, bad = batch(), batch()
    bad[0][0, 0, 0, 0] = math.nan
    with pytest.raises(TrainingError, match="the loss is nan at epoch 7, step 1"):
        train(
            net,
            trainer_of(net),
            [nd(good), nd(bad), nd(good)],
            Targets(CLASSES, 0.1, False),
            [1.0] * 3,
            [mx.cpu()],
            7,
        )


def test_figures_are_awaited_one_step_behind():
    seen = []

    def steps():
        for step in range(4):
            seen.append(f"start {step}")
            yield step

    for step in one_behind(steps()):
        seen.append(f"await {step}")
    assert seen == ["start 0", "start 1", "await 0", "start 2", "await 1", "start 3", "await 2", "await 3"]
    assert list(one_behind([])) == []


def test_distillation_in_numpy():
    """GluonCV's loss: T^2 (1 - h) of the cross-entropy at temperature T, h of the one with the labels."""
    net, teacher = linear_network([mx.cpu()], 0), linear_network([mx.cpu()], 1)

    images, labels = batch()
    logits, taught = (n(mx.nd.array(images)).asnumpy() for n in (net, teacher))
    targets = Targets(CLASSES, 0.0, False, teacher=Teacher(teacher, 20.0, 0.3))
    _, loss = train(net, trainer_of(net), [nd((images, labels))], targets, [1.0], [mx.cpu()], 0)
    soft = -(softmax(taught / 20) * np.log(softmax(logits / 20))).sum(axis=1)
    hard = -np.log(softmax(logits))[np.arange(8), labels]
    assert loss == pytest.approx((0.7 * 400 * soft + 0.3 * hard).mean(), rel=1e-4)


def test_the_observer_sees_each_step_with_its_learning_rate():
    net = linear_network([mx.cpu()])
    batches = [nd(batch(seed=seed)) for seed in range(4)]
    schedule = mx.lr_scheduler.FactorScheduler(step=1, factor=0.5, base_lr=0.1)
    trainer = mx.gluon.Trainer(net.collect_params(), "nag", {"lr_scheduler": schedule})
    seen = []
    metric, _ = train(
        net, trainer, batches, Targets(CLASSES, 0.1, True), [0.5] * 4, [mx.cpu()], 0, lambda *step: seen.append(step)
    )
    assert [step for step, _, _ in seen] == [0, 1, 2, 3]
    assert seen[-1][1] == pytest.approx(metric)
    rates = [rate for _, _, rate in seen]
    assert rates == pytest.approx([0.1, 0.05, 0.025, 0.0125])


def weights_of(net):
    return [p.data().asnumpy() for p in net.collect_params().values()]


def test_an_epoch_in_two_parts_is_the_epoch():
    """Bit for bit: what is stopped goes on with its sums and the batches left."""
    batches, shares, targets = [nd(batch(seed=seed)) for seed in range(6)], np.full(6, 0.3), Targets(CLASSES, 0.1, True)
    whole = linear_network([mx.cpu()])
    expected = train_epoch(Training(whole, trainer_of(whole), targets, [mx.cpu()]), batches, shares, 0)
    net = linear_network([mx.cpu()])
    trainer, stop = trainer_of(net), StopRequest()

    def ask(step, metric, rate):
        stop.signal = signal.SIGTERM if step == 1 else stop.signal

    first = train_epoch(Training(net, trainer, targets, [mx.cpu()], stop), batches, shares, 0, on_step=ask)
    assert first.steps == 3  # one was under way
    rest = batches[first.steps :]
    done = train_epoch(Training(net, trainer, targets, [mx.cpu()]), rest, shares, 0, first)
    assert (done.steps, done.metric_sum, done.loss_sum) == (6, expected.metric_sum, expected.loss_sum)
    assert done.seconds > first.seconds
    for one, two in zip(weights_of(net), weights_of(whole)):
        np.testing.assert_array_equal(one, two)
    again = train_epoch(Training(net, trainer, targets, [mx.cpu()]), [], shares, 0, done)  # nothing left to do
    assert again.steps == 6


def test_progress_is_the_mean_of_what_was_done():
    progress = EpochProgress(steps=4, metric_sum=1.0, loss_sum=8.0)
    assert (progress.metric, progress.loss) == (0.25, 2.0)
