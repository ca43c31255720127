"""Which devices MXNet uses."""

from __future__ import annotations

import os
from typing import List, Tuple

import mxnet as mx
import numpy as np
from mxnet.contrib.amp import amp

from gluon_aff.engines import Devices
from gluon_aff.errors import InputError
from gluon_aff.machine.gpus import CU112, TO_CUDA, carried_code, find_driver, unusable, usable_gpus
from gluon_aff.machine.threads import THREADS


def find_devices(gpus: str, strict: bool = False) -> Tuple[Devices, str]:
    """Devices for `--gpus` (comma-separated ids) and a line that says what was chosen.

    The GPUs named that are there; the CPU if there is none.

    Raises:
        InputError: for text that is no list of ids, if GPUs exist but none of those named, if this MXNet carries no
            code for one of those named, or, with `strict`, if one of those named does not exist; and in a process in
            which a bfloat16 run has changed MXNet's operators.
    """
    if amp._amp_initialized:
        raise InputError("a bfloat16 run has changed MXNet's operators in this process: start another")
    usable, said = usable_gpus(gpus, _gpu_count(), strict, "MXNet")
    if not usable:
        return Devices(), f"device: CPU{_threads()}" + (f" ({_why_no_gpu()})" if gpus.strip(", ") else "")
    _check_capabilities(usable)
    return Devices("gpu", tuple(usable)), said


def contexts_of(devices: Devices) -> List[mx.Context]:
    """MXNet's contexts of them."""
    return [mx.Context(devices.kind, number) for number in devices.numbers]


def load_slices(array: np.ndarray, contexts: List[mx.Context]) -> List[mx.nd.NDArray]:
    """An equal slice of the rows, or nearly, on each device, float32; of fewer rows one each on the first devices."""
    parts = np.array_split(array, min(len(array), len(contexts)))
    return [mx.nd.array(part, ctx=mx.cpu()).as_in_context(context) for part, context in zip(parts, contexts)]


def _gpu_count() -> int:
    try:
        return int(mx.context.num_gpus())
    except mx.MXNetError:  # a CUDA build without a driver
        return 0


def _why_no_gpu() -> str:
    if mx.runtime.Features().is_enabled("CUDA"):
        return "MXNet finds no GPU"
    gpus = find_driver().gpus
    if not gpus:
        return "MXNet finds no GPU"
    useless = unusable(gpus, CU112)
    if len(useless) == len(gpus):
        return f"this MXNet has no CUDA, and mxnet-cu112 cannot run on {useless[0]}"
    return f"this MXNet has no CUDA: {TO_CUDA}"


def _check_capabilities(numbers: List[int]) -> None:
    """Say now what would be a CUDA error at the first step.

    Raises:
        InputError: naming the GPU, what MXNet runs on, and what to do.
    """
    code = carried_code(mx.libinfo.find_lib_path()[0])
    gpus = [gpu for gpu in find_driver().gpus if gpu.number in numbers]
    useless = unusable(gpus, code)
    if useless:
        others = ",".join(str(gpu.number) for gpu in gpus if gpu not in useless)
        beside = f"on GPU {others} (--gpus {others}; for --num-gpus, CUDA_VISIBLE_DEVICES hides the rest) or "
        raise InputError(
            f"this MXNet cannot run on {' and '.join(map(str, useless))}: it has {code}. "
            f"Train {beside if others else ''}on the CPU (--gpus '', --num-gpus 0)"
        )


def _threads() -> str:
    threads = os.environ.get(THREADS)
    return f", {THREADS}={threads}" if threads else ""
