"""Which engine infers fastest here with the outputs of the reference."""

from __future__ import annotations

from typing import Optional, Tuple

from gluon_aff._platform import AUTO, engine_name, torch_problem
from gluon_aff.engines import engine
from gluon_aff.errors import InputError
from gluon_aff.machine.gpus import find_driver


def engine_for_inference(name: Optional[str], gpus: str) -> Tuple[str, str]:
    """Name of the engine, and why it is that one.

    On a CPU both are about as fast, and MXNet computed what was published. A GPU that only PyTorch can use decides for
    PyTorch.

    Args:
        name: mxnet, torch or auto; what $GLUON_AFF_ENGINE names if None, auto without that.
        gpus: ids, comma-separated, that may be used.

    Raises:
        NoEngineError: none works here, or not the one that is named.
    """
    name = name or engine_name()
    if name != AUTO:
        return name, "as asked for"
    if engine(AUTO).NAME != "MXNet":
        return "torch", "since MXNet does not work here"
    wants_gpu = bool(gpus.strip(", ")) and torch_problem() is None and bool(find_driver().gpus)
    if wants_gpu and not _has_gpu("mxnet", gpus) and _has_gpu("torch", gpus):
        return "torch", "since it can use the GPU and this MXNet cannot"
    return "mxnet", "the reference"


def _has_gpu(name: str, gpus: str) -> bool:
    """Whether the engine can use one of these GPUs."""
    try:
        return engine(name).find_devices(gpus)[0].kind == "gpu"
    except InputError:  # MXNet's, of a GPU that is too new for it
        return False
