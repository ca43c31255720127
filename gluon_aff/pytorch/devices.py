"""Choose the devices that PyTorch uses."""

from __future__ import annotations

import platform
from typing import Callable, List, Tuple

import numpy as np
import torch
from torch import nn

from gluon_aff.engines import Devices, Pixels
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
    return sent(images, next(net.parameters()).device).to(image_dtype(net))


def sent(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return a copy of an array on the device: to a GPU from pinned memory, without waiting for it."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def normalised(pixels: Pixels, device: torch.device) -> torch.Tensor:
    """Return the images, float32 (N, 3, H, W), after copying their bytes to the device and normalising them there."""
    mean, std = (sent(np.array(each, np.float32), device) for each in (pixels.mean, pixels.std))
    return sent(pixels.values, device).float().sub_(mean).div_(std).permute(0, 3, 1, 2)


def arriving(result: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Start to copy to the CPU what a device still computes, and return what waits for the copy.

    A GPU works through a queue: a copy that is started only later waits for everything that was started before it.
    """
    if result.device.type == "cpu":
        return lambda: result
    copied = result.to("cpu", non_blocking=True)
    event = torch.cuda.current_stream(result.device).record_event()

    def arrived() -> torch.Tensor:
        event.synchronize()
        return copied

    return arrived


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
