"""Choose the devices that PyTorch uses."""

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
    """Return the devices for `--gpus` and a line for the log, as `gluon_aff.engines.Engine.find_devices` says."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    usable, said = usable_gpus(gpus, there, strict, "PyTorch")
    if not usable:
        reason = "PyTorch finds no GPU" if torch.version.cuda else "this PyTorch has no CUDA"
        return Devices(), "device: CPU" + (f" ({reason})" if gpus.strip(", ") else "")
    return Devices("gpu", tuple(usable)), said


def on_device(images: np.ndarray, net: nn.Module) -> torch.Tensor:
    """Return images, (N, 3, H, W), on the network's device and of its type, without waiting for a GPU."""
    return torch.from_numpy(images).to(next(net.parameters()).device, image_dtype(net), non_blocking=True)


def check_bfloat16(device: torch.device) -> None:
    """Check that the device computes in bfloat16 itself; emulation is slower than float32.

    Raises:
        InputError: it does not.
    """
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # neither PyTorch 2.4 nor PyTorch on ARM can tell
        tells = platform.machine() in ("x86_64", "AMD64")
        able = not tells or getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)()
    if not able:
        raise InputError("bfloat16: this processor would only emulate it, slower than float32: leave it out")


def torch_devices(devices: Devices) -> List[torch.device]:
    """Return PyTorch's names of the devices."""
    if devices.kind == "cpu":
        return [torch.device("cpu")]
    return [torch.device("cuda", number) for number in devices.numbers]
