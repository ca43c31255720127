"""Batch normalisation over all devices of a process (MXNet's SyncBatchNorm), for the networks' norm arguments."""

from __future__ import annotations

from typing import Any, Dict, List

import mxnet as mx

from gluon_aff.errors import InputError


def norm_arguments(contexts: List[mx.Context], dtype: str = "float32") -> Dict[str, Any]:
    """Arguments `norm_layer` and `norm_kwargs` of a network that trains on `contexts`; none for one device.

    Parameters have the same names and shapes as BatchNorm's. Statistics are those of the devices' slices of a batch
    together, which have to be equally large; not of other processes.

    Raises:
        InputError: for float16, which MXNet's SyncBatchNorm cannot train in, and for several CPU devices: these share
            four work spaces, for which devices that wait for each other wait forever.
    """
    if len(contexts) == 1:
        return {}
    if dtype == "float16":
        raise InputError("--sync-bn: MXNet's SyncBatchNorm has no float16: train with --dtype float32, or without it")
    if any(context.device_type == "cpu" for context in contexts):
        raise InputError("--sync-bn: MXNet's SyncBatchNorm can hang on several CPU devices: use one, or GPUs")
    return {"norm_layer": mx.gluon.contrib.nn.SyncBatchNorm, "norm_kwargs": {"num_devices": len(contexts)}}
