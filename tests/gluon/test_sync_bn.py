"""Batch normalisation over several devices."""

import os
import subprocess
import sys

import mxnet as mx
import pytest

from gluon_aff.errors import InputError
from gluon_aff.gluon.networks.zoo import BUILDERS
from gluon_aff.gluon.sync_bn import norm_arguments

GPUS = [mx.gpu(0), mx.gpu(1)]
NETWORKS = [("cifar_resnet", 1), ("cifar_resnext", 1), ("imagenet_resnet", (1, 1, 1, 1))]

# One step of AFF-ResNet-8: BatchNorm on a batch of 8, against SyncBatchNorm on its halves, each on a device of its own.
# The CPU's four work spaces, over which devices that wait for each other wait forever, have to be more.
ONE_STEP = """
import mxnet as mx, numpy as np
from mxnet import autograd, gluon
from gluon_aff.gluon.sync_bn import norm_arguments
from gluon_aff.gluon.networks.zoo import cifar_resnet

devices = [mx.cpu(0), mx.cpu(1)]
build = lambda **norm: cifar_resnet("iAFF", 1, 1, classes=4, **norm)
plain, synced, validated = build(), *(build(**norm_arguments([mx.gpu(0), mx.gpu(1)])) for _ in range(2))
mx.random.seed(1)
plain.initialize(mx.init.Xavier())
plain(mx.nd.zeros((1, 3, 16, 16)))
mx.nd.waitall()
plain.save_parameters("plain.params")
for net in (synced, validated):
    net.load_parameters("plain.params", ctx=devices)
    net.hybridize()
draw = np.random.default_rng(0)
x, y = mx.nd.array(draw.normal(size=(8, 3, 16, 16)) * np.arange(1, 9)[:, None, None, None]), mx.nd.arange(8) % 4

def step(net, contexts):
    trainer = gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.05, "momentum": 0.9})
    slices = list(zip(*(gluon.utils.split_and_load(each, contexts) for each in (x, y))))
    with autograd.record():
        losses = [gluon.loss.SoftmaxCrossEntropyLoss()(net(a), b) for a, b in slices]
    autograd.backward(losses)
    trainer.step(8)
    [validated(a) for a, b in slices if len(contexts) > 1]  # a network that infers waits for nobody
    mx.nd.waitall()

step(plain, devices[:1])
step(synced, devices)
expected = plain._collect_params_with_prefix()
worst = max(
    np.abs(parameter.data(device).asnumpy() - expected[name].data().asnumpy()).max()
    for name, parameter in synced._collect_params_with_prefix().items() for device in devices
)
print(worst)
"""


def synchronised(name, blocks):
    return BUILDERS[name](
        "ASKCFuse", blocks, **({"channel_times": 1} if "cifar" in name else {}), **norm_arguments(GPUS)
    )


@pytest.mark.parametrize(("name", "blocks"), NETWORKS)
def test_every_normalisation_is_synchronised_under_the_same_names(name, blocks):
    more = {"channel_times": 1} if "cifar" in name else {}
    plain = BUILDERS[name]("ASKCFuse", blocks, **more)
    synced = synchronised(name, blocks)
    assert list(synced._collect_params_with_prefix()) == list(plain._collect_params_with_prefix())
    layers = []
    synced.apply(lambda block: layers.append(block) if hasattr(block, "running_mean") else None)
    assert {type(layer).__name__ for layer in layers} == {"SyncBatchNorm"}
    assert {layer._kwargs["ndev"] for layer in layers} == {2}


def test_layers_and_networks_have_keys_of_their_own():
    """Under one key, two networks that train would wait for each other's devices, or crash."""
    keys = []
    for _ in range(2):
        synchronised("cifar_resnet", 1).apply(
            lambda block: keys.append(block._kwargs["key"]) if hasattr(block, "running_mean") else None
        )
    assert len(keys) == len(set(keys)) > 20


def test_one_device_needs_none():
    assert norm_arguments([mx.cpu()]) == norm_arguments([mx.gpu(0)], "float16") == {}


def test_what_mxnet_cannot_do_is_an_error():
    with pytest.raises(InputError, match="float16"):
        norm_arguments(GPUS, "float16")
    with pytest.raises(InputError, match="several CPU devices"):
        norm_arguments([mx.cpu(0), mx.cpu(1)])


def test_two_devices_normalise_as_one_does(tmp_path):
    environment = {**os.environ, "MXNET_CPU_TEMP_COPY": "997", "MXNET_CPU_WORKER_NTHREADS": "4"}
    result = subprocess.run(
        [sys.executable, "-c", ONE_STEP], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 1e-5
