"""Devices named by --gpus against those that exist and those that MXNet can run on."""

import mxnet as mx
import numpy as np
import pytest

from gluon_aff.engines import Devices
from gluon_aff.errors import InputError
from gluon_aff.gluon import devices
from gluon_aff.machine.gpus import CU112, GPU, Driver

T4 = ("Tesla T4", (7, 5))
H200 = ("NVIDIA H200", (9, 0))


@pytest.fixture
def machine(monkeypatch):
    """Function that makes a machine: GPUs that MXNet counts, what the driver says of them, what MXNet carries."""

    def set_up(there, gpus=(), code=None):
        shown = tuple(GPU(number, name, capability, 2**34) for number, (name, capability) in enumerate(gpus))
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(mx.context, "num_gpus", lambda: there)
        monkeypatch.setattr(devices, "find_driver", lambda: Driver((12, 2), shown))
        monkeypatch.setattr(devices, "carried_code", lambda library: code)

    return set_up


def test_the_cpus_threads_are_said(machine, monkeypatch):
    machine(0)
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert devices.find_devices("")[1] == "device: CPU, OMP_NUM_THREADS=6"


@pytest.mark.parametrize(
    ("there", "gpus", "found", "note"),
    [
        (0, "0,1,2,3", Devices(), "device: CPU (MXNet finds no GPU)"),
        (4, "", Devices(), "device: CPU"),
        (4, "0,1", Devices("gpu", (0, 1)), "devices: GPU 0,1"),
        (2, "0,1,2,3", Devices("gpu", (0, 1)), "devices: GPU 0,1 (missing: 2,3)"),
        (2, "1,1", Devices("gpu", (1,)), "devices: GPU 1"),
    ],
)
def test_devices_that_exist_are_used(machine, there, gpus, found, note):
    machine(there)
    assert devices.find_devices(gpus) == (found, note)


def test_none_of_those_named_exists(machine):
    machine(2)
    with pytest.raises(InputError, match="--gpus 4,5: this machine has GPUs 0 to 1 only"):
        devices.find_devices("4,5")


def test_one_of_those_named_is_not_there_and_must_be(machine):
    machine(2)
    with pytest.raises(InputError, match="the command line names GPUs 1,2, but MXNet finds 2"):
        devices.find_devices("1,2", strict=True)


def test_text_that_is_no_list():
    with pytest.raises(InputError, match="--gpus 'all'"):
        devices.find_devices("all")


def test_a_cuda_build_without_a_driver_is_a_cpu(machine, monkeypatch):
    def fail():
        raise mx.MXNetError("CUDA: Check failed: e == cudaSuccess: CUDA driver version is insufficient")

    machine(0)
    monkeypatch.setattr(mx.context, "num_gpus", fail)
    assert devices.find_devices("0")[0] == Devices()


def test_a_gpu_that_mxnet_cannot_run_on_is_said_before_training(machine):
    machine(1, [H200], CU112)
    with pytest.raises(InputError) as raised:
        devices.find_devices("0,1,2,3")
    assert str(raised.value) == (
        "this MXNet cannot run on GPU 0 (NVIDIA H200, compute capability 9.0): it has machine code for 5.0, 6.0, 7.0, "
        "8.0, 8.6 and no PTX, which runs on 5.x, 6.x, 7.x, 8.x. Train on the CPU (--gpus '', --num-gpus 0)"
    )
    assert devices.find_devices("") == (Devices(), "device: CPU")


def test_others_are_named(machine):
    machine(3, [T4, H200, T4], CU112)
    with pytest.raises(InputError, match=r"GPU 1 \(NVIDIA H200, .* Train on GPU 0,2 \(--gpus 0,2; .* or on the CPU"):
        devices.find_devices("0,1,2")
    assert devices.find_devices("0,2") == (Devices("gpu", (0, 2)), "devices: GPU 0,2")


@pytest.mark.parametrize(
    ("gpus", "code"),
    [([T4], CU112), ([H200], None), ([], CU112)],  # fine; what MXNet carries is not known; nor what the GPU is
)
def test_gpus_of_which_nothing_bad_is_known(machine, gpus, code):
    machine(1, gpus, code)
    assert devices.find_devices("0") == (Devices("gpu", (0,)), "devices: GPU 0")


@pytest.mark.parametrize(
    ("gpus", "cuda", "reason"),
    [
        ([T4, H200], False, "this MXNet has no CUDA: make gpu, or pip uninstall -y mxnet, then pip install "),
        (
            [H200],
            False,
            "this MXNet has no CUDA, and mxnet-cu112 cannot run on GPU 0 (NVIDIA H200, compute capability 9.0))",
        ),
        ([], False, "MXNet finds no GPU)"),
        ([T4], True, "MXNet finds no GPU)"),
    ],
)
def test_why_the_cpu(machine, monkeypatch, gpus, cuda, reason):
    machine(0, gpus)
    monkeypatch.setattr(mx.runtime.Features, "is_enabled", lambda self, name: cuda and name == "CUDA")
    found, note = devices.find_devices("0")
    assert found == Devices()
    assert note.startswith(f"device: CPU ({reason}")


def test_nothing_runs_behind_a_bfloat16_run(monkeypatch):
    """Which has patched MXNet's operators for good."""
    monkeypatch.setattr("mxnet.contrib.amp.amp._amp_initialized", True)
    with pytest.raises(InputError, match="a bfloat16 run has changed MXNet's operators in this process"):
        devices.find_devices("")


def test_contexts_are_mxnets():
    assert devices.contexts_of(Devices()) == [mx.cpu()]
    assert devices.contexts_of(Devices("gpu", (0, 2))) == [mx.gpu(0), mx.gpu(2)]
    assert Devices("gpu", (0, 2)).names == list(map(str, [mx.gpu(0), mx.gpu(2)]))
    assert Devices("gpu", (0, 1, 2)).share(1, 2) == Devices("gpu", (1,))


@pytest.mark.parametrize(("rows", "sizes"), [(5, [3, 2]), (4, [2, 2]), (1, [1])])
def test_devices_share_the_rows(rows, sizes):
    contexts = [mx.cpu(0), mx.cpu(1)]
    array = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    slices = devices.load_slices(array, contexts)
    assert [len(part) for part in slices] == sizes
    assert [part.context for part in slices] == contexts[: len(slices)]
    np.testing.assert_array_equal(np.concatenate([part.asnumpy() for part in slices]), array)
