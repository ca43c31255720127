"""Checks that load native libraries, which `children.ask` runs in processes of their own; answers are JSON."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, cast

from gluon_aff.errors import last_line

MOST_GPUS = 64  # in a machine
# Numbers of device attributes in CUDA's header cuda.h
MAJOR_CAPABILITY, MINOR_CAPABILITY = 75, 76


def main() -> None:
    """Run the probe that the command line names, with the arguments that it gives, and print the answer."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # anything else that is printed must not mix with the answer
    with contextlib.suppress(ImportError):  # Windows lacks the module
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    probe, arguments = json.loads(sys.argv[1])
    try:
        answer = {"value": globals()[probe](*arguments), "problem": ""}
    except Exception as error:  # a broken library can raise anything
        answer = {"value": None, "problem": _described(error)}
    with answers:
        json.dump(answer, answers)


def _described(error: Exception) -> str:
    """Return the type and the first line of an error; of an MXNetError the last line, which follows a C++ trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"{kind}: {last_line(error) if kind == 'MXNetError' else (lines or ['no message'])[0]}"


def imports(*modules: str) -> None:
    """Import `modules`; an error shows that one cannot be imported."""
    if "torch" not in modules:
        sys.modules["torch"] = None  # type: ignore[assignment]  # GluonCV fails if some PyTorch is installed
    for module in modules:
        importlib.import_module(module)


def libraries(names: List[str], folder: str) -> Dict[str, Dict[str, str]]:
    """Load shared libraries as the loader does for a library in `folder` that searches this folder first.

    Returns:
        For each name, the `path` of the file, or the loader's message as `problem`.
    """
    found = {name: _load(name, folder) for name in names}
    # Libraries in the folder may need each other, and the loader finds them only if they are loaded already
    return {name: _load(name, folder) if "problem" in answer else answer for name, answer in found.items()}


def _load(name: str, folder: str) -> Dict[str, str]:
    beside = Path(folder, name)
    try:
        ctypes.CDLL(str(beside) if beside.is_file() else name)
    except OSError as error:
        return {"problem": str(error)}
    return {"path": _loaded_file(name)}


def _loaded_file(name: str) -> str:
    """Return the path of the file of a loaded library; its name often includes the full version."""
    stem = name.split(".so")[0]
    mapped = {line.split(None, 5)[5] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    return next((path for path in sorted(mapped) if Path(path).name.startswith(f"{stem}.so")), name)


def driver() -> Dict[str, Any]:
    """Query the GPUs that CUDA's driver shows to this process, in its order.

    Returns:
        `cuda`, the newest CUDA version that the driver supports, as 1000 * major + 10 * minor; `problem`, the reason
        why it shows no GPUs; `gpus`, each with `name`, `capability` and `memory` in bytes.
    """
    cuda = ctypes.CDLL("libcuda.so.1")
    version = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    code = cuda.cuInit(0)
    if code:
        return {"cuda": version.value, "problem": _error_name(cuda, code), "gpus": []}
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    return {"cuda": version.value, "problem": "", "gpus": [_gpu(cuda, number) for number in range(count.value)]}


def _gpu(cuda: ctypes.CDLL, number: int) -> Dict[str, Any]:
    device, major, minor, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    for code in (
        cuda.cuDeviceGet(ctypes.byref(device), number),
        cuda.cuDeviceGetName(name, len(name), device),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), MAJOR_CAPABILITY, device),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), MINOR_CAPABILITY, device),
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device),
    ):
        if code:
            raise OSError(f"GPU {number}: {_error_name(cuda, code)}")
    capability = [major.value, minor.value]
    return {"name": name.value.decode(errors="replace"), "capability": capability, "memory": memory.value}


def _error_name(cuda: ctypes.CDLL, code: int) -> str:
    name = ctypes.c_char_p()
    cuda.cuGetErrorName(code, ctypes.byref(name))
    return (name.value or b"CUDA error %d" % code).decode()


def mxnet() -> Dict[str, Any]:
    """Return MXNet's version, the features with which it was built, and the path of its native library."""
    imports("mxnet")  # alone at first, so that an error is MXNet's and not that of another import of the engine

    from gluon_aff.engines import MXNetEngine, engine

    return cast(MXNetEngine, engine("mxnet")).about()


def torch_gpus() -> int:
    """Return the number of GPUs that PyTorch finds."""
    from gluon_aff.engines import engine

    devices, _ = engine("torch").find_devices(",".join(map(str, range(MOST_GPUS))))
    return len(devices) if devices.kind == "gpu" else 0


def training_step(name: str, device: str, number: int) -> Dict[str, float]:
    """Run `gluon_aff.engines.Engine.try_step` of the engine called `name` on a device, cpu or gpu."""
    from gluon_aff.engines import Devices, engine

    return engine(name).try_step(Devices(device, (number,)))


def memory(name: str, model: str, batch: int, training: bool, gpus: str) -> Dict[str, Any]:
    """Run `gluon_aff.engines.Engine.measure_memory` in this process, for an engine and a model by their names."""
    from gluon_aff.engines import engine
    from gluon_aff.models import model_record

    chosen = engine(name)
    devices, _ = chosen.find_devices(gpus)
    return chosen.measure_memory(model_record(model).architecture(), batch, training, devices)


def published_files(root: str, clone: str) -> Dict[str, List[int]]:
    """Count the published weight files in `root`, and in a `clone` of the original repository unless that is empty.

    Returns:
        For each release, the number of files that are there, judged by their names, and the number of all files.
    """
    from gluon_aff.published import published_weights

    counts = {"head": [0, 0], "first": [0, 0]}
    for weights in published_weights():
        places = [Path(root, *weights.path.split("/")[1:]), Path(root, weights.file_name)]
        places += [Path(clone, weights.path)] if clone else []
        counts[weights.release][0] += any(place.is_file() for place in places)
        counts[weights.release][1] += 1
    return counts
