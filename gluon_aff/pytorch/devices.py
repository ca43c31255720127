"""Which devices PyTorch uses."""

from __future__ import annotations

from typing import List, Tuple

import torch

from gluon_aff.engines import Devices
from gluon_aff.machine.gpus import usable_gpus


def find_devices(gpus: str, strict: bool = False) -> Tuple[Devices, str]:
    """`gluon_aff.engines.InferenceEngine.find_devices`."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    usable, said = usable_gpus(gpus, there, strict, "PyTorch")
    if not usable:
        reason = "PyTorch finds no GPU" if torch.version.cuda else "this PyTorch has no CUDA"
        return Devices(), "device: CPU" + (f" ({reason})" if gpus.strip(", ") else "")
    return Devices("gpu", tuple(usable)), said


def torch_devices(devices: Devices) -> List[torch.device]:
    """PyTorch's names of them."""
    if devices.kind == "cpu":
        return [torch.device("cpu")]
    return [torch.device("cuda", number) for number in devices.numbers]
