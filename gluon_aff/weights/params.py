"""`.params` files of Gluon's `save_parameters`: structural names and arrays."""

from __future__ import annotations

import struct
from typing import Dict, Iterable, List

import mxnet as mx
from mxnet.gluon import HybridBlock, Parameter

from gluon_aff.errors import ParamsFileError, last_line
from gluon_aff.files import replacing

LIST_MAGIC = 0x112
NAMES_IN_MESSAGE = 5


def save_parameters(net: HybridBlock, path: str) -> None:
    """Write the parameters of `net` to `path`, whole or not at all.

    Raises:
        GluonAFFError: if the file cannot be written.
    """
    with replacing(path) as partial:
        try:
            net.save_parameters(partial)
        except mx.MXNetError as error:
            raise OSError(last_line(error)) from None


def read_params(path: str) -> Dict[str, mx.nd.NDArray]:
    """Read the named arrays of the `.params` file at `path`.

    Raises:
        ParamsFileError: if it is missing, damaged or something else.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise ParamsFileError(f"{path}: {error.strerror}; name an existing .params file") from None
    if len(start) < 8 or struct.unpack("<Q", start)[0] != LIST_MAGIC:
        raise ParamsFileError(f"{path} is not a .params file (it starts with {start!r}): get it again")
    try:
        arrays = mx.nd.load(path)
    except (mx.MXNetError, MemoryError, ValueError, UnicodeDecodeError) as error:
        raise ParamsFileError(f"{path} is damaged ({last_line(error)}): get it again") from None
    if not isinstance(arrays, dict):
        raise ParamsFileError(f"{path} holds arrays without names: it was not written by save_parameters")
    return arrays


def load_parameters(
    net: HybridBlock, path: str, ctx: object = None, *, fresh_head: bool = False, ignore_extra: bool = False
) -> None:
    """Load the `.params` file at `path` into `net`, cast to the network's types; all of it or nothing.

    Args:
        net: network, initialised if `fresh_head`.
        path: file of `save_parameters`, ours or the original's.
        ctx: context or contexts for parameters not initialised yet (cpu if None).
        fresh_head: keep the network's own head where the file's has another size.
        ignore_extra: take no notice of arrays the network lacks.

    Raises:
        ParamsFileError: if the file is damaged or does not fit, with how many arrays are missing, unexpected or of
            another shape, and the first names of each kind.
    """
    arrays = read_params(path)
    parameters = dict(net._collect_params_with_prefix())
    if fresh_head:
        for name in head_names(parameters):
            if name in arrays and not _same_shape(parameters[name], arrays[name]):
                del parameters[name], arrays[name]
    misfit = _misfit(parameters, arrays, ignore_extra)
    if misfit:
        raise ParamsFileError(f"{path} does not fit {type(net).__name__}: {misfit}. Build the network it is of")
    for name, parameter in parameters.items():
        parameter._load_init(arrays[name], ctx, cast_dtype=True, dtype_source="current")


def head_names(names: Iterable[str]) -> List[str]:
    """Parameter names of the last dense layer: `output` in CIFAR and ResNeXt hosts, `fc` in the ImageNet ResNet."""
    return [name for name in names if name.split(".")[0] in ("output", "fc")]


def _same_shape(parameter: Parameter, array: mx.nd.NDArray) -> bool:
    """Whether `array` fits; 0 in a parameter's shape stands for a size not known before the first image."""
    shape = parameter.shape
    return len(shape) == len(array.shape) and all(p in (0, a) for p, a in zip(shape, array.shape))


def _misfit(parameters: Dict[str, Parameter], arrays: Dict[str, mx.nd.NDArray], ignore_extra: bool) -> str:
    missing = [name for name in parameters if name not in arrays]
    unexpected = [name for name in arrays if name not in parameters and not ignore_extra]
    other_shape = [
        f"{name} (file {_shape(arrays[name])}, network {_shape(parameter)})"
        for name, parameter in parameters.items()
        if name in arrays and not _same_shape(parameter, arrays[name])
    ]
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": other_shape}
    return "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in parts.items() if names)


def _shape(of: object) -> str:
    return "x".join(str(size or "?") for size in of.shape)  # type: ignore[attr-defined]


def _some(names: List[str]) -> str:
    rest = len(names) - NAMES_IN_MESSAGE
    return ", ".join(names[:NAMES_IN_MESSAGE]) + (f" and {rest} more" if rest > 0 else "")
