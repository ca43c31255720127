"""Which network a `.params` file is of: by its names and shapes, and by the name a training run gave it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Match, Optional

from gluon_aff.engines import engine
from gluon_aff.errors import GluonAFFError, NoEngineError, ParamsFileError
from gluon_aff.models import (
    BASIC_BLOCKS,
    BLOCKS,
    CIFAR_SIZE,
    EXACT_BLOCKS,
    IMAGENET_SIZE,
    MODELS,
    SEGMENTATION_HOST,
    SEGMENTATION_SIZE,
    Architecture,
    ModelRecord,
)
from gluon_aff.weights.params import SAVE_ANEW, fits, head_names, in_order, raw_named
from gluon_aff.weights.params_format import ParamsFile

# What all three training commands say behind a run's name where it is not as in the original
FUSION_PART = (
    r"(?:-r-(?P<r>\d{1,7}))?(?:-scale-(?P<scale>\d+(?:\.\d+)?(?:e[-+]?\d+)?))?(?:-(?P<context>conv|bottleneck))?"
)
# `train_cifar.py`'s: {dataset}-{fusion}-{host}-{depth}[-{cardinality}x4]-c-{width}-s-{first stage}; older files repeat
# the data set or leave out the cardinality
CIFAR_RUN = re.compile(
    r"(cifar10|cifar100)-(?:cifar100-)?([\w+-]+?)-(resnet|resneXt|inception)-(\d{1,4})(?:-\d+x4)?"
    rf"-c-(\d{{1,3}})-s-(\d{{1,4}}){FUSION_PART}(?P<strided>-strided)?(?P<full>-full)?"
)
IMAGENET_NAME = "imagenet-ImageNet-"
# `train_imagenet.py`'s, which has two dashes
IMAGENET_RUN = re.compile(rf"ImageNet-([\w+-]+?)-(resnet|resnext)--(\d{{1,3}})-s-(\d{{1,4}}){FUSION_PART}")
# `train_segmentation.py`'s
SEGMENTATION_RUN = re.compile(
    rf"stopsign-([\w+-]+?)-resnet-20-(\d{{1,4}})-fpn-c-(\d{{1,4}}){FUSION_PART}"
    r"(?:-d-(?P<decoder_width>\d{1,7}))?(?:-(?P<fuse_order>bottom-up))?(?:-(?P<stem>tiny))?"
)
# Both classifiers' commands', of a network that `gluon-aff models` lists
NAMED_RUN = re.compile(
    r"(?P<dataset>cifar10|cifar100|imagenet)-(?:ImageNet-)?(?P<model>\w+)"
    r"(?:-r-(?P<r>\d{1,7}))?(?:-stages-(?P<stages>\d{1,3}(?:\+\d{1,3})*))?(?:-(?P<attention>SE|GE|CBAM|ECA))?"
)
INPUT_NORM = 6  # gammas and betas of a BatchNorm of the image, which do not train


def fitting_networks(file: ParamsFile) -> List[Architecture]:
    """Networks whose parameters have the names and shapes of `file`: models, then what its name says.

    Different fusions may have the same parameters: the name of a run, if there is one, decides which models count.
    """
    classes = head_classes(file)
    if classes is None:
        return []
    models = [model for model in _models(file, classes) if _fits(model, file)]
    named = _of_run(Path(file.path).name, classes)
    if not named:
        return models
    runs = [run for run in named if _fits(run, file)]
    built = list(map(_as_built, runs))
    models = [model for model in models if _as_built(model) in built]
    return models + [run for run in runs if run.name not in MODELS]


def network_of(file: ParamsFile) -> Architecture:
    """The first of `fitting_networks`.

    Raises:
        ParamsFileError: if there is none.
    """
    fitting = fitting_networks(file)
    if not fitting and raw_named(file.arrays):
        raise ParamsFileError(
            f"{file.path} has raw names, as HybridBlock.export and collect_params().save write them, and its arrays "
            f"are those of no published model in their order: name the model with --model, {SAVE_ANEW}"
        )
    if len(fitting) > 1 and raw_named(file.arrays):
        raise ParamsFileError(
            f"{file.path} has raw names, as HybridBlock.export and collect_params().save write them, and its arrays "
            f"may be those of {', '.join(each.name for each in fitting)}: name the model with --model"
        )
    if not fitting:
        raise ParamsFileError(
            f"{file.path} fits no published model, or not the network of its name, which is as training commands give "
            "them: name the model with --model to see what differs, or give the file its old name"
        )
    return fitting[0]


def head_classes(file: ParamsFile) -> Optional[int]:
    """Outputs of the head in `file`, 1 or more; None if it has none."""
    biases = [file.arrays[name] for name in head_names(file.arrays) if name.endswith((".bias", "_bias"))]
    return len(biases[0]) or None if len(biases) == 1 and biases[0].ndim == 1 else None


def dataset_of_run(path: str) -> Optional[str]:
    """Data set of the training run that gave the file its name, None if it has another name."""
    name = Path(path).name
    found = CIFAR_RUN.search(name)
    if found:
        return found[1]
    named = NAMED_RUN.search(name)
    if named and named["model"] in MODELS:
        return named["dataset"]
    return "imagenet" if IMAGENET_NAME in name else None


def _models(file: ParamsFile, classes: int) -> List[Architecture]:
    return [record.architecture(classes) for record in MODELS.values() if _as_large(record, file, classes)]


def _of_run(name: str, classes: int) -> List[Architecture]:
    readers = (_of_cifar_run, _of_imagenet_run, _of_segmentation_run, _of_named_run)
    return [candidate for reader in readers for candidate in reader(name, classes)]


def _as_large(record: ModelRecord, file: ParamsFile, classes: int) -> bool:
    """Whether there are as many values as in the model, which need not be built to know, unless it was registered."""
    if record.trainable is None:
        return True
    sizes = {name: array.size for name, array in file.arrays.items() if "running_" not in name}
    head = sum(sizes[name] for name in head_names(file.arrays))
    values = sum(sizes.values()) - head + head // classes * record.classes
    return values - record.trainable in (0, INPUT_NORM)


def _of_cifar_run(name: str, classes: int) -> List[Architecture]:
    found = CIFAR_RUN.search(name)
    if not found:
        return []
    _, fusion, host, *numbers = found.groups()[:6]
    depth, width, start_layer = map(int, numbers)
    layers = 9 if host == "resneXt" else 6  # of a block in each of the three stages
    if depth < layers + 2 or (depth - 2) % layers or width < 1:
        return []
    settings = {"blocks": (depth - 2) // layers, "channel_times": width, "classes": classes, **_fusion(found, fusion)}
    variants: List[Dict[str, Any]]
    if host == "inception":
        variants = [{"inner": "full" if found["full"] else "legacy"}]
    else:
        shortcut = {"avg_down": False} if found["strided"] else {}
        variants = [{"start_layer": start_layer, **shortcut, **stem} for stem in ({}, {"deep_stem": True})]
    return [
        Architecture(found[0], f"cifar_{host.lower()}", {**settings, **variant}, CIFAR_SIZE) for variant in variants
    ]


def _of_imagenet_run(name: str, classes: int) -> List[Architecture]:
    found = IMAGENET_RUN.search(name)
    if not found:
        return []
    fusion, host, *numbers = found.groups()[:4]
    layers, start_layer = map(int, numbers)
    settings = {"start_layer": start_layer, "classes": classes, **_fusion(found, fusion)}
    variants: List[Dict[str, Any]] = [{"block": "basic"}] if layers in BASIC_BLOCKS else [{}]
    if host == "resnext":
        variants = [{}, {"use_se": True}]
    return [
        Architecture(found[0], f"imagenet_{host}", {**settings, **variant, "layers": blocks}, IMAGENET_SIZE)
        for blocks in dict.fromkeys(each[layers] for each in (BLOCKS, EXACT_BLOCKS) if layers in each)
        for variant in variants
    ]


def _of_segmentation_run(name: str, classes: int) -> List[Architecture]:
    found = SEGMENTATION_RUN.search(name)
    if not found:
        return []
    fusion, blocks, width = found.groups()[:3]
    own = {name: found[name] for name in ("decoder_width", "fuse_order", "stem") if found[name]}
    if "decoder_width" in own:
        own["decoder_width"] = int(own["decoder_width"])
    settings = {"blocks": int(blocks), "channel_times": int(width), "classes": classes, **_fusion(found, fusion), **own}
    return [Architecture(found[0], SEGMENTATION_HOST, settings, SEGMENTATION_SIZE)]


def _of_named_run(name: str, classes: int) -> List[Architecture]:
    found = NAMED_RUN.search(name)
    record = MODELS.get(found["model"]) if found else None
    if not found or not record:
        return []
    readers: Dict[str, Callable[[str], Any]] = {
        "r": int,
        "stages": lambda stages: [int(stage) for stage in stages.split("+")],
        "attention": str,
    }
    given = {name: read(found[name]) for name, read in readers.items() if found[name]}
    settings = {**record.settings, **given, "classes": classes}
    return [Architecture(found[0] if given else record.name, record.host, settings, record.input_size)]


def _fusion(found: Match[str], flag: str) -> Dict[str, Any]:
    """Arguments about the fusion, those that the name of a run has."""
    numbers: Dict[str, Callable[[str], Any]] = {"r": int, "scale": float, "context": str}
    return {"askc_type": flag, **{name: number(found[name]) for name, number in numbers.items() if found[name]}}


def _as_built(architecture: Architecture) -> Dict[str, Any]:
    """What the host takes, initial values left out: the same for the same network."""
    given = {"host": architecture.host, **engine().arguments(architecture)}
    for name in ("last_gamma", "zero_last_gamma", "zero_init_last"):
        given.pop(name, None)
    return given


def _fits(candidate: Architecture, file: ParamsFile) -> bool:
    if candidate.settings.get("blocks", 0) > len(file.arrays):  # which takes long to build
        return False
    try:
        shapes = engine().parameter_shapes(candidate)
    except NoEngineError:
        raise
    except GluonAFFError:  # a name may say what no network can be
        return False
    arrays = in_order(file.arrays, shapes) or file.arrays
    return shapes.keys() == arrays.keys() and all(fits(shape, arrays[name].shape) for name, shape in shapes.items())
