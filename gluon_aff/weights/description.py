"""Describe a weight file: its network, its label set, and whether the original published it."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Mapping, Optional, Tuple

from gluon_aff.errors import InputError, NoEngineError, ParamsFileError
from gluon_aff.models import CIFAR_SIZE, MODELS, Architecture, model_record
from gluon_aff.published import PublishedWeights, weights_with_hash
from gluon_aff.weights.card import Card, architecture_of, card_of
from gluon_aff.weights.card_file import card_beside, card_path
from gluon_aff.weights.identify import dataset_of_run, fits_file, head_classes, network_of
from gluon_aff.weights.params_format import ParamsFile, git_blob_sha1

LABELS = {"fine": "--fine-label", "superclass": "--superclass"}


def describe(file: ParamsFile, model: Optional[str] = None, labels: Optional[str] = None) -> Tuple[Architecture, Card]:
    """Return the network that the weights in `file` belong to, and its card.

    Args:
        file: content of the weight file.
        model: name of the network, as `gluon-aff models` lists it; the one that fits the file if None.
        labels: fine or superclass, for CIFAR-100; those of the published file or of the card if None.

    Raises:
        InputError: the file fits no network of this package, or was trained on other labels.
    """
    digest = git_blob_sha1(file.path)
    published = weights_with_hash(digest)
    if published and published.model not in MODELS:
        raise InputError(
            f"{file.path} belongs to the original's first release ({published.model}), whose networks this package "
            "does not have"
        )
    said = None if published else card_beside(file.path)
    if said:
        return _as_said(file, said, digest, model, labels)
    outputs = head_classes(file)
    architecture = model_record(model).architecture(outputs) if model else network_of(file)
    card = Card(
        network=architecture.name,
        for_cifar=architecture.input_size == CIFAR_SIZE,
        input_size=architecture.input_size,
        outputs=int(outputs or 0),
        git_blob_sha1=digest,
        labels=labels_of(labels, published),
        dataset=_dataset(published, file.path, outputs),
    )
    return architecture, card


def _as_said(
    file: ParamsFile, said: Mapping[str, str], digest: str, model: Optional[str], labels: Optional[str]
) -> Tuple[Architecture, Card]:
    """Describe the file by its card, whose network `model` overrides."""
    record = model_record(model) if model else None
    try:
        card = card_of(said)
        architecture = record.architecture(card.outputs) if record else architecture_of(said)
        fits = record is not None or fits_file(architecture, file)
    except NoEngineError:
        raise
    except Exception:  # a registered builder may raise anything for arguments that it does not take
        fits = False
    if not fits:
        raise ParamsFileError(
            f"{card_path(file.path)} describes a network that {file.path} does not fit: name the network with --model, "
            "or its module with --import if it is one of your own, or remove the card"
        )
    if record and not _fits(file, lambda: architecture) and _fits(file, lambda: architecture_of(said)):
        raise ParamsFileError(f"{file.path} is of {card.network} (its card says so): leave --model out")
    if labels and card.labels and labels != card.labels:
        raise InputError(
            f"{LABELS[labels]}: {file.path} was trained on {card.labels} labels, so its outputs stand for no others; "
            "leave the flag out"
        )
    return architecture, replace(card, network=architecture.name, git_blob_sha1=digest, labels=card.labels or labels)


def _fits(file: ParamsFile, network: Callable[[], Architecture]) -> bool:
    """Return whether the network, as far as there is one, has the parameters that are in the file."""
    try:
        return fits_file(network(), file)
    except NoEngineError:
        raise
    except Exception:  # as in `_as_said`
        return False


def labels_of(wanted: Optional[str], published: Optional[PublishedWeights]) -> Optional[str]:
    """Return the label set of weights: that of the `published` file, else the `wanted` one.

    Raises:
        InputError: the published weights have another label set than the wanted one.
    """
    if published is None or published.labels not in LABELS or wanted in (None, published.labels):
        return published.labels if published else wanted
    raise InputError(
        f"{LABELS[str(wanted)]}: {published.file_name} was trained on {published.labels} labels, so its outputs stand "
        "for no others; leave the flag out"
    )


def _dataset(published: Optional[PublishedWeights], path: str, outputs: Optional[int]) -> Optional[str]:
    if published:
        return "cifar100" if published.labels in LABELS else published.labels
    return dataset_of_run(path) or ("imagenet" if outputs == 1000 else None)
