"""Which devices a run uses."""

from __future__ import annotations

from typing import List, Tuple

import mxnet as mx

from gluon_aff.errors import InputError


def training_contexts(gpus: str, strict: bool = False) -> Tuple[List[mx.Context], str]:
    """Contexts for `--gpus` (comma-separated ids) and a line that says what was chosen.

    The GPUs named that are there; the CPU if there is none.

    Raises:
        InputError: for text that is no list of ids, if GPUs exist but none of those named, or, with `strict`, if one
            of those named does not exist.
    """
    try:
        wanted = sorted({int(gpu) for gpu in gpus.split(",") if gpu.strip()})
    except ValueError:
        raise InputError(f"--gpus {gpus!r} is not a list of GPU ids such as 0,1") from None
    there = _gpu_count()
    if strict and any(not 0 <= gpu < there for gpu in wanted):
        raise InputError(f"--strict-devices: GPUs {gpus} are asked for, and MXNet finds {there}")
    if not wanted or there == 0:
        return [mx.cpu()], "device: CPU" + ("" if not wanted else " (MXNet finds no GPU)")
    usable = [gpu for gpu in wanted if 0 <= gpu < there]
    if not usable:
        raise InputError(f"--gpus {gpus}: this machine has GPUs 0 to {there - 1} only")
    missing = [str(gpu) for gpu in wanted if gpu not in usable]
    note = f" (not there: {','.join(missing)})" if missing else ""
    return [mx.gpu(gpu) for gpu in usable], f"devices: GPU {','.join(map(str, usable))}{note}"


def _gpu_count() -> int:
    try:
        return int(mx.context.num_gpus())
    except mx.MXNetError:  # a CUDA build without a driver
        return 0
