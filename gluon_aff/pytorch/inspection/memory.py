"""Measure the memory that training and inference take."""

from __future__ import annotations

from typing import Dict, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from gluon_aff.engines import Devices
from gluon_aff.machine.resources import MIB, peak_memory
from gluon_aff.models import Architecture
from gluon_aff.pytorch.devices import torch_devices
from gluon_aff.pytorch.networks.zoo import build
from gluon_aff.pytorch.optimizers import NAG

STEPS = 2  # from the second step on, the optimizer's state exists while gradients are computed


def measure(architecture: Architecture, batch: int, training: bool, devices: Devices) -> Dict[str, object]:
    """Measure memory as `gluon_aff.engines.Engine.measure_memory` says; on a GPU, only what PyTorch allocates."""
    device = torch_devices(devices)[0]
    shape = (batch, 3, architecture.input_size, architecture.input_size)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, dtype=np.float32)).to(device)
    before = _held(device)
    net = build(architecture).to(device).train(training)
    found: Dict[str, object] = {"device": devices.names[0], "of": "a process", "before": before}
    if training:
        found["saved"] = _train(net, images, architecture.settings["classes"]) / MIB
    else:
        _infer(net, images)
    if device.type == "cuda":
        found.update({"of": "tensors", "reserved": torch.cuda.max_memory_reserved(device) / MIB})
    return {**found, "peak": _held(device)}


def _train(net: nn.Module, images: Tensor, classes: int) -> int:
    """Train for some steps with the optimizer of the published runs; return the bytes that `forward` counts."""
    optimizer = NAG(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    labels = (torch.arange(len(images)) % classes).to(images.device)
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits, saved = forward(net, images)
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    return saved


def _infer(net: nn.Module, images: Tensor) -> None:
    with torch.inference_mode():
        for _ in range(STEPS):
            net(images)


def forward(net: nn.Module, images: Tensor) -> Tuple[Tensor, int]:
    """Return the outputs, and the number of bytes that autograd keeps for the backward pass.

    Each storage counts once and as a whole, however many views of it are kept. The images count, but parameters and
    running statistics do not, since they exist in any case.
    """
    own = {tensor.untyped_storage()._cdata for tensor in net.state_dict().values()}
    kept: Dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor.detach()  # otherwise an output that kept itself would never be freed

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = net(images)
    return outputs, sum(kept.values())


def _held(device: torch.device) -> float:
    """Return the peak so far, in MiB."""
    return torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else peak_memory()
