"""Which network a `.params` file is of: by its names and shapes, and by the name a training run gave it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from mxnet.gluon import HybridBlock

from gluon_aff.data.cifar import CIFAR_SIZE
from gluon_aff.errors import GluonAFFError, ParamsFileError
from gluon_aff.networks.zoo import HOSTS, MODELS, ModelRecord
from gluon_aff.weights.params import fits, head_names
from gluon_aff.weights.params_format import ParamsFile

IMAGENET_RUN = "imagenet-ImageNet-"  # train_imagenet.py's names have it
# `train_cifar.py`'s: {dataset}-{fusion}-{host}-{depth}[-{cardinality}x4]-c-{width}-s-{first stage}; older files repeat
# the data set or leave out the cardinality, ours may say more behind it
CIFAR_RUN = re.compile(
    r"(cifar10|cifar100)-(?:cifar100-)?([\w+-]+?)-(resnet|resneXt|inception)-(\d{1,4})(?:-\d+x4)?"
    r"-c-(\d{1,3})-s-(\d{1,4})"
    r"(?:-r-(?P<r>\d{1,4}))?(?:-scale-(?P<scale>\d+(?:\.\d+)?(?:e-?\d+)?))?(?:-(?P<context>conv|bottleneck))?"
    r"(?P<strided>-strided)?(?P<full>-full)?"
)
INPUT_NORM = 6  # gammas and betas of a BatchNorm of the image, which do not train
MODEL_RUN = re.compile(r"(cifar10|cifar100|imagenet)-(\w+)")  # of a network that is taken as it is


@dataclass(frozen=True)
class Candidate:
    """A network that a file may be of.

    Attributes:
        name: of the model or of the training run.
        host: key of `HOSTS`.
        settings: the host's arguments.
        input_size: side of the square input in pixels.
    """

    name: str
    host: str
    settings: Dict[str, Any]
    input_size: int

    def build(self) -> HybridBlock:
        """The network, not initialised."""
        return HOSTS[self.host](**self.settings)


def fitting_networks(file: ParamsFile) -> List[Candidate]:
    """Networks whose parameters have the names and shapes of `file`: models, then what its name says."""
    classes = head_classes(file)
    if classes is None:
        return []
    return [candidate for candidate in _candidates(file, classes) if _fits(candidate, file)]


def network_of(file: ParamsFile) -> Candidate:
    """The first of `fitting_networks`.

    Raises:
        ParamsFileError: if there is none.
    """
    fitting = fitting_networks(file)
    if not fitting:
        raise ParamsFileError(
            f"{file.path} fits no published model, and its name is none that train_cifar.py gives: name the model "
            "with --model to see what differs, or give the file its old name"
        )
    return fitting[0]


def head_classes(file: ParamsFile) -> Optional[int]:
    """Outputs of the head in `file`; None if it has none."""
    biases = [file.arrays[name] for name in head_names(file.arrays) if name.endswith(".bias")]
    return len(biases[0]) if len(biases) == 1 and biases[0].ndim == 1 else None


def dataset_of_run(path: str) -> Optional[str]:
    """Data set of the training run that gave the file its name, None if it has another name."""
    name = Path(path).name
    found = CIFAR_RUN.search(name)
    if found:
        return found[1]
    named = MODEL_RUN.search(name)
    if named and named[2] in MODELS:
        return named[1]
    return "imagenet" if IMAGENET_RUN in name else None


def _candidates(file: ParamsFile, classes: int) -> List[Candidate]:
    models = [
        Candidate(record.name, record.host, {**record.settings, "classes": classes}, record.input_size)
        for record in MODELS.values()
        if _as_large(record, file, classes)
    ]
    return models + _of_cifar_run(Path(file.path).name, classes)


def _as_large(record: ModelRecord, file: ParamsFile, classes: int) -> bool:
    """Whether there are as many values as in the model, which need not be built to know."""
    sizes = {name: array.size for name, array in file.arrays.items() if "running_" not in name}
    head = sum(sizes[name] for name in head_names(file.arrays))
    values = sum(sizes.values()) - head + head // classes * record.classes
    return values - record.trainable in (0, INPUT_NORM)


def _of_cifar_run(name: str, classes: int) -> List[Candidate]:
    found = CIFAR_RUN.search(name)
    if not found:
        return []
    _, fusion, host, *numbers = found.groups()[:6]
    depth, width, start_layer = map(int, numbers)
    layers = 9 if host == "resneXt" else 6  # of a block in each of the three stages
    if depth < layers + 2 or (depth - 2) % layers or width < 1:
        return []
    settings: Dict[str, Any] = {
        "askc_type": fusion,
        "blocks": (depth - 2) // layers,
        "channel_times": width,
        "classes": classes,
        "r": found["r"] and int(found["r"]),
        "scale": found["scale"] and float(found["scale"]),
        "context": found["context"],
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    variants: List[Dict[str, Any]]
    if host == "inception":
        variants = [{"inner": "full" if found["full"] else "legacy"}]
    else:
        shortcut = {"avg_down": False} if found["strided"] else {}
        variants = [{"start_layer": start_layer, "deep_stem": deep, **shortcut} for deep in (False, True)]
    return [Candidate(found[0], f"cifar_{host.lower()}", {**settings, **variant}, CIFAR_SIZE) for variant in variants]


def _fits(candidate: Candidate, file: ParamsFile) -> bool:
    try:
        parameters = candidate.build()._collect_params_with_prefix()
    except GluonAFFError:  # a fusion in a file's name that does not exist
        return False
    return parameters.keys() == file.arrays.keys() and all(
        fits(parameter, file.arrays[name]) for name, parameter in parameters.items()
    )
