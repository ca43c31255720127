"""Networks and their `.params` files: saving, loading, misfits."""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from gluon_aff.errors import ParamsFileError, last_line
from gluon_aff.files import replacing
from gluon_aff.weights.params_format import BFLOAT16, ParamsFile, read_params_file

NAMES_IN_MESSAGE = 5


def save_parameters(net: HybridBlock, path: str) -> None:
    """Write the parameters of `net` to `path`, whole or not at all.

    Raises:
        GluonAFFError: if the file cannot be written.
    """
    with replacing(path) as partial:
        try:
            net.save_parameters(partial)
            read_params_file(partial)  # MXNet says nothing where the last bytes do not fit on the disk
        except (mx.MXNetError, ParamsFileError) as error:
            raise OSError(last_line(error)) from None


def load_parameters(
    net: HybridBlock, path: str, ctx: object = None, *, fresh_head: bool = False, ignore_extra: bool = False
) -> List[str]:
    """Load the `.params` file at `path` into `net`, cast to the network's types; all of it or nothing.

    MXNet sees arrays of a file that was checked to its last length, never the file.

    Args:
        net: network, initialised or not.
        path: file of `save_parameters`, ours or the original's.
        ctx: context or contexts for parameters not initialised yet (cpu if None).
        fresh_head: keep the network's own head where the file's has another size.
        ignore_extra: take no notice of arrays the network lacks.

    Returns:
        Names of the arrays that `fresh_head` left out; where the network was not initialised, those are not either.

    Raises:
        ParamsFileError: if the file is damaged or does not fit, with how many arrays are missing, unexpected or of
            another shape, and the first names of each kind.
    """
    return load_arrays(net, _structural(read_params_file(path)), path, ctx, fresh_head, ignore_extra)


def load_arrays(
    net: HybridBlock,
    arrays: Mapping[str, np.ndarray],
    source: str,
    ctx: object = None,
    fresh_head: bool = False,
    ignore_extra: bool = False,
) -> List[str]:
    """`load_parameters` with the `arrays` of a file; `source` is what a message calls it."""
    arrays = dict(arrays)
    parameters = dict(net._collect_params_with_prefix())
    left_out = [
        name
        for name in head_names(parameters)
        if fresh_head and name in arrays and not fits(parameters[name], arrays[name])
    ]
    for name in left_out:
        del parameters[name], arrays[name]
    misfit = _misfit(parameters, arrays, ignore_extra)
    if misfit:
        raise ParamsFileError(f"{source} does not fit {type(net).__name__}: {misfit}. Build the network it is of")
    for name, parameter in parameters.items():
        array = _for_mxnet(arrays[name])
        parameter._load_init(mx.nd.array(array, dtype=array.dtype), ctx, cast_dtype=True, dtype_source="current")
    return left_out


def head_names(names: Iterable[str]) -> List[str]:
    """Parameter names of the last layer: `output`, `fc` in the ImageNet ResNet, `head.4` in the feature pyramid."""
    return [name for name in names if name.startswith(("output.", "fc.", "head.4."))]


def fits(parameter: Parameter, array: np.ndarray) -> bool:
    """Whether `array` fits; 0 in a parameter's shape stands for a size not known before the first image."""
    shape = parameter.shape
    return len(shape) == len(array.shape) and all(p in (0, a) for p, a in zip(shape, array.shape))


def _structural(file: ParamsFile) -> Dict[str, np.ndarray]:
    """Arrays of `file` by the structural names that `save_parameters` writes."""
    if file.exported:
        raise ParamsFileError(
            f"{file.path} was written by HybridBlock.export: load it with mxnet.gluon.SymbolBlock.imports and its "
            "-symbol.json, or save the network with save_parameters"
        )
    return dict(file.arrays)


def _for_mxnet(array: np.ndarray) -> np.ndarray:
    """bfloat16, which NumPy lacks, as float32; all others as they are."""
    if array.dtype != BFLOAT16:
        return array
    return (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)


def _misfit(parameters: Dict[str, Parameter], arrays: Dict[str, np.ndarray], ignore_extra: bool) -> str:
    missing = [name for name in parameters if name not in arrays]
    unexpected = [name for name in arrays if name not in parameters and not ignore_extra]
    other_shape = [
        f"{name} (file {_shape(arrays[name])}, network {_shape(parameter)})"
        for name, parameter in parameters.items()
        if name in arrays and not fits(parameter, arrays[name])
    ]
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": other_shape}
    return "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in parts.items() if names)


def _shape(of: object) -> str:
    return "x".join(str(size or "?") for size in of.shape)  # type: ignore[attr-defined]


def _some(names: List[str]) -> str:
    rest = len(names) - NAMES_IN_MESSAGE
    return ", ".join(names[:NAMES_IN_MESSAGE]) + (f" and {rest} more" if rest > 0 else "")
