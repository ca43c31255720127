"""Devices named by --gpus against those that exist."""

import mxnet as mx
import pytest

from gluon_aff.errors import InputError
from gluon_aff.training import devices


@pytest.mark.parametrize(
    ("there", "gpus", "contexts", "note"),
    [
        (0, "0,1,2,3", [mx.cpu()], "device: CPU (MXNet finds no GPU)"),
        (4, "", [mx.cpu()], "device: CPU"),
        (4, "0,1", [mx.gpu(0), mx.gpu(1)], "devices: GPU 0,1"),
        (2, "0,1,2,3", [mx.gpu(0), mx.gpu(1)], "devices: GPU 0,1 (not there: 2,3)"),
        (2, "1,1", [mx.gpu(1)], "devices: GPU 1"),
    ],
)
def test_devices_that_exist_are_used(monkeypatch, there, gpus, contexts, note):
    monkeypatch.setattr(mx.context, "num_gpus", lambda: there)
    assert devices.training_contexts(gpus) == (contexts, note)


def test_none_of_those_named_exists(monkeypatch):
    monkeypatch.setattr(mx.context, "num_gpus", lambda: 2)
    with pytest.raises(InputError, match="--gpus 4,5: this machine has GPUs 0 to 1 only"):
        devices.training_contexts("4,5")


def test_text_that_is_no_list():
    with pytest.raises(InputError, match="--gpus 'all'"):
        devices.training_contexts("all")


def test_a_cuda_build_without_a_driver_is_a_cpu(monkeypatch):
    def fail():
        raise mx.MXNetError("CUDA: Check failed: e == cudaSuccess: CUDA driver version is insufficient")

    monkeypatch.setattr(mx.context, "num_gpus", fail)
    assert devices.training_contexts("0")[0] == [mx.cpu()]
