"""Card files: `NAME.json` next to `NAME.params` holds the network's card and the SHA-256 of these very weights."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, Mapping, Optional

import numpy as np

from gluon_aff.errors import InputError
from gluon_aff.files import read_text, replacing_together
from gluon_aff.models import Architecture
from gluon_aff.weights.card import WRITER, Card, card_text
from gluon_aff.weights.params_format import git_blob_sha1, params_chunks, sha256

HASH = "weights_sha256"
NO_TEXTS = {"outputs", "input_size", "base_size", "mean", "std", "class_names", "settings"}


def card_path(params: str) -> str:
    """Return the path of the card that belongs to a `.params` file."""
    return str(Path(params).with_suffix(".json"))


def states_path(params: str) -> str:
    """Return the path of the optimizer states that belong to a `.params` file."""
    return str(Path(params).with_suffix(".states"))


def write_with_card(
    path: str,
    arrays: Mapping[str, np.ndarray],
    architecture: Architecture,
    card: Card,
    write_states: Optional[Callable[[str], None]] = None,
) -> None:
    """Write `arrays` to the `.params` file at `path`, with their card and optimizer states: all of it or nothing.

    The weights are moved into place last, because weights without their states would count as the run's best so far.

    Args:
        path: file to write.
        arrays: parameters by name.
        architecture: the network that they belong to.
        card: description of the network; its `git_blob_sha1` is replaced by that of the new file.
        write_states: function that writes the `.states` file to the path it is given; None to write no such file.

    Raises:
        GluonAFFError: the files cannot be written.
    """
    chunks = params_chunks(path, arrays)
    states = {states_path(path): write_states} if write_states else {}
    with replacing_together(*states, card_path(path), path) as (*partial_states, partial_card, partial):
        for write, partial_state in zip(states.values(), partial_states):
            write(partial_state)
        with open(partial, "wb") as file:
            file.writelines(chunks)
        said = card_text(architecture, replace(card, git_blob_sha1=git_blob_sha1(partial)))
        said[HASH] = sha256(partial)
        written = {name: json.loads(text) if name in NO_TEXTS else text for name, text in said.items()}
        Path(partial_card).write_text(json.dumps(written, indent=2) + "\n")


def card_beside(params: str) -> Optional[Dict[str, str]]:
    """Read the card next to a `.params` file, as `card_text` returned it.

    Returns:
        None if there is no card, or if it belongs to other weights.

    Raises:
        ParamsFileError: the `.params` file cannot be read.
    """
    found = _read(card_path(params))
    if HASH not in found or found[HASH] != sha256(params):
        return None
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}


def check_card_path(params: str) -> None:
    """Raise InputError if a file that is not a card stands where the card of a new `.params` file would go."""
    path = card_path(params)
    if os.path.exists(path) and WRITER not in _read(path):
        raise InputError(
            f"{path} is not a card, and the card of {params} would be written there: choose another name for the "
            "weights"
        )


def remove_with_card(params: str) -> None:
    """Remove a `.params` file and its card, if they exist."""
    for path in (params, card_path(params)):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def _read(path: str) -> Dict[str, object]:
    """Return the content of a card; an empty dictionary if the file is missing or is not a card."""
    try:
        found = json.loads(read_text(path)) if os.path.isfile(path) else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
