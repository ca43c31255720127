"""Cards beside `.params` files: the same name with `.json`, and what a network's card says, for this very file."""

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
NO_TEXTS = ("outputs", "input_size", "base_size", "mean", "std", "class_names", "settings")


def card_path(params: str) -> str:
    """Path of the card of a `.params` file."""
    return str(Path(params).with_suffix(".json"))


def states_path(params: str) -> str:
    """Path of the optimizer states beside a `.params` file."""
    return str(Path(params).with_suffix(".states"))


def write_with_card(
    path: str,
    arrays: Mapping[str, np.ndarray],
    architecture: Architecture,
    card: Card,
    write_states: Optional[Callable[[str], None]] = None,
) -> None:
    """Write `arrays` to the `.params` file at `path`, and what goes with it beside it, all whole or not at all.

    The weights take their place last: without their states they would count as a run's best so far.

    Args:
        path: file to write.
        arrays: by name.
        architecture: the network.
        card: what is known of it; the hash becomes the file's.
        write_states: writes the `.states` file to the path that it is given; None for no such file.

    Raises:
        GluonAFFError: they cannot be written.
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
        Path(partial_card).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


def card_beside(params: str) -> Optional[Dict[str, str]]:
    """What the card beside a `.params` file says of it, as `card_text` gave it; None if there is none of this file.

    Raises:
        ParamsFileError: the `.params` file cannot be read.
    """
    found = _read(card_path(params))
    if HASH not in found or found[HASH] != sha256(params):
        return None
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}


def check_card_path(params: str) -> None:
    """Raise InputError where something else than a card has the name of the card of a `.params` file to be written."""
    path = card_path(params)
    if os.path.exists(path) and WRITER not in _read(path):
        raise InputError(f"{path} is no card of weights, and {params} would have its card there: take another name")


def remove_with_card(params: str) -> None:
    """Remove a `.params` file and its card, those that are there."""
    for path in (params, card_path(params)):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def _read(path: str) -> Dict[str, object]:
    """What is in a card, nothing if it is none."""
    try:
        found = json.loads(read_text(path)) if os.path.isfile(path) else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
