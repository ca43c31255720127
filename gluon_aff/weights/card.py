"""Cards: what a network is and which images it expects, as text that is stored in or next to a weight file."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Sequence, Tuple

from gluon_aff._version import __version__
from gluon_aff.data.cifar.files import CIFAR_MEAN, CIFAR_STD
from gluon_aff.data.imagenet.images import CROP_RATIO, EFFICIENTNET_BORDER, FOLDER_MEAN, FOLDER_STD, LARGE_INPUT
from gluon_aff.models import HOSTS, MODELS, Architecture

_IN_ALL = {
    "network",
    "preprocessing",
    "input_size",
    "outputs",
    "weights_git_blob_sha1",
    "labels",
    "dataset",
    "class_names",
}
_NOT_IN_ALL = {"base_size", "engine", "versions"}  # older files lack these
WRITER = "gluon_aff"  # the key whose presence marks a card of this package; its value is the package's version


@dataclass(frozen=True)
class Card:
    """Describes a network with weights.

    Attributes:
        network: name of the network.
        for_cifar: True for the CIFAR networks, which take images of 32 x 32 pixels.
        input_size: side of the square input in pixels.
        outputs: number of outputs.
        git_blob_sha1: git blob SHA-1 of the `.params` file that holds the weights.
        labels: label set of the training (cifar10, fine, superclass or imagenet); None if it is not known.
        dataset: data set of the training (cifar10, cifar100 or imagenet); None if it is not known.
        names: a class name for each output; empty if they are not known.
        base_size: side in pixels of the square to which images are squashed before segmentation; None for a classifier.
        engine: framework of the training with its version; None if it is not known.
        versions: versions of all libraries of the training, as the log lists them; None if they are not known.
    """

    network: str
    for_cifar: bool
    input_size: int
    outputs: int
    git_blob_sha1: str
    labels: Optional[str]
    dataset: Optional[str]
    names: Tuple[str, ...] = ()
    base_size: Optional[int] = None
    engine: Optional[str] = None
    versions: Optional[str] = None


def card_text(architecture: Architecture, card: Card) -> Dict[str, str]:
    """Return the full text of a card: its `properties`, and the arguments that the network is built with."""
    settings = {name: value for name, value in architecture.settings.items() if value is not None}
    return {**properties(card), "host": architecture.host, "settings": json.dumps(settings)}


def architecture_of(said: Mapping[str, str]) -> Architecture:
    """Return the network that a `card_text` describes.

    Raises:
        KeyError: a property is missing.
        ValueError: a property has a value that no network can have.
    """
    settings = json.loads(said["settings"])
    if said["host"] not in (*HOSTS, *MODELS) or not isinstance(settings, dict):
        raise ValueError(said["host"])
    return Architecture(said["network"], said["host"], settings, int(said["input_size"]))


def names_of_outputs(known: Sequence[str], outputs: int) -> Tuple[str, ...]:
    """Return a name for every output: `known` names first, then `output 20` and so on for outputs without a class."""
    return (*known[:outputs], *(f"output {i}" for i in range(len(known), outputs)))


def properties(card: Card) -> Dict[str, str]:
    """Return `card` as text by key, with a description of the preprocessing that the network expects."""
    return {
        WRITER: __version__,
        "network": card.network,
        "outputs": str(card.outputs),
        "labels": card.labels or "",
        "dataset": card.dataset or "",
        "weights_git_blob_sha1": card.git_blob_sha1,
        "input_size": str(card.input_size),
        **_preprocessing(card),
        "class_names": json.dumps(card.names),
        "engine": card.engine or "",
        "versions": card.versions or "",
    }


def _preprocessing(card: Card) -> Dict[str, str]:
    """Describe how `gluon_aff.data.preprocessing` turns an image into the network's input."""
    size, base = card.input_size, card.base_size
    if card.for_cifar:
        name, crop = "cifar", f"centre square, resized to {size} x {size}, bicubic"
        mean, std = list(CIFAR_MEAN), list(CIFAR_STD)
    else:
        name, crop = "imagenet", _imagenet_crop(size)
        mean, std = ([round(value / 255, 6) for value in values] for values in (FOLDER_MEAN, FOLDER_STD))
    if base:
        name, crop = "segmentation", f"none; resized to {base} x {base}, bilinear"
    return {
        "preprocessing": name,
        "crop": crop,
        "pixels": "RGB / 255, minus mean, over std",
        "mean": json.dumps(mean),
        "std": json.dumps(std),
        **({"base_size": str(base)} if base else {}),
    }


def _imagenet_crop(size: int) -> str:
    if size < LARGE_INPUT:
        shorter = math.ceil(size / CROP_RATIO)
        return f"shorter side resized to {shorter}, bilinear; centre {size} x {size} cut out"
    share = f"{size} / {size + EFFICIENTNET_BORDER} of the shorter side"
    return f"centre square, {share}, resized to {size} x {size}, bicubic"


def card_of(found: Mapping[str, str]) -> Card:
    """Parse the card in the `properties` of a file.

    Raises:
        KeyError: a property is missing.
        ValueError: a property is not text, a size is not a whole number from 1, or the class names are not a list with
            one name for each output.
    """
    said = {**dict.fromkeys(_NOT_IN_ALL, ""), **found}
    said = {name: said[name] for name in _IN_ALL | _NOT_IN_ALL}
    for name, value in said.items():
        if not isinstance(value, str):
            raise ValueError(name)
    outputs = _size("outputs", said)
    return Card(
        network=said["network"],
        for_cifar={"cifar": True, "imagenet": False, "segmentation": False}[said["preprocessing"]],
        input_size=_size("input_size", said),
        outputs=outputs,
        git_blob_sha1=said["weights_git_blob_sha1"],
        labels=said["labels"] or None,
        dataset=said["dataset"] or None,
        names=_names(said["class_names"], outputs),
        base_size=_size("base_size", said) if said["base_size"] else None,
        engine=said["engine"] or None,
        versions=said["versions"] or None,
    )


def _size(name: str, said: Mapping[str, str]) -> int:
    if not re.fullmatch("[1-9][0-9]{0,8}", said[name]):
        raise ValueError(name)
    return int(said[name])


def _names(text: str, outputs: int) -> Tuple[str, ...]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("class_names") from None
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not texts or len(names) not in (0, outputs):
        raise ValueError("class_names")
    return tuple(names)
