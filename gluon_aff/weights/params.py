"""What of a `.params` file is for a network, known by its parameters' names and shapes."""

from __future__ import annotations

import re
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

from gluon_aff.errors import ParamsFileError
from gluon_aff.weights.params_format import BFLOAT16, read_params_file

NAMES_IN_MESSAGE = 5
WHOLE_WEIGHTS = (
    "get weights from before that; to study these, evaluate, predict, gradcam and selectivity take --allow-not-finite, "
    "and in Python whatever loads them takes allow_not_finite=True"
)
SAVE_ANEW = (
    "load it with mxnet.gluon.SymbolBlock.imports and its -symbol.json, or save the network with save_parameters"
)

Shape = Tuple[int, ...]  # of a parameter; 0 stands for a size not known before the first image
RawNames = Callable[[], Mapping[str, str]]  # of a network's parameters, by their structural ones


def fitting_arrays(
    arrays: Mapping[str, np.ndarray],
    source: str,
    shapes: Mapping[str, Shape],
    raw_names: RawNames,
    network: str,
    *,
    fresh_head: bool = False,
    ignore_extra: bool = False,
) -> Dict[str, np.ndarray]:
    """Those of the arrays that parameters of these shapes take, in their order; float32 if bfloat16.

    Args:
        arrays: of a file, by structural names, or by raw ones as `by_raw_names` takes them.
        source: what to call the file in a message.
        shapes: of the network's parameters by name.
        raw_names: of the same parameters.
        network: what to call it in a message.
        fresh_head: leave the head out where the file's has another size.
        ignore_extra: take no notice of arrays the network lacks.

    Raises:
        ParamsFileError: if they do not fit, with how many are missing, unexpected or of another shape, and the first
            names of each kind.
    """
    named = by_raw_names(arrays, shapes, raw_names)
    if named is None and raw_named(arrays):
        raise ParamsFileError(
            f"{source} has raw names, as HybridBlock.export and collect_params().save write them, and its arrays are "
            f"not those of {network}, by their names or in their order: {SAVE_ANEW}"
        )
    arrays, wanted = dict(named or arrays), dict(shapes)
    for name in head_names(shapes):
        if fresh_head and name in arrays and not fits(shapes[name], arrays[name].shape):
            del wanted[name], arrays[name]
    misfit = _misfit(wanted, arrays, ignore_extra)
    if misfit:
        raise ParamsFileError(f"{source} does not fit {network}: {misfit}. Build the network it is of")
    return {name: _in_numpy(arrays[name]) for name in wanted}


def raw_named(names: Iterable[str]) -> bool:
    """Whether these are raw names, such as `arg:cifaraffresnet0_conv0_weight`, which count the layers of a process.

    HybridBlock.export writes them behind `arg:` and `aux:`, collect_params().save without.
    """
    names = list(names)
    return bool(names) and not any("." in name for name in names)


def by_raw_names(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], raw_names: RawNames
) -> Optional[Dict[str, np.ndarray]]:
    """Arrays with raw names by the structural names of the `shapes`.

    Raw names of one network in two processes differ by the numbers that the layers of a kind begin with, so sorting by
    numbers matches them, in whatever order the arrays are: MXNet's Module and `gluon-aff export` write running
    statistics last. A network that calls its layers otherwise has its arrays in the order of the `shapes`.

    Args:
        arrays: of a file.
        shapes: of the network's parameters, in its order.
        raw_names: of the same parameters.

    Returns:
        None if the names are not raw, or the kinds and shapes are not those of the network in either way.
    """
    if not raw_named(arrays) or len(arrays) != len(shapes):
        return None
    ours = {name: _kind_and_numbers(raw) for name, raw in raw_names().items()}
    theirs = {name: _kind_and_numbers(name) for name in arrays}
    pairs = list(zip(sorted(ours, key=ours.__getitem__), sorted(theirs, key=theirs.__getitem__)))
    if any(ours[name][0] != theirs[raw][0] for name, raw in pairs):
        pairs = list(zip(shapes, arrays))
    alike = (
        raw.endswith(f"_{name.rpartition('.')[2]}") and fits(shapes[name], arrays[raw].shape) for name, raw in pairs
    )
    return {name: arrays[raw] for name, raw in pairs} if all(alike) else None


def _kind_and_numbers(raw: str) -> Tuple[str, List[Tuple[int, str]]]:
    """A raw name without its numbers, and these, as they sort by value; `arg:` and `aux:` left out."""
    name = re.sub("^(arg|aux):", "", raw)
    return re.sub("[0-9]+", "0", name), [(len(number), number) for number in re.findall("[0-9]+", name)]


def head_names(names: Iterable[str]) -> List[str]:
    """Parameter names of the last layer: `output`, `fc` in the ImageNet ResNet, `head.4` in the feature pyramid.

    Of raw names, which do not tell, the last two that are trained.
    """
    names = list(names)
    if raw_named(names):
        return [name for name in names if "running_" not in name][-2:]
    return [name for name in names if name.startswith(("output.", "fc.", "head.4."))]


def fits(parameter: Shape, array: Shape) -> bool:
    """Whether an array of that shape fits a parameter of this one."""
    return len(parameter) == len(array) and all(p in (0, a) for p, a in zip(parameter, array))


def structural_arrays(path: str, allow_not_finite: bool = False) -> Mapping[str, np.ndarray]:
    """Arrays of the `.params` file at `path` by the names in it: structural ones, or raw ones (`raw_named`).

    Args:
        path: of the file.
        allow_not_finite: take values that are NaN or infinite too.

    Raises:
        ParamsFileError: if the file is damaged, or has such values.
    """
    arrays = read_params_file(path).arrays
    if not allow_not_finite:
        check_finite(arrays, path)
    return arrays


def not_finite(arrays: Mapping[str, np.ndarray]) -> List[str]:
    """Names of the arrays with values that are NaN or infinite."""
    values = {name: _in_numpy(array) for name, array in arrays.items()}
    return [name for name, array in values.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]


def check_finite(arrays: Mapping[str, np.ndarray], source: str, remedy: str = WHOLE_WEIGHTS) -> None:
    """See that all values are numbers: operators such as ReLU hide a NaN, so that outputs say nothing of it.

    Args:
        arrays: of a file, by name.
        source: what to call the file in a message.
        remedy: that the message names.

    Raises:
        ParamsFileError: one is NaN or infinite.
    """
    names = not_finite(arrays)
    if names:
        raise ParamsFileError(
            f"{source} has NaN or infinity in {len(names)} of {len(arrays)} arrays ({_some(names)}): {remedy}"
        )


def _in_numpy(array: np.ndarray) -> np.ndarray:
    """bfloat16, which NumPy lacks, as float32; all others as they are."""
    if array.dtype != BFLOAT16:
        return array
    return (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)


def _misfit(shapes: Mapping[str, Shape], arrays: Mapping[str, np.ndarray], ignore_extra: bool) -> str:
    missing = [name for name in shapes if name not in arrays]
    unexpected = [name for name in arrays if name not in shapes and not ignore_extra]
    other_shape = [
        f"{name} (file {_text(arrays[name].shape)}, network {_text(shape)})"
        for name, shape in shapes.items()
        if name in arrays and not fits(shape, arrays[name].shape)
    ]
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": other_shape}
    return "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in parts.items() if names)


def _text(shape: Shape) -> str:
    return "x".join(str(size or "?") for size in shape)


def _some(names: List[str]) -> str:
    rest = len(names) - NAMES_IN_MESSAGE
    return ", ".join(names[:NAMES_IN_MESSAGE]) + (f" and {rest} more" if rest > 0 else "")
