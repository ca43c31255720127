"""Match the arrays of a `.params` file with the names and shapes of a network's parameters."""

from __future__ import annotations

import re
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

from gluon_aff.errors import ParamsFileError
from gluon_aff.weights.params_format import BFLOAT16, read_params_file

NAMES_IN_MESSAGE = 5
WHOLE_WEIGHTS = (
    "use weights from before they appeared; to study these, evaluate, predict, gradcam and selectivity take "
    "--allow-not-finite, and the functions that load weights take allow_not_finite=True"
)
SAVE_ANEW = (
    "load it with mxnet.gluon.SymbolBlock.imports and its -symbol.json, or save the network with save_parameters"
)

Shape = Tuple[int, ...]  # of a parameter; 0 stands for a size that is not known before the first image
RawNames = Callable[[], Mapping[str, str]]  # returns the raw name for each structural name of a network's parameters


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
    """Return the arrays that fit the network's parameters, in the order of `shapes`; bfloat16 becomes float32.

    Args:
        arrays: arrays of the file by structural name, or by raw name as in `by_raw_names`.
        source: what a message calls the file.
        shapes: shapes of the network's parameters by name.
        raw_names: returns the raw names of the same parameters.
        network: what a message calls the network.
        fresh_head: leave the head out if the file has a head of another size.
        ignore_extra: ignore arrays that the network does not have.

    Raises:
        ParamsFileError: the arrays do not fit. The message says how many are missing, unexpected or of another shape,
            and names the first ones of each kind.
    """
    named = by_raw_names(arrays, shapes, raw_names)
    if named is None and raw_named(arrays):
        raise ParamsFileError(
            f"{source} has raw names, as HybridBlock.export and collect_params().save write them, and its arrays do "
            f"not match {network}, neither by name nor in their order: {SAVE_ANEW}"
        )
    arrays, wanted = dict(named or arrays), dict(shapes)
    for name in head_names(shapes):
        if fresh_head and name in arrays and not fits(shapes[name], arrays[name].shape):
            del wanted[name], arrays[name]
    misfit = _misfit(wanted, arrays, ignore_extra)
    if misfit:
        raise ParamsFileError(f"{source} does not fit {network}: {misfit}. Build the network that it belongs to")
    return {name: _in_numpy(arrays[name]) for name in wanted}


def raw_named(names: Iterable[str]) -> bool:
    """Return whether these are raw names, such as `arg:cifaraffresnet0_conv0_weight`.

    Their numbers count the layers that a process has built. HybridBlock.export puts `arg:` or `aux:` in front of them,
    collect_params().save does not.
    """
    names = list(names)
    return bool(names) and not any("." in name for name in names)


def by_raw_names(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], raw_names: RawNames
) -> Optional[Dict[str, np.ndarray]]:
    """Return arrays that have raw names by the structural names in `shapes`.

    The raw names of one network in two processes differ only in the number at which the layers of each kind start, so
    sorting by these numbers matches them. The order of the arrays does not matter: MXNet's Module and
    `gluon-aff export` write running statistics last. If the layers have other names, the arrays are matched in the
    order of the `shapes`.

    Args:
        arrays: arrays of the file.
        shapes: shapes of the network's parameters, in the network's order.
        raw_names: returns the raw names of the same parameters.

    Returns:
        None if the names are not raw, or if the arrays match the network neither by name nor in their order.
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
    """Split a raw name, without `arg:` or `aux:`, into its text and its numbers, in a form that sorts by value."""
    name = re.sub("^(arg|aux):", "", raw)
    return re.sub("[0-9]+", "0", name), [(len(number), number) for number in re.findall("[0-9]+", name)]


def head_names(names: Iterable[str]) -> List[str]:
    """Return the parameter names of the last layer: `output`, `fc` (ImageNet ResNet) or `head.4` (feature pyramid).

    Raw names do not tell which layer is last; of them, the last two trained parameters are returned.
    """
    names = list(names)
    if raw_named(names):
        return [name for name in names if "running_" not in name][-2:]
    return [name for name in names if name.startswith(("output.", "fc.", "head.4."))]


def fits(parameter: Shape, array: Shape) -> bool:
    """Return whether an array of the shape `array` fits a parameter of the shape `parameter`, where 0 fits any size."""
    return len(parameter) == len(array) and all(p in (0, a) for p, a in zip(parameter, array))


def structural_arrays(path: str, allow_not_finite: bool = False) -> Mapping[str, np.ndarray]:
    """Read the arrays of the `.params` file at `path` by their names, which are structural or raw (`raw_named`).

    Args:
        path: path of the file.
        allow_not_finite: also accept values that are NaN or infinite.

    Raises:
        ParamsFileError: the file is damaged, or has NaN or infinite values.
    """
    arrays = read_params_file(path).arrays
    if not allow_not_finite:
        check_finite(arrays, path)
    return arrays


def not_finite(arrays: Mapping[str, np.ndarray]) -> List[str]:
    """Return the names of the arrays that have NaN or infinite values."""
    values = {name: _in_numpy(array) for name, array in arrays.items()}
    return [name for name, array in values.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]


def check_finite(arrays: Mapping[str, np.ndarray], source: str, remedy: str = WHOLE_WEIGHTS) -> None:
    """Check that all values are finite, because operators such as ReLU can hide a NaN from the outputs.

    Args:
        arrays: arrays of the file by name.
        source: what a message calls the file.
        remedy: end of the message, which says what to do.

    Raises:
        ParamsFileError: a value is NaN or infinite.
    """
    names = not_finite(arrays)
    if names:
        raise ParamsFileError(
            f"{source} has NaN or infinity in {len(names)} of {len(arrays)} arrays ({_some(names)}): {remedy}"
        )


def _in_numpy(array: np.ndarray) -> np.ndarray:
    """Return a bfloat16 array, a type that NumPy does not have, as float32; return any other array unchanged."""
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
