"""Choose the devices that MXNet uses."""

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
    """Return the devices for `--gpus` (comma-separated ids) and a line for the log that says which they are.

    The devices are those of the named GPUs that exist, or the CPU if there is no GPU.

    Args:
        gpus: the flag's text.
        strict: whether each named GPU has to exist.

    Raises:
        InputError: the text is not a list of ids, no GPU exists of those that are named although there are others, this
            MXNet carries no code for a named GPU, or, with `strict`, a named GPU does not exist. It is also raised if a
            bfloat16 run has changed MXNet's operators in this process.
    """
    if amp._amp_initialized:
        raise InputError("a bfloat16 run has changed MXNet's operators in this process: start a new process")
    usable, said = usable_gpus(gpus, _gpu_count(), strict, "MXNet")
    if not usable:
        return Devices(), f"device: CPU{_threads()}" + (f" ({_why_no_gpu()})" if gpus.strip(", ") else "")
    _check_capabilities(usable)
    return Devices("gpu", tuple(usable)), said


def contexts_of(devices: Devices) -> List[mx.Context]:
    """Return MXNet's contexts of the devices."""
    return [mx.Context(devices.kind, number) for number in devices.numbers]


def load_slices(array: np.ndarray, contexts: List[mx.Context]) -> List[mx.nd.NDArray]:
    """Put an equal slice of the rows on each device, as float32.

    The slices differ by at most one row. If there are fewer rows than devices, the first devices get one row each.
    """
    parts = np.array_split(array, min(len(array), len(contexts)))
    return [mx.nd.array(part).as_in_context(context) for part, context in zip(parts, contexts)]


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
    """Refuse GPUs for which this MXNet carries no code, before the first step would raise a CUDA error.

    Raises:
        InputError: a GPU cannot be used. The message names it, what MXNet runs on, and the remedy.
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
