"""Convert weight files between `.params`, `.pth` and `.safetensors`; the suffix of a file tells its format."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple

import numpy as np

from gluon_aff.engines import torch_files
from gluon_aff.errors import GluonAFFError, ParamsFileError, unknown_name
from gluon_aff.models import Architecture
from gluon_aff.weights.card import Card, architecture_of, card_of, card_text
from gluon_aff.weights.card_file import check_card_path, write_with_card
from gluon_aff.weights.description import describe
from gluon_aff.weights.params import by_raw_names, check_finite, fitting_arrays, structural_arrays
from gluon_aff.weights.params_format import DEFAULT_VERSION, ParamsFile

PARAMS = ".params"
FORMATS = (PARAMS, ".pth", ".safetensors")
IMAGES = 2  # random images on which the outputs are compared


@dataclass(frozen=True)
class WeightFile:
    """Holds the content of a weight file.

    Attributes:
        path: path of the file.
        arrays: parameters by the names that they have in `.params` files.
        said: description of the network that `convert` has stored in the file; empty for other files.
    """

    path: str
    arrays: Mapping[str, np.ndarray]
    said: Mapping[str, str]


def format_of(path: str) -> str:
    """Return the suffix of `path`, one of `FORMATS`.

    Raises:
        InputError: the file has another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise unknown_name(f"kind of weight file, {path}, by its suffix", suffix, FORMATS)
    return suffix


def read_weights(path: str) -> WeightFile:
    """Read a weight file in any of the three formats, without running code from it.

    Raises:
        ParamsFileError: the file cannot be read.
        NoEngineError: the file is in a format of PyTorch, and PyTorch is not installed.
    """
    if format_of(path) == PARAMS:
        return WeightFile(path, structural_arrays(path), {})
    arrays, said = torch_files().read_state(path)
    check_finite(arrays, path)
    return WeightFile(path, arrays, said)


def what_it_is_of(file: WeightFile, model: Optional[str] = None) -> Tuple[Architecture, Card]:
    """Return the network that the weights belong to, and its card.

    The network is `model` if that is given, else the one that the file describes, else the one that its arrays fit.

    Raises:
        InputError: the arrays fit no network of this package.
    """
    if model is None and "host" in file.said:
        try:
            return architecture_of(file.said), card_of(file.said)
        except (KeyError, ValueError):
            raise ParamsFileError(
                f"{file.path} describes a network that cannot exist: name the network with --model"
            ) from None
    return describe(ParamsFile(file.path, dict(file.arrays), DEFAULT_VERSION, {}), model)


def convert(file: WeightFile, target: str, architecture: Architecture, card: Card) -> Dict[str, np.ndarray]:
    """Write the weights to `target`, in the format of its suffix; then read them back and compare.

    Returns:
        The arrays, in the order of the network's parameters.

    Raises:
        ParamsFileError: the file does not fit the network.
        GluonAFFError: the target cannot be written, or what is read back differs in an array or in an output.
    """
    shapes = torch_files().parameter_shapes(architecture)
    raw_names = partial(torch_files().raw_names, architecture)
    fitting_arrays(file.arrays, file.path, shapes, raw_names, architecture.name)
    named = by_raw_names(file.arrays, shapes, raw_names) or file.arrays
    arrays = {name: named[name] for name in shapes}
    if format_of(target) == PARAMS:
        check_card_path(target)
    expected = _logits(architecture, arrays)
    if format_of(target) == PARAMS:
        write_with_card(target, arrays, architecture, card)
    else:
        torch_files().write_state(target, arrays, card_text(architecture, card))
    written = read_weights(target).arrays
    differing = [name for name, array in arrays.items() if not _same(array, written.get(name))]
    if differing or not np.array_equal(_logits(architecture, written), expected):
        raise GluonAFFError(f"{target} differs from {file.path} when read back ({differing[:5]}): do not use it")
    return arrays


def _logits(architecture: Architecture, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    side = architecture.input_size
    images = np.random.default_rng(0).normal(size=(IMAGES, 3, side, side)).astype(np.float32)
    return torch_files().logits(architecture, arrays, images)


def _same(first: np.ndarray, second: object) -> bool:
    """Return whether `second` is an array of the same type, shape and bytes as `first`."""
    return (
        isinstance(second, np.ndarray)
        and (first.dtype, first.shape) == (second.dtype, second.shape)
        and first.tobytes() == second.tobytes()
    )
