"""What is run while memory is measured."""

from dataclasses import replace

import mxnet as mx
import pytest
from mxnet import gluon
from shared_by_tests.limits import at_most

from gluon_aff.engines import Devices
from gluon_aff.gluon.inspection import memory
from gluon_aff.models import model_record

CIFAR = model_record("resnet20_b1").architecture()
IMAGENET = replace(model_record("resnet50").architecture(layers=(1, 1, 1, 1)), input_size=64)


@pytest.mark.parametrize(
    ("architecture", "training", "static"),
    [(CIFAR, True, (False, False)), (IMAGENET, True, (True, True)), (CIFAR, False, (True, False))],
    ids=["CIFAR", "ImageNet", "inference"],
)
def test_two_steps_are_run_as_the_commands_run_them(architecture, training, static, monkeypatch):
    """On the chosen device, with all images of a batch, compiled as by the training or evaluation on that data set."""
    net = memory.build(architecture)
    shapes, steps, forward, step = [], [], type(net).forward, gluon.Trainer.step

    def watched(self, x, *args):
        shapes.append((x.shape, x.context))
        return forward(self, x, *args)

    def with_labels(net, images, labels, step=memory.step):
        assert (labels.context, labels.asnumpy().tolist()) == (mx.cpu(1), [0, 1, 2])
        return step(net, images, labels)

    monkeypatch.setattr(memory, "build", lambda _: net)
    monkeypatch.setattr(memory, "step", with_labels)
    monkeypatch.setattr(type(net), "forward", watched)
    monkeypatch.setattr(gluon.Trainer, "step", lambda self, size: steps.append(size) or step(self, size))
    found = memory.measure(architecture, 3, training, Devices("cpu", (1,)))
    side = architecture.input_size
    assert shapes == [((3, 3, side, side), mx.cpu(1))] * 2
    assert steps == [3, 3] * training
    flags = dict(net._flags)
    assert (net._active, (flags["static_alloc"], flags["static_shape"])) == (True, static)
    assert (found["device"], found["of"]) == ("cpu(1)", "a process")


def test_a_gpu_holds_what_is_not_free(monkeypatch):
    monkeypatch.setattr(mx.context, "gpu_memory_info", lambda number: (2**20 * number, 2**23))
    assert memory._held(mx.gpu(3)) == 8 - 3


def test_the_images_take_no_more_memory_than_their_float32_values():
    """Else the memory before the network would be too large."""
    with at_most(1.5 * 4 * (8 * 3 * 128 * 128)):
        memory.random_images(8, 128, mx.cpu())
