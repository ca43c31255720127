"""Which network a weight file is of, on which labels, and what was published of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Mapping, Optional, Tuple

from gluon_aff.errors import InputError, NoEngineError, ParamsFileError
from gluon_aff.models import CIFAR_SIZE, MODELS, Architecture, model_record
from gluon_aff.published import PublishedWeights, weights_with_hash
from gluon_aff.weights.card import Card, architecture_of, card_of
from gluon_aff.weights.card_file import card_beside, card_path
from gluon_aff.weights.identify import dataset_of_run, fits_file, head_classes, network_of
from gluon_aff.weights.params_format import ParamsFile, git_blob_sha1

LABELS = {"fine": "--fine-label", "superclass": "--superclass"}


def describe(file: ParamsFile, model: Optional[str] = None, labels: Optional[str] = None) -> Tuple[Architecture, Card]:
    """The network that a file with weights is of, and what is known of it.

    Args:
        file: its content.
        model: name of the model; what fits the file if None.
        labels: fine or superclass, for CIFAR-100; what the published file is of if None.

    Raises:
        InputError: the file fits no network known here, or its labels are others.
    """
    digest = git_blob_sha1(file.path)
    published = weights_with_hash(digest)
    if published and published.model not in MODELS:
        raise InputError(
            f"{file.path} is of the first release ({published.model}), whose networks are not in this package"
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
    """`describe` by the file's card; `model` overrules it."""
    record = model_record(model) if model else None
    try:
        card = card_of(said)
        architecture = record.architecture(card.outputs) if record else architecture_of(said)
        fits = record is not None or fits_file(architecture, file)
    except NoEngineError:
        raise
    except Exception:  # a builder's, for arguments that it does not take
        fits = False
    if not fits:
        raise ParamsFileError(
            f"{card_path(file.path)} says what {file.path} cannot be of: name the network with --model, or its module "
            "with --import if it is one of your own, or remove the card"
        )
    if labels and card.labels and labels != card.labels:
        raise InputError(
            f"{LABELS[labels]}: {file.path} was trained on {card.labels} labels, other ones mean nothing to its "
            "outputs; leave the flag out"
        )
    return architecture, replace(card, network=architecture.name, git_blob_sha1=digest, labels=card.labels or labels)


def labels_of(wanted: Optional[str], published: Optional[PublishedWeights]) -> Optional[str]:
    """The label set of weights: the published ones' own, else the wanted one.

    Raises:
        InputError: another one is wanted than the published weights have.
    """
    if published is None or published.labels not in LABELS or wanted in (None, published.labels):
        return published.labels if published else wanted
    raise InputError(
        f"{LABELS[str(wanted)]}: {published.file_name} was trained on {published.labels} labels, other ones mean "
        "nothing to its outputs; leave the flag out"
    )


def _dataset(published: Optional[PublishedWeights], path: str, outputs: Optional[int]) -> Optional[str]:
    if published:
        return "cifar100" if published.labels in LABELS else published.labels
    return dataset_of_run(path) or ("imagenet" if outputs == 1000 else None)
