"""A network that is validated, on one device and on two."""

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.masks_by_hand import IOU, NIOU, batches

from gluon_aff.gluon.cluster import Cluster
from gluon_aff.gluon.network import GluonNetwork
from gluon_aff.training.scores import iou_and_niou, top1_accuracy

CLASSES = 10
CONTEXTS = {"one": [mx.cpu(0)], "two": [mx.cpu(0), mx.cpu(1)]}


class Itself(mx.gluon.nn.HybridBlock):
    """A network whose logits are its input."""

    def hybrid_forward(self, F, x):
        return F.identity(x)


@pytest.mark.parametrize("contexts", CONTEXTS.values(), ids=CONTEXTS)
def test_validation_counts_each_image_once(contexts):
    """Last batch smaller than the devices included."""
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Flatten(), mx.gluon.nn.Dense(CLASSES, in_units=48))
    mx.random.seed(0)
    net.initialize(mx.init.Normal(0.2), ctx=contexts)
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(9, 3, 4, 4)).astype("float32"), np.zeros(9, "float32")
    weight, bias = (p.data(contexts[0]).asnumpy() for p in net.collect_params().values())
    logits = images.reshape(9, -1) @ weight.T + bias
    right = logits.argmax(axis=1)
    labels[:5], labels[5:] = right[:5], (right[5:] + 1) % CLASSES
    network = GluonNetwork(net, contexts)
    parts = [(images[i : i + 4], labels[i : i + 4]) for i in (0, 4, 8)]
    assert top1_accuracy(network, parts, Cluster()) == pytest.approx(5 / 9)
    found = [network.infer(part)() for part, _ in parts]
    assert {each.dtype for each in found} == {np.dtype("float32")}
    np.testing.assert_allclose(np.concatenate(found), logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("contexts", CONTEXTS.values(), ids=CONTEXTS)
@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_iou_is_of_all_pixels_and_niou_of_each_image(size, contexts):
    iou, niou = iou_and_niou(GluonNetwork(Itself(), contexts), batches(size), Cluster())
    assert iou == pytest.approx(IOU)
    assert niou == pytest.approx(NIOU)
