"""Small networks of every host, with running statistics that no fresh network has."""

import mxnet as mx
import numpy as np
from shared_by_tests.cards import card_for

from gluon_aff.gluon.networks.zoo import BUILDERS

NETWORKS = {
    "AFF-ResNet, CIFAR": ("cifar_resnet", {"askc_type": "AFF", "blocks": 1, "channel_times": 1}, 32),
    "iAFF-ResNeXt, CIFAR": ("cifar_resnext", {"askc_type": "iAFF", "blocks": 1, "channel_times": 1}, 32),
    "AFF-ResNet, ImageNet": ("imagenet_resnet", {"askc_type": "AFF", "layers": (1, 1, 1, 2)}, 64),
    "iAFF-ResNeXt, ImageNet": ("imagenet_resnext", {"askc_type": "iAFF", "layers": (1, 1, 2, 1)}, 64),
    "Concatenation, Inception": (
        "cifar_inception",
        {"askc_type": "Concatenation", "blocks": 1, "channel_times": 1},
        32,
    ),
    "AFI-ResNet with CBAM": ("afi_cifar_resnet", {"blocks": 3, "variant": "A", "r": 4, "attention": "CBAM"}, 32),
    "AFI-ResNet with ECA": (
        "afi_imagenet_resnet",
        {"layers": (1, 3, 1, 2), "variant": "B", "r": 16, "attention": "ECA"},
        64,
    ),
    "AFI-ShuffleNetV2": ("afi_cifar_shufflenet_v2", {"variant": "A", "r": 4}, 32),
}


def network_and_card(name, outputs=7):
    host, settings, size = NETWORKS[name]
    return filled(BUILDERS[host](**settings, classes=outputs), size), card_for(name, size, outputs)


def filled(net, input_size):
    """`net` with random parameters throughout, hybridized."""
    net.initialize()
    net(mx.nd.zeros((1, 3, input_size, input_size)))
    rng = np.random.default_rng(0)
    for name, parameter in net.collect_params().items():
        if name.endswith(("gamma", "running_var")):
            value = rng.uniform(0.5, 1.5, parameter.shape)
        elif name.endswith("weight"):
            value = rng.normal(0, np.sqrt(0.5 / np.prod(parameter.shape[1:])), parameter.shape)
        else:
            value = rng.normal(0, 0.1, parameter.shape)
        parameter.set_data(mx.nd.array(value))
    net.hybridize()
    return net
