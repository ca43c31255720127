"""Choose the engine that infers on this machine."""

from __future__ import annotations

from typing import Optional, Tuple

from gluon_aff._platform import AUTO, engine_name, torch_problem
from gluon_aff.engines import engine
from gluon_aff.errors import InputError
from gluon_aff.machine.gpus import find_driver


def engine_for_inference(name: Optional[str], gpus: str) -> Tuple[str, str]:
    """Return the name of the engine, and the reason for the choice.

    MXNet is the reference, and on a CPU neither engine is faster for all networks, so it is taken where it works. Only
    if there is a GPU that PyTorch can use and MXNet cannot, PyTorch is.

    Args:
        name: mxnet, torch or auto; if None, the one that $GLUON_AFF_ENGINE names, else auto.
        gpus: comma-separated ids of GPUs that may be used.

    Raises:
        NoEngineError: the named engine does not work here, or none does.
        InputError: there is no engine of that name.
    """
    name = engine_name(name)
    if name != AUTO:
        return name, "as asked for"
    if engine(AUTO).NAME != "MXNet":
        return "torch", "since MXNet does not work here"
    wants_gpu = bool(gpus.strip(", ")) and torch_problem() is None and bool(find_driver().gpus)
    if wants_gpu and not _has_gpu("mxnet", gpus) and _has_gpu("torch", gpus):
        return "torch", "since it can use the GPU and this MXNet cannot"
    return "mxnet", "the reference"


def _has_gpu(name: str, gpus: str) -> bool:
    """Return whether the engine can use one of these GPUs."""
    try:
        return engine(name).find_devices(gpus)[0].kind == "gpu"
    except InputError:  # MXNet refuses a GPU that is too new for it
        return False
