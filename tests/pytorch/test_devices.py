"""Copies to and from a GPU, by stand-ins for its tensors; no GPU is needed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gluon_aff.engines import Devices, Pixels, engine
from gluon_aff.errors import InputError
from gluon_aff.pytorch import devices


class OnGPU:
    """A tensor on a GPU, which writes down what is asked of it."""

    device = torch.device("cuda", 1)

    def __init__(self, queue):
        self.queue = queue

    def to(self, device, non_blocking=False):
        self.queue.append(f"copy to {device}, {'queued' if non_blocking else 'waited for'}")
        return torch.tensor([1.0])


def test_results_are_copied_behind_what_computes_them_and_before_what_comes_next(monkeypatch):
    queue = []

    def record(device):
        queue.append(f"event on {device}")
        return SimpleNamespace(synchronize=lambda: queue.append("waited for the event"))

    stream = lambda device: SimpleNamespace(record_event=lambda: record(device))  # noqa: E731
    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    arrived = devices.arriving(OnGPU(queue))
    queue.append("next batch")
    assert arrived().tolist() == [1]
    assert queue == ["copy to cpu, queued", "event on cuda:1", "next batch", "waited for the event"]


def test_what_is_on_the_cpu_is_there():
    result = torch.ones(2)
    assert devices.arriving(result)() is result


def test_a_gpu_is_sent_pinned_copies_without_being_waited_for(monkeypatch):
    steps = []

    class Pageable:
        def pin_memory(self):
            steps.append("pinned")
            return self

        def to(self, device, non_blocking=False):
            steps.append((str(device), non_blocking))
            return self

    monkeypatch.setattr(torch, "from_numpy", lambda array: Pageable())
    devices.sent(np.zeros(3), torch.device("cuda", 0))
    devices.sent(np.zeros(3), torch.device("cpu"))
    assert steps == ["pinned", ("cuda:0", True), ("cpu", True)]


def test_pixels_are_normalised_on_the_device():
    """By the formula, in float64."""
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 6, 3), np.uint8)
    mean, std = [123.68, 116.779, 103.939], [58.393, 57.12, 57.375]
    expected = ((values.astype("float64") - mean) / std).transpose(0, 3, 1, 2)
    found = devices.normalised(Pixels(values, mean, std), torch.device("cpu"))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("works", "cuda", "gpus", "found", "said"),
    [
        (True, "12.4", "1", Devices("gpu", (1,)), "devices: GPU 1"),
        (False, "12.4", "0", Devices(), "device: CPU (PyTorch finds no GPU)"),
        (False, None, "0", Devices(), "device: CPU (this PyTorch has no CUDA)"),
        (False, None, "", Devices(), "device: CPU"),
    ],
)
def test_gpus_are_those_that_pytorch_can_use(monkeypatch, works, cuda, gpus, found, said):
    """A driver that is too old counts GPUs, which CUDA cannot use."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: works)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    assert devices.find_devices(gpus) == (found, said)


def test_names_of_gpus():
    assert [str(each) for each in devices.torch_devices(Devices("gpu", (1, 3)))] == ["cuda:1", "cuda:3"]
    assert [str(each) for each in devices.torch_devices(Devices())] == ["cpu"]


@pytest.mark.parametrize(
    ("machine", "computes", "refused"),
    [("x86_64", False, True), ("AMD64", False, True), ("x86_64", True, False), ("aarch64", False, False)],
)
def test_which_processors_compute_in_bfloat16(monkeypatch, machine, computes, refused):
    """PyTorch on ARM, and 2.4 anywhere, cannot tell."""
    monkeypatch.setattr(devices.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: computes)
    if refused:
        with pytest.raises(InputError, match="bfloat16: this processor would only emulate it"):
            devices.check_bfloat16(torch.device("cpu"))
        monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    devices.check_bfloat16(torch.device("cpu"))


@pytest.mark.parametrize("computes", [True, False])
def test_which_gpus_compute_in_bfloat16(monkeypatch, computes):
    """Those before Ampere emulate it."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or computes
    )
    if computes:
        devices.check_bfloat16(torch.device("cuda", 0))
    else:
        with pytest.raises(InputError, match="bfloat16: this processor would only emulate it"):
            devices.check_bfloat16(torch.device("cuda", 0))


def test_a_step_on_trial_lowers_the_loss_as_in_mxnet():
    theirs, ours = (engine(each).try_step(Devices()) for each in ("mxnet", "torch"))
    assert ours["before"] == pytest.approx(theirs["before"], rel=1e-5)
    assert ours["before"] - ours["after"] == pytest.approx(theirs["before"] - theirs["after"], rel=1e-3)
    assert 0 < ours["seconds"] < 60
