"""Which devices PyTorch uses."""

from __future__ import annotations

import platform
from typing import List, Tuple

import numpy as np
import torch
from torch import nn

from gluon_aff.engines import Devices
from gluon_aff.errors import InputError
from gluon_aff.machine.gpus import usable_gpus
from gluon_aff.pytorch.networks.layers import image_dtype


def find_devices(gpus: str, strict: bool = False) -> Tuple[Devices, str]:
    """`gluon_aff.engines.Engine.find_devices`."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    usable, said = usable_gpus(gpus, there, strict, "PyTorch")
    if not usable:
        reason = "PyTorch finds no GPU" if torch.version.cuda else "this PyTorch has no CUDA"
        return Devices(), "device: CPU" + (f" ({reason})" if gpus.strip(", ") else "")
    return Devices("gpu", tuple(usable)), said


def on_device(images: np.ndarray, net: nn.Module) -> torch.Tensor:
    """Images as the network takes them: on its device, of its type; a GPU is not waited for."""
    return torch.from_numpy(images).to(next(net.parameters()).device, image_dtype(net), non_blocking=True)


def check_bfloat16(device: torch.device) -> None:
    """See that the device computes in bfloat16 itself; where that is emulated, it is slower than float32.

    Raises:
        InputError: it does not.
    """
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # PyTorch 2.4 does not tell, nor does it on ARM
        tells = platform.machine() in ("x86_64", "AMD64")
        able = not tells or getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)()
    if not able:
        raise InputError("bfloat16: this processor would only emulate it, slower than float32: leave it out")


def torch_devices(devices: Devices) -> List[torch.device]:
    """PyTorch's names of them."""
    if devices.kind == "cpu":
        return [torch.device("cpu")]
    return [torch.device("cuda", number) for number in devices.numbers]
