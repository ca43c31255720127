"""Losses, metrics and targets against MXNet's, which are held against NumPy."""

import mxnet as mx
import numpy as np
import pytest
import torch
from shared_by_tests.masks_by_hand import PICTURES

from gluon_aff.engines import Classification, Distillation, Segmentation
from gluon_aff.errors import InputError
from gluon_aff.gluon import objectives as gluon_objectives
from gluon_aff.gluon.imports import import_gluoncv
from gluon_aff.gluon.mixup import dense_labels as gluon_dense_labels
from gluon_aff.gluon.mixup import mixup as gluon_mixup
from gluon_aff.pytorch import get_model, save_params
from gluon_aff.pytorch.objectives import Classes, Masks, dense_labels, mixup, soft_iou_loss, task_of

CLASSES = 5


def numbers(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape).astype("float32")


def labels(n=6):
    return np.random.RandomState(1).randint(0, CLASSES, n).astype("float32")


def both(*arrays):
    return [mx.nd.array(array) for array in arrays], [torch.from_numpy(array) for array in arrays]


@pytest.mark.parametrize("eta", [0.0, 0.1, 1.0])
def test_dense_labels(eta):
    (theirs,), (ours,) = both(labels())
    expected = gluon_dense_labels(theirs, CLASSES, eta).asnumpy()
    np.testing.assert_allclose(dense_labels(ours, CLASSES, eta).numpy(), expected, rtol=1e-6)
    elsewhere = dense_labels(ours.to("meta", torch.float64), CLASSES, eta)
    assert (elsewhere.device.type, elsewhere.dtype) == ("meta", torch.float64)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1e-40, 1.0])
def test_mixup(weight):
    (theirs,), (ours,) = both(numbers(6, 3, 2, 2))
    np.testing.assert_allclose(mixup(ours, weight).numpy(), gluon_mixup(theirs, weight).asnumpy(), rtol=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classification(mixed, smoothing):
    objective = Classification(CLASSES, smoothing, mixed)
    theirs, ours = gluon_objectives.Classes(objective), Classes(objective)
    (x, y, logits), (tx, ty, tlogits) = both(numbers(6, 3, 2, 2), labels(), 3 * numbers(6, CLASSES, seed=2))
    expected_x, expected_target = theirs.pair(x, y, 0.3)
    found_x, found_target = ours.pair(tx, ty, 0.3)
    np.testing.assert_allclose(found_x.numpy(), expected_x.asnumpy(), rtol=1e-6)
    np.testing.assert_allclose(found_target.numpy(), expected_target.asnumpy(), rtol=1e-6)
    expected = theirs.loss_function()(logits, expected_target, expected_x).asnumpy()
    np.testing.assert_allclose(ours.loss(tlogits, found_target, found_x).numpy(), expected, rtol=5e-6, atol=5e-6)
    metric = theirs.metric(logits, expected_target, y).asscalar()
    assert ours.metric(tlogits, found_target, ty).item() == pytest.approx(metric, rel=1e-6)


@pytest.mark.parametrize("hard_weight", [0.0, 0.3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_distillation_is_gluoncvs(hard_weight, smoothing):
    objective = Classification(CLASSES, smoothing, False, Distillation("teacher", "file", 4.0, hard_weight))
    teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, CLASSES))
    ours = Classes(objective, teacher)
    tx, ty, output = torch.from_numpy(numbers(6, 3, 2, 2)), torch.from_numpy(labels()), numbers(6, CLASSES, seed=3)
    x, target = ours.pair(tx, ty, 1.0)
    soft = (teacher(tx).detach() / 4).softmax(1).numpy()
    theirs = import_gluoncv("gluoncv.loss").DistillationSoftmaxCrossEntropyLoss(4.0, hard_weight, smoothing == 0)
    expected = theirs(mx.nd.array(output), mx.nd.array(target.numpy()), mx.nd.array(soft)).asnumpy()
    np.testing.assert_allclose(
        ours.loss(torch.from_numpy(output), target, x).detach().numpy(), expected, rtol=5e-6, atol=5e-6
    )


def test_a_teacher_of_gluoncv_is_named_as_what_needs_mxnet():
    objective = Classification(CLASSES, distillation=Distillation("resnet18_v1", "file", 4.0, 0.5))
    with pytest.raises(InputError, match=r"--teacher resnet18_v1.*--engine mxnet"):
        task_of(objective, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("distillation", [None, "teacher"])
def test_the_task_of_an_objective(distillation, tmp_path):
    """A teacher has the file's weights, infers in the type of training, and is left as it is."""
    net = get_model("resnet20_b1", CLASSES, dtype="float16")
    save_params(net, str(tmp_path / "a.params"))
    given = distillation and Distillation("ResNet20_B1", str(tmp_path / "a.params"), 4.0, 0.5)
    task = task_of(Classification(CLASSES, distillation=given), torch.device("cpu"), torch.float64)
    assert (task.teacher is None) == (distillation is None)
    assert isinstance(task_of(Segmentation(), torch.device("cpu"), torch.float32), Masks)
    if task.teacher:
        assert not task.teacher.training
        assert torch.equal(task.teacher.output.weight, net.output.weight.double())


def test_soft_iou_and_its_gradient():
    masks = (numbers(3, 1, 5, 7, seed=4) > 0).astype("float32")
    (logits, theirs), (tlogits, ours) = both(numbers(3, 1, 5, 7), masks)
    logits.attach_grad()
    with mx.autograd.record():
        expected = gluon_objectives.soft_iou_loss(logits, theirs)
    expected.backward()
    found = soft_iou_loss(tlogits.requires_grad_(), ours)
    found.sum().backward()
    np.testing.assert_allclose(found.detach().numpy(), expected.asnumpy(), rtol=1e-5)
    np.testing.assert_allclose(tlogits.grad.numpy(), logits.grad.asnumpy(), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("picture", PICTURES)
def test_iou(picture):
    (logits, mask), (intersection, union) = PICTURES[picture]
    output, target = torch.from_numpy(logits), torch.from_numpy(mask)
    for given in (output, output.clamp(min=0)):  # 0 is no sign
        assert Masks().metric(given, target, target).item() == pytest.approx(intersection / max(union, 1))


def test_iou_of_a_single_pixel():
    pixel = torch.ones(1, 1, 1, 1)
    assert Masks().metric(pixel, pixel, pixel).item() == 1
