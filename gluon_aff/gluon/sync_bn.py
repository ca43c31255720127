"""Normalise batches over all devices of a process with MXNet's SyncBatchNorm."""

from __future__ import annotations

from typing import Any, Dict, List

import mxnet as mx

from gluon_aff.errors import InputError


def norm_arguments(contexts: List[mx.Context], dtype: str = "float32") -> Dict[str, Any]:
    """Return the arguments `norm_layer` and `norm_kwargs` of a network that trains on `contexts`; none for one device.

    Parameters have the same names and shapes as those of BatchNorm. Statistics are taken over the slices of a batch on
    all devices of this process, not of other processes. The slices have to be equally large.

    Raises:
        InputError: the type is float16, in which MXNet's SyncBatchNorm cannot train, or there are several CPU devices.
            CPU devices share four work spaces, and devices that wait for each other would wait forever.
    """
    if len(contexts) == 1:
        return {}
    if dtype == "float16":
        raise InputError("--sync-bn: MXNet's SyncBatchNorm cannot train in float16: take float32, or leave it out")
    if any(context.device_type == "cpu" for context in contexts):
        raise InputError("--sync-bn: MXNet's SyncBatchNorm can hang on several CPU devices: use one, or GPUs")
    return {"norm_layer": mx.gluon.contrib.nn.SyncBatchNorm, "norm_kwargs": {"num_devices": len(contexts)}}
