"""Training steps against NumPy, several devices against one, and what a learner keeps."""

import math
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest

from gluon_aff.engines import Classification, Devices, Distillation, LearnerSettings, Optimizer, Start
from gluon_aff.errors import InputError
from gluon_aff.gluon.cluster import Cluster
from gluon_aff.gluon.learner import GluonLearner, learner
from gluon_aff.gluon.networks.zoo import cifar_resnet, get_model
from gluon_aff.gluon.objectives import Classes, Masks, soft_iou_loss
from gluon_aff.gluon.parameters import parameter_arrays
from gluon_aff.models import MODELS, Architecture
from gluon_aff.weights.params_format import write_params_file

CLASSES = 10
CPUS = {1: [mx.cpu(0)], 2: [mx.cpu(0), mx.cpu(1)]}
SMALL = Architecture("small", "cifar_resnet", {"askc_type": "AFF", "blocks": 1, "channel_times": 1, "classes": 4}, 32)


def linear_network(contexts=CPUS[1], seed=0):
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Flatten(), mx.gluon.nn.Dense(CLASSES, in_units=48))
    mx.random.seed(seed)
    net.initialize(mx.init.Normal(0.2), ctx=contexts)
    return net


def batch(n=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3, 4, 4)).astype("float32"), rng.integers(0, CLASSES, n).astype("float32")


def learner_of(net, target, contexts=CPUS[1], optimizer="nag", **options):
    options = options or {"learning_rate": 0.1, "momentum": 0.9, "wd": 1e-4}
    trainer = mx.gluon.Trainer(net.collect_params(), optimizer, options)
    return GluonLearner(net, trainer, target, contexts, Cluster(), None)


def classes(smoothing=0.0, mixup=False):
    return Classes(Classification(CLASSES, smoothing, mixup))


def train(net, target, batches, weights, contexts=CPUS[1], **options):
    """Mean metric and loss of a few steps."""
    trained = learner_of(net, target, contexts, **options)
    figures = [trained.step(*each, weight, False)() for each, weight in zip(batches, weights)]
    return np.mean([each.metric for each in figures]), np.mean([each.loss for each in figures])


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("mixup", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_metric_and_loss_in_numpy(mixup, smoothing):
    net = linear_network()
    weight, bias = (p.data().asnumpy() for p in net.collect_params().values())
    images, labels = batch()
    share = 0.3 if mixup else 1.0
    target = np.full((8, CLASSES), smoothing / CLASSES)
    target[np.arange(8), labels.astype(int)] += 1 - smoothing
    mixed, target = (share * a + (1 - share) * a[::-1] for a in (images, target))
    probability = softmax(mixed.reshape(8, -1) @ weight.T + bias)
    metric, loss = train(net, classes(smoothing, mixup), [(images, labels)], [share])
    assert loss == pytest.approx(-(target * np.log(probability)).sum(axis=1).mean(), rel=1e-5)
    rmse = np.sqrt(((probability - target) ** 2).mean())
    accuracy = (probability.argmax(axis=1) == labels).mean()
    assert metric == pytest.approx(rmse if mixup else accuracy, rel=1e-5)


def test_two_devices_train_as_one_with_the_same_global_batch():
    results = []
    for contexts in CPUS.values():
        net = linear_network(contexts)
        train(net, classes(0.1), [batch(16)] * 3, [1.0] * 3, contexts)
        results.append([p.data(contexts[0]).asnumpy() for p in net.collect_params().values()])
    for one, two in zip(*results):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)


def test_two_devices_train_the_fused_network_as_one_where_their_slices_agree():
    """BatchNorm sees its own device's slice; with equal slices its statistics are those of the whole batch."""
    rng = np.random.default_rng(0)
    half, half_labels = rng.normal(size=(4, 3, 32, 32)).astype("float32"), rng.integers(0, CLASSES, 4)
    images, labels = np.concatenate([half, half]), np.concatenate([half_labels, half_labels])
    results = []
    for contexts in CPUS.values():
        mx.random.seed(1)
        net = cifar_resnet("ASKCFuse", 1, 1, classes=CLASSES)
        net.initialize(mx.init.Xavier(), ctx=contexts)
        net.hybridize()
        options = {"learning_rate": 0.05, "momentum": 0.9, "wd": 1e-4}
        figures = train(net, classes(0.1), [(images, labels)], [1.0], contexts, **options)
        weights = [p.data(contexts[-1]).asnumpy() for p in net.collect_params().values() if p.grad_req != "null"]
        results.append((figures, weights))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-4)
    for one, two in zip(results[0][1], results[1][1]):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=2e-4)


FLOAT64 = LearnerSettings(
    SMALL, (4, 3, 32, 32), Classification(4, 0.1, True), Optimizer("nag", 0.1, 1e-4, 0.9), 1, dtype="float64"
)


def test_float64_trains_from_the_images_to_the_weights():
    trained = learner(FLOAT64, Devices("cpu", (0,)), Cluster())
    before = trained.parameters()["output.weight"].copy()
    images = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype("float32")
    assert np.isfinite(trained.step(images, np.arange(4, dtype="float32"), 0.5, False)().loss)
    after = trained.parameters()
    assert {array.dtype for array in after.values()} == {np.dtype("float64")}
    change = after["output.weight"] - before
    assert (change != 0).any()
    assert (after["output.weight"].astype("float32") != after["output.weight"]).any()
    validated = trained.validated()
    assert validated.infer(images)().shape == (4, 4)
    for name, array in validated.parameters().items():
        np.testing.assert_array_equal(array, after[name])


def test_the_teacher_has_the_networks_type(tmp_path):
    teacher, path = get_model("resnet20_b1", classes=4, ctx=mx.cpu()), str(tmp_path / "teacher.params")
    teacher(mx.nd.zeros((1, 3, 32, 32)))
    write_params_file(path, parameter_arrays(teacher))
    objective = Classification(4, distillation=Distillation("resnet20_b1", path, 2.0, 0.5))
    trained = learner(replace(FLOAT64, objective=objective), Devices("cpu", (0,)), Cluster())
    images = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype("float32")
    assert np.isfinite(trained.step(images, np.arange(4, dtype="float32"), 1.0, False)().loss)


@pytest.mark.parametrize(
    ("architecture", "size"), [(SMALL, 32), (MODELS["afi_resnet50"].architecture(4), 64)], ids=["aff", "afi"]
)
def test_average_pools_train_without_a_line_of_mxnets_and_to_the_same_bits(architecture, size, capfd):
    settings = replace(FLOAT64, architecture=architecture, dtype="float32", batch_shape=(3, 3, size, size))

    def first_step(excluding):
        trained = learner(settings, Devices("cpu", (0,)), Cluster())
        if excluding:
            trained.net.apply(exclude_padding)
        images = np.random.default_rng(0).normal(size=settings.batch_shape).astype("float32")
        trained.step(images, np.arange(3, dtype="float32"), 0.5, False)()
        arrays = trained.parameters()
        return arrays, "forward_scoring" in capfd.readouterr().err

    def exclude_padding(block):
        if isinstance(block, mx.gluon.nn.AvgPool2D):
            block._kwargs["count_include_pad"] = False

    (silent, said), (talkative, said_otherwise) = first_step(False), first_step(True)
    assert (said, said_otherwise) == (False, True)
    for name, array in silent.items():
        np.testing.assert_array_equal(array, talkative[name])


def test_float64_of_several_workers_is_refused():
    with pytest.raises(InputError, match="--dtype float64: several workers exchange float32 and float16 only"):
        learner(FLOAT64, Devices("cpu", (0,)), replace(Cluster(), size=2))


def test_a_step_counts_the_images_of_all_workers():
    """The other worker of two has sent a gradient of 0 here, and the same figures."""
    moved, figures = [], []
    for cluster in (Cluster(), Cluster(size=2, add=lambda array: 2 * array)):
        net = linear_network()
        weight = net[1].weight
        before = weight.data().asnumpy()
        trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
        figures.append(GluonLearner(net, trainer, classes(), CPUS[1], cluster, None).step(*batch(), 1.0, False)())
        moved.append(weight.data().asnumpy() - before)
    np.testing.assert_allclose(moved[1], moved[0] / 2, atol=1e-7)
    assert figures[0] == figures[1]


def test_mixup_stays_within_a_devices_slice():
    """The original mixes each device's slice with its own reverse (train_cifar.py 333, 339)."""
    images, labels = batch(8)
    net = linear_network(CPUS[2])
    weight, bias = (p.data(CPUS[2][0]).asnumpy() for p in net.collect_params().values())
    _, loss = train(net, classes(mixup=True), [(images, labels)], [0.3], CPUS[2])
    hot = np.eye(CLASSES)[labels.astype(int)]
    expected = []
    for part in (slice(0, 4), slice(4, 8)):
        x, y = (0.3 * a[part] + 0.7 * a[part][::-1] for a in (images, hot))
        expected.append(-(y * np.log(softmax(x.reshape(4, -1) @ weight.T + bias))).sum(axis=1).mean())
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)


def test_distillation_in_numpy():
    """GluonCV's loss: T^2 (1 - h) of the cross-entropy at temperature T, h of the one with the labels."""
    net, teacher = linear_network(seed=0), linear_network(seed=1)
    norm = mx.gluon.nn.BatchNorm(in_channels=CLASSES)  # which the batch's statistics would change
    norm.initialize()
    teacher.add(norm)
    images, labels = batch()
    logits, taught = (n(mx.nd.array(images)).asnumpy() for n in (net, teacher))
    objective = Classification(CLASSES, distillation=Distillation("", "", 2.0, 0.3))
    _, loss = train(net, Classes(objective, teacher=teacher), [(images, labels)], [1.0])
    soft = -(softmax(taught / 2) * np.log(softmax(logits / 2))).sum(axis=1)
    hard = -np.log(softmax(logits))[np.arange(8), labels.astype(int)]
    assert loss == pytest.approx((0.7 * 4 * soft + 0.3 * hard).mean(), rel=1e-4)


def test_the_learning_rate_is_that_of_the_last_step():
    schedule = mx.lr_scheduler.FactorScheduler(step=1, factor=0.5, base_lr=0.1)
    trained = learner_of(linear_network(), classes(0.1, True), lr_scheduler=schedule)
    rates = []
    for seed in range(4):
        trained.step(*batch(seed=seed), 0.5, False)
        rates.append(trained.learning_rate)
    assert rates == pytest.approx([0.1, 0.05, 0.025, 0.0125])


def test_a_request_to_stop_comes_back_with_the_figures():
    trained = learner_of(linear_network(), classes())
    assert [trained.step(*batch(), 1.0, asked)().asked_to_stop for asked in (False, True)] == [False, True]


def test_weights_that_are_not_finite_are_found_behind_the_step():
    """The loss of the step that spoilt them is from before it."""
    trained = learner_of(linear_network(), classes())
    assert trained.end_epoch()
    figures = trained.step(*batch(), 1.0, False)()
    assert math.isfinite(figures.loss)
    trained.set_learning_rate(math.inf)
    assert math.isfinite(trained.step(*batch(), 1.0, False)().loss)
    assert not trained.end_epoch()


def test_figures_are_iou_and_soft_iou_of_the_batches():
    net = mx.gluon.nn.Conv2D(1, 1, in_channels=3)
    net.initialize(mx.init.Normal(0.5))
    dice = np.random.default_rng(2)
    batches = [(dice.normal(size=(2, 3, 4, 4)), dice.integers(0, 2, (2, 1, 4, 4))) for _ in range(3)]
    given = [tuple(each.astype("float32") for each in pair) for pair in batches]
    metric, soft = train(net, Masks(), given, np.ones(3), optimizer="adagrad", learning_rate=0.0)
    weight, bias = net.weight.data().asnumpy().reshape(3), net.bias.data().asscalar()
    ious, losses = [], []
    for images, masks in batches:
        logits = np.einsum("nchw,c->nhw", images, weight)[:, None] + bias
        ious.append(((logits > 0) & (masks == 1)).sum() / ((logits > 0) | (masks == 1)).sum())
        p = 1 / (1 + np.exp(-logits))
        losses.append(1 - ((p * masks).sum() + 1) / ((p + masks - p * masks).sum() + 1))
    assert metric == pytest.approx(np.mean(ious), rel=1e-5)
    assert soft == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_step_is_adagrads():
    """The sister project divides the gradient of the mean loss by the batch size once more; so do we."""
    net = mx.gluon.nn.Conv2D(1, 1, in_channels=3, use_bias=False)
    net.initialize(mx.init.Normal(0.5))
    before = net.weight.data().asnumpy().copy()
    images, masks = np.random.default_rng(3).normal(size=(4, 3, 4, 4)).astype("float32"), np.ones((4, 1, 4, 4), "f")
    with mx.autograd.record():
        soft_iou_loss(net(mx.nd.array(images)), mx.nd.array(masks)).backward()
    gradient = net.weight.grad().asnumpy() / 4
    train(net, Masks(), [(images, masks)], np.ones(1), optimizer="adagrad", learning_rate=0.01, wd=1e-4)
    expected = before - 0.01 * (gradient / np.sqrt(gradient**2 + 1e-7) + 1e-4 * before)
    np.testing.assert_allclose(net.weight.data().asnumpy(), expected, rtol=1e-5)


# Learners made from settings


def small(devices=1, **changed):
    optimizer = Optimizer("nag", 0.05, 1e-4, 0.9)
    settings = LearnerSettings(SMALL, (4, 3, 32, 32), Classification(4), optimizer, **{"seed": 1, **changed})
    return learner(settings, Devices("cpu", tuple(range(devices))), Cluster())


def steps(trained, seeds):
    """Train, other images on each device."""
    for seed in seeds:
        dice = np.random.default_rng(seed)
        images = dice.normal(size=(8, 3, 32, 32)) * np.linspace(0.5, 2, 8)[:, None, None, None]
        trained.step(images.astype("float32"), dice.integers(0, 4, 8).astype("float32"), 1.0, False)


def everything(trained):
    return [p.data(c).asnumpy() for p in trained.net.collect_params().values() for c in trained.contexts]


@pytest.mark.parametrize("devices", CPUS)
def test_a_learner_goes_on_to_the_bit_from_its_state(devices):
    trained = small(devices)
    steps(trained, range(2))
    state = trained.state()
    assert state.updates == 2
    assert len({key.partition(":")[0] for key in state.device_statistics}) == (2 if devices == 2 else 0)
    steps(trained, range(2, 4))
    other = small(devices)
    other.restore(state, "x.params")
    steps(other, range(2, 4))
    for one, two in zip(everything(trained), everything(other)):
        np.testing.assert_array_equal(one, two)
    for name, array in trained.state().optimizer.items():
        np.testing.assert_array_equal(other.state().optimizer[name], array)
    assert other.state().updates == 4


def test_parameters_are_means_over_the_devices():
    trained = small(2)
    steps(trained, range(2))
    found = trained.parameters()
    statistics = trained.state().device_statistics
    names = {name for name in found if name.endswith(("running_mean", "running_var"))}
    image = {"features.0.gamma", "features.0.beta"}  # which the hosts do not train
    assert {key.partition(":")[2] for key in statistics} == names | image
    for name in names:
        first, second = (statistics[f"{device}:{name}"] for device in (0, 1))
        assert (first != second).any()
        np.testing.assert_allclose(found[name], (first + second) / 2, rtol=1e-6)
    assert trained.validated().infer(np.zeros((3, 3, 32, 32), "float32"))().shape == (3, 4)


def test_the_state_of_another_network_is_refused():
    trained = small()
    steps(trained, range(1))
    state = trained.state()
    with pytest.raises(InputError, match=r"x\.params does not fit"):
        small().restore(
            replace(state, parameters={name: array[:1] for name, array in state.parameters.items()}), "x.params"
        )
    with pytest.raises(KeyError):
        small().restore(replace(state, optimizer=dict(list(state.optimizer.items())[1:])), "x.params")


def test_what_is_validated_has_the_parameters_and_leaves_the_learner_as_it_is():
    """With its running statistics; the trained network itself never infers."""
    trained, other = small(), small()
    steps(trained, range(2))
    steps(other, range(2))
    images = np.random.default_rng(9).normal(size=(3, 3, 32, 32)).astype("float32")
    logits = trained.validated().infer(images)()
    expected = cifar_resnet(**SMALL.settings)
    expected.initialize()
    expected(mx.nd.array(images))
    for name, parameter in expected._collect_params_with_prefix().items():
        parameter.set_data(mx.nd.array(trained.parameters()[name]))
    np.testing.assert_allclose(logits, expected(mx.nd.array(images)).asnumpy(), rtol=1e-4, atol=1e-5)
    steps(trained, range(2, 4))
    steps(other, range(2, 4))
    for one, two in zip(everything(trained), everything(other)):
        np.testing.assert_array_equal(one, two)


def test_a_seed_decides_on_the_numbers_that_follow():
    """Such as dropout's."""

    def drawn(seed):
        trained.seed(seed)
        return mx.nd.random.uniform(shape=4).asnumpy().tolist()

    trained = small()
    assert drawn(5) == drawn(5) != drawn(6)


def test_the_same_seed_starts_the_same_and_a_file_replaces_it(tmp_path):
    first, again = small().parameters(), small().parameters()
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)
    drawn = [name for name, array in first.items() if array.ndim > 1]
    other = small(seed=2).parameters()
    assert all((other[name] != first[name]).any() for name in drawn)
    path = str(tmp_path / "a.params")
    write_params_file(path, {**other, "more": np.zeros(1, "f")})
    started = small(start=Start(path, ignore_extra=True)).parameters()
    for name, array in other.items():
        np.testing.assert_array_equal(started[name], array)
    with pytest.raises(InputError, match="unexpected: more"):
        small(start=Start(path))


def test_running_statistics_are_read_once_they_are_computed(monkeypatch):
    """MXNet does not wait for those of a network with static memory, and the reader here asks for nothing else."""
    arguments = {"askc_type": "AFF", "layers": (1, 1, 1, 1), "classes": 4}
    settings = LearnerSettings(
        Architecture("small", "imagenet_resnet", arguments, 64),
        (4, 3, 64, 64),
        Classification(4),
        Optimizer("nag", 0.01, 1e-4, 0.9),
        seed=0,
        static=True,
        start=Start(),
    )
    trained = learner(settings, Devices(), Cluster())

    def statistics(net):
        return {each.name: each.data().asnumpy() for each in net.collect_params(".*running").values()}

    monkeypatch.setattr("gluon_aff.gluon.learner.parameter_arrays", statistics)
    images = np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype("float32")
    trained.step(images, np.arange(4, dtype="float32"), 1.0, False)
    found = trained.parameters()
    mx.nd.waitall()
    for name, array in statistics(trained.net).items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
