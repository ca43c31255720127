"""Exported networks."""

import mxnet as mx
import pytest
from shared_by_tests.exported_networks import NETWORKS, network_and_card

from gluon_aff.export.onnx_file import write_onnx
from gluon_aff.gluon.network import GluonNetwork


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def exported(request, tmp_path_factory):
    """A network, its card, and its ONNX file."""
    net, card = network_and_card(request.param)
    path = str(tmp_path_factory.mktemp("onnx") / "network.onnx")
    write_onnx(GluonNetwork(net, [mx.cpu()]), path, card)
    return net, card, path


@pytest.fixture
def small():
    """The smallest of them, and its card."""
    return network_and_card("AFF-ResNet, CIFAR")
