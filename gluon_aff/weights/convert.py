"""Weight files in another format: `.params`, `.pth` and `.safetensors`, told apart by their suffixes."""

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
IMAGES = 2  # that the outputs are compared on


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds.

    Attributes:
        path: the file.
        arrays: by the names that `.params` files have.
        said: what it says of its network, if it is one of `convert`'s.
    """

    path: str
    arrays: Mapping[str, np.ndarray]
    said: Mapping[str, str]


def format_of(path: str) -> str:
    """The suffix of `path`, one of `FORMATS`.

    Raises:
        InputError: it has another one.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise unknown_name(f"kind of weight file, {path}, by its suffix", suffix, FORMATS)
    return suffix


def read_weights(path: str) -> WeightFile:
    """Read a weight file of any of the formats; nothing in it is run.

    Raises:
        ParamsFileError: it cannot be read.
        NoEngineError: it is PyTorch's, and PyTorch is not installed.
    """
    if format_of(path) == PARAMS:
        return WeightFile(path, structural_arrays(path), {})
    arrays, said = torch_files().read_state(path)
    check_finite(arrays, path)
    return WeightFile(path, arrays, said)


def what_it_is_of(file: WeightFile, model: Optional[str] = None) -> Tuple[Architecture, Card]:
    """The network of the weights, and what is known of it: that model, or what the file says, or what its arrays fit.

    Raises:
        InputError: they fit no network known here.
    """
    if model is None and "host" in file.said:
        try:
            return architecture_of(file.said), card_of(file.said)
        except (KeyError, ValueError):
            raise ParamsFileError(f"{file.path} says of its network what cannot be: name it with --model") from None
    return describe(ParamsFile(file.path, dict(file.arrays), DEFAULT_VERSION, {}), model)


def convert(file: WeightFile, target: str, architecture: Architecture, card: Card) -> Dict[str, np.ndarray]:
    """Write the weights in the format of the suffix of `target`; read them back, and compare.

    Returns:
        The arrays, in the order of the network's parameters.

    Raises:
        ParamsFileError: the file does not fit the network.
        GluonAFFError: it cannot be written, or what is read back from it is not the same.
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
        raise GluonAFFError(f"{target} does not hold what {file.path} does ({differing[:5]}): do not use it")
    return arrays


def _logits(architecture: Architecture, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    side = architecture.input_size
    images = np.random.default_rng(0).normal(size=(IMAGES, 3, side, side)).astype(np.float32)
    return torch_files().logits(architecture, arrays, images)


def _same(first: np.ndarray, second: object) -> bool:
    """Whether it is an array of the same type, shape and bytes."""
    return (
        isinstance(second, np.ndarray)
        and (first.dtype, first.shape) == (second.dtype, second.shape)
        and first.tobytes() == second.tobytes()
    )
