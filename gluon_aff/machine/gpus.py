"""Find the NVIDIA GPUs of this machine, and check whether MXNet can run on them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Iterable, List, Optional, Tuple

from gluon_aff.errors import InputError
from gluon_aff.machine import system_files
from gluon_aff.machine.children import ask
from gluon_aff.machine.findings import Finding, mend, note, ok
from gluon_aff.machine.resources import gib
from gluon_aff.machine.shared_library import Capability, GPUCode, capability_text, gpu_code
from gluon_aff.machine.system_files import read_text

# GPU code in mxnet-cu112 1.9.1, as `gpu_code` reads it from the 990 entries of its libmxnet.so.
CU112 = GPUCode(machine_code=((5, 0), (6, 0), (7, 0), (8, 0), (8, 6)))
TO_CUDA = "make gpu, or pip uninstall -y mxnet, then pip install --no-deps mxnet-cu112==1.9.1"
SECONDS = 30.0
DRIVER_LIBRARY = "libcuda.so.1"
NVIDIA = "0x10de"
DISPLAY_CLASS = "0x03"


def usable_gpus(gpus: str, there: int, strict: bool, framework: str) -> Tuple[List[int], str]:
    """Return the GPUs of `--gpus` that exist, and a text about them; without any GPUs in the machine, return none.

    Args:
        gpus: value of `--gpus`, comma-separated numbers.
        there: number of GPUs that the framework finds.
        strict: whether all of them must exist.
        framework: name of the framework.

    Raises:
        InputError: the value is not a list of numbers; there are GPUs, but not those; or, with `strict`, one of them
            does not exist.
    """
    try:
        wanted = sorted({int(gpu) for gpu in gpus.split(",") if gpu.strip()})
    except ValueError:
        raise InputError(f"--gpus {gpus!r} is not a list of GPU ids such as 0,1") from None
    if strict and any(not 0 <= gpu < there for gpu in wanted):
        raise InputError(f"--strict-devices: the command line names GPUs {gpus}, but {framework} finds {there}")
    usable = [gpu for gpu in wanted if 0 <= gpu < there]
    if wanted and there and not usable:
        raise InputError(f"--gpus {gpus}: this machine has GPUs 0 to {there - 1} only")
    missing = [str(gpu) for gpu in wanted if gpu not in usable]
    note = f" (missing: {','.join(missing)})" if missing else ""
    return usable, f"devices: GPU {','.join(map(str, usable))}{note}"


@dataclass(frozen=True)
class GPU:
    """A GPU as CUDA sees it.

    Attributes:
        number: its number among the GPUs that CUDA_VISIBLE_DEVICES leaves visible.
        name: name of the model.
        capability: compute capability.
        memory: memory in bytes.
    """

    number: int
    name: str
    capability: Capability
    memory: int

    def __str__(self) -> str:
        return f"GPU {self.number} ({self.name}, compute capability {capability_text(self.capability)})"


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver.

    Attributes:
        cuda: newest CUDA version that it supports; None if there is no driver.
        gpus: GPUs that it shows to this process.
        problem: reason why there are none.
        version: version of the driver; empty if it cannot be read.
    """

    cuda: Optional[Tuple[int, int]] = None
    gpus: Tuple[GPU, ...] = ()
    problem: str = ""
    version: str = ""


def find_driver() -> Driver:
    """Query the driver in a child process, since a broken driver may crash or never answer."""
    answer = ask("driver", seconds=SECONDS)
    if answer.problem:
        return Driver(problem=answer.problem)
    value = answer.value
    gpus = tuple(
        GPU(number, gpu["name"], (gpu["capability"][0], gpu["capability"][1]), gpu["memory"])
        for number, gpu in enumerate(value["gpus"])
    )
    cuda = value["cuda"] // 1000, value["cuda"] % 1000 // 10
    version = re.search(r"\d+(\.\d+)+", read_text("proc/driver/nvidia/version"))
    return Driver(cuda, gpus, value["problem"], version[0] if version else "")


def carried_code(library: str) -> Optional[GPUCode]:
    """Return the GPU code in the `libmxnet.so` at `library`; None if there is none or the file cannot be read."""
    try:
        code = gpu_code(library)
    except (OSError, ValueError):
        return None
    return code if code.machine_code or code.ptx else None


def unusable(gpus: Iterable[GPU], code: Optional[GPUCode]) -> Tuple[GPU, ...]:
    """Return the `gpus` on which `code` cannot run; none if the code is not known."""
    return tuple(gpu for gpu in gpus if code is not None and not code.runs_on(gpu.capability))


def nvidia_card() -> bool:
    """Return whether the machine has an NVIDIA display device, even without a driver."""
    return any(
        read_text(f"{device}/vendor") == NVIDIA and read_text(f"{device}/class").startswith(DISPLAY_CLASS)
        for device in system_files.ROOT.glob("sys/bus/pci/devices/*")
    )


def check_gpus(driver: Driver, cuda: int, code: Optional[GPUCode]) -> List[Finding]:
    """Check the driver and each GPU, and return a finding for each.

    Args:
        driver: the driver and its GPUs.
        cuda: major version of CUDA for which MXNet was built; 0 for a build without CUDA.
        code: GPU code in MXNet's library; None if it is not known.
    """
    if driver.cuda is None:
        return [_no_driver(driver, cuda)]
    said = f"{driver.version or 'of unknown version'}, for CUDA up to {capability_text(driver.cuda)}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not driver.gpus:
        hidden = f" (CUDA_VISIBLE_DEVICES={visible!r})" if visible is not None else ""
        return [ok("driver", said), note("GPU", f"the driver shows none: {driver.problem or 'no device'}{hidden}")]
    gpus = [_gpu(gpu, driver, cuda, code) for gpu in driver.gpus]
    if cuda > driver.cuda[0]:
        return [mend("driver", f"{said}, and MXNet was built for CUDA {cuda}", "update NVIDIA's driver"), *gpus]
    numbered = f"; GPUs are numbered as CUDA_VISIBLE_DEVICES={visible} leaves them" if visible is not None else ""
    return [ok("driver", said + numbered), *gpus]


def _no_driver(driver: Driver, cuda: int) -> Finding:
    if DRIVER_LIBRARY not in driver.problem:
        return note("GPU", f"NVIDIA's driver: {driver.problem}", "nvidia-smi may say more")
    if nvidia_card():
        return note("GPU", "there is an NVIDIA card, but no driver for it", "install NVIDIA's driver")
    return note("GPU", "none: there is no NVIDIA driver" + ("" if cuda else ", so training uses the CPU"))


def _gpu(gpu: GPU, driver: Driver, cuda: int, code: Optional[GPUCode]) -> Finding:
    check = f"GPU {gpu.number}"
    said = f"{gpu.name}, {gib(gpu.memory)}, compute capability {capability_text(gpu.capability)}"
    if not cuda and not CU112.runs_on(gpu.capability):
        return note(check, f"{said}: not used, and mxnet-cu112 cannot run on it either, having {CU112}")
    if not cuda:
        return note(check, f"{said}: not used, since this MXNet is for the CPU", TO_CUDA)
    useless = unusable(driver.gpus, code)
    if gpu not in useless:
        return ok(check, said)
    message = f"{said}: MXNet cannot run on it, having {code}"
    others = ",".join(str(other.number) for other in driver.gpus if other not in useless)
    if others:
        return note(check, message, f"--gpus {others}")
    return mend(check, message, "train on the CPU with --gpus '' (--num-gpus 0), or use another machine")
