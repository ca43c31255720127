"""Copies to and from a GPU, by stand-ins for its tensors; no GPU is needed."""

from types import SimpleNamespace

import numpy as np
import torch

from gluon_aff.engines import Pixels
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
