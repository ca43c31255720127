"""Test whether the installed PyTorch trains."""

from __future__ import annotations

import time
from typing import Dict

import torch
import torch.nn.functional as F
from torch import nn

from gluon_aff.engines import Devices
from gluon_aff.pytorch.devices import torch_devices
from gluon_aff.pytorch.optimizers import NAG


def try_step(devices: Devices) -> Dict[str, float]:
    """Train a small network for one step, as `gluon_aff.engines.Engine.try_step` says."""
    device = torch_devices(devices)[0]
    start = time.perf_counter()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 2)).to(device)
    for name, parameter in net.named_parameters():
        nn.init.constant_(parameter, 0.1 if name.endswith("weight") else 0.0)
    optimizer = NAG(net.parameters(), 0.001, 0.9)
    images = torch.arange(2.0 * 3 * 8 * 8).reshape(2, 3, 8, 8).to(device) / 384
    labels = torch.tensor([0, 1]).to(device)
    before = F.cross_entropy(net(images), labels)
    before.backward()
    optimizer.step()
    after = F.cross_entropy(net(images), labels).item()
    return {"before": before.item(), "after": after, "seconds": time.perf_counter() - start}
