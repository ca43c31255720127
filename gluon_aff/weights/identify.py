"""Identify the network of a `.params` file by its arrays' names and shapes, and by the file name of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from gluon_aff.engines import Catalogue, engine
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
from gluon_aff.run_names import IMAGENET_FILES, IMAGENET_RUNS, RunName, names_in
from gluon_aff.settings.shared import stages_in
from gluon_aff.weights.params import SAVE_ANEW, by_raw_names, fits, head_names, raw_named
from gluon_aff.weights.params_format import ParamsFile

FUSION_ARGUMENTS = ("askc_type", "r", "scale", "context")
NOT_NAMED = {"layers", "deep_stem", "use_se"}  # settings that the name of a run does not contain
INPUT_NORM = 6  # values of the fixed gamma and beta in a BatchNorm of the three-channel image


def fitting_networks(file: ParamsFile) -> List[Architecture]:
    """Return the networks whose parameters have the names and shapes in `file`.

    Listed models come first, then the network that the file name describes. Different fusions may have the same
    parameters; where the file has the name of a run, only the models that match this name are returned.
    """
    classes = head_classes(file)
    if classes is None:
        return []
    models = [model for model in _models(file, classes) if fits_file(model, file)]
    names = names_in(Path(file.path).name)
    named = [network for name in names for network in NETWORKS_OF[name.scheme](name, classes)]
    if not named:
        return models
    runs = [run for run in named if fits_file(run, file)]
    catalogue = engine()
    built = [_as_built(run, catalogue) for run in runs]
    models = [model for model in models if _as_built(model, catalogue) in built]
    return models + [run for run in runs if run.name not in MODELS]


def network_of(file: ParamsFile) -> Architecture:
    """Return the first of the `fitting_networks`.

    Raises:
        ParamsFileError: no network fits, or the file has raw names and several networks fit.
    """
    fitting = fitting_networks(file)
    if not fitting and raw_named(file.arrays):
        raise ParamsFileError(
            f"{file.path} has raw names, as HybridBlock.export and collect_params().save write them, and its arrays "
            "match no published model, neither by name nor in their order: name the model with --model, "
            f"{SAVE_ANEW}"
        )
    if len(fitting) > 1 and raw_named(file.arrays):
        raise ParamsFileError(
            f"{file.path} has raw names, as HybridBlock.export and collect_params().save write them, and its arrays "
            f"fit each of {', '.join(each.name for each in fitting)}: name the model with --model"
        )
    if not fitting:
        raise ParamsFileError(
            f"{file.path} fits no published model, nor the network that a training run's file name would describe: "
            "name the model with --model to see what differs, or give the file back the name that its run gave it"
        )
    return fitting[0]


def head_classes(file: ParamsFile) -> Optional[int]:
    """Return the number of outputs of the head in `file`, 1 or more; None if there is no head."""
    biases = [file.arrays[name] for name in head_names(file.arrays) if name.endswith((".bias", "_bias"))]
    return len(biases[0]) or None if len(biases) == 1 and biases[0].ndim == 1 else None


def dataset_of_run(path: str) -> Optional[str]:
    """Return the data set of the training run that named the file at `path`; None for any other file name."""
    name = Path(path).name
    runs = names_in(name)
    return runs[0].dataset if runs else "imagenet" if f"{IMAGENET_FILES}{IMAGENET_RUNS}" in name else None


def name_of_network(run: RunName, architecture: Architecture, outputs: int, catalogue: Catalogue) -> str:
    """Return the name of the listed model that a run trains; the run's own name if it trains none of them."""
    named = [
        network
        for network in NETWORKS_OF[run.scheme](run, outputs)
        if all((network.settings.get(each) or None) == (architecture.settings.get(each) or None) for each in NOT_NAMED)
    ]
    built = [_as_built(network, catalogue) for network in named]
    hosts = {network.host for network in named}
    models = (record for record in MODELS.values() if record.host in hosts)
    found = (each.name for each in models if _as_built(each.architecture(outputs), catalogue) in built)
    return next(found, str(run))


def _models(file: ParamsFile, classes: int) -> List[Architecture]:
    return [record.architecture(classes) for record in MODELS.values() if _as_large(record, file, classes)]


def _as_large(record: ModelRecord, file: ParamsFile, classes: int) -> bool:
    """Return whether the file has as many values as the model.

    This cheap filter does not build the model. A registered network, whose size is not known, always passes.
    """
    if record.trainable is None:
        return True
    sizes = {name: array.size for name, array in file.arrays.items() if "running_" not in name}
    head = sum(sizes[name] for name in head_names(file.arrays))
    values = sum(sizes.values()) - head + head // classes * record.classes
    return values - record.trainable in (0, INPUT_NORM)


def _of_cifar_run(run: RunName, classes: int) -> List[Architecture]:
    host, depth = run.values["model"], run.values["depth"]
    layers = 9 if host == "resnext" else 6  # convolutions that one block in each of the three stages adds
    if depth < layers + 2 or (depth - 2) % layers or run.values["channel_times"] < 1:
        return []
    settings = {"blocks": (depth - 2) // layers, "classes": classes, **_given(run, "channel_times", *FUSION_ARGUMENTS)}
    variants: List[Dict[str, Any]]
    if host == "inception":
        variants = [{"inner": run.values.get("inner", "legacy")}]
    else:
        shortcut = {"avg_down": False} if "shortcut" in run.values else {}
        variants = [{**_given(run, "start_layer"), **shortcut, **stem} for stem in ({}, {"deep_stem": True})]
    return [Architecture(str(run), f"cifar_{host}", {**settings, **variant}, CIFAR_SIZE) for variant in variants]


def _of_imagenet_run(run: RunName, classes: int) -> List[Architecture]:
    host, layers = run.values["model"], run.values["num_layer"]
    settings = {"classes": classes, **_given(run, "start_layer", *FUSION_ARGUMENTS)}
    variants: List[Dict[str, Any]] = [{"block": "basic"}] if layers in BASIC_BLOCKS else [{}]
    if host == "resnext":
        variants = [{}, {"use_se": True}]
    return [
        Architecture(str(run), f"imagenet_{host}", {**settings, **variant, "layers": blocks}, IMAGENET_SIZE)
        for blocks in dict.fromkeys(each[layers] for each in (BLOCKS, EXACT_BLOCKS) if layers in each)
        for variant in variants
    ]


def _of_segmentation_run(run: RunName, classes: int) -> List[Architecture]:
    return [Architecture(str(run), SEGMENTATION_HOST, {**run.values, "classes": classes}, SEGMENTATION_SIZE)]


def _of_listed_run(run: RunName, classes: int) -> List[Architecture]:
    record = MODELS[run.values["model"]]
    given = _given(run, "r", "attention")
    if "stages" in run.values:
        given["stages"] = stages_in(run.values["stages"])
    name = str(run) if given else record.name
    return [Architecture(name, record.host, {**record.settings, **given, "classes": classes}, record.input_size)]


NETWORKS_OF: Dict[str, Callable[[RunName, int], List[Architecture]]] = {
    "cifar": _of_cifar_run,
    "imagenet": _of_imagenet_run,
    "segmentation": _of_segmentation_run,
    "listed cifar": _of_listed_run,
    "listed imagenet": _of_listed_run,
}


def _given(run: RunName, *names: str) -> Dict[str, Any]:
    """Return those of the settings called `names` that the name of the run contains."""
    return {name: run.values[name] for name in names if name in run.values}


def _as_built(architecture: Architecture, catalogue: Catalogue) -> Dict[str, Any]:
    """Return the host's arguments without those of the initial values, so that equal networks compare as equal."""
    given = {"host": architecture.host, **catalogue.arguments(architecture)}
    for name in ("last_gamma", "zero_last_gamma", "zero_init_last"):
        given.pop(name, None)
    return given


def fits_file(candidate: Architecture, file: ParamsFile) -> bool:
    """Return whether the network's parameters have the names and shapes of the file's arrays."""
    if candidate.settings.get("blocks", 0) > len(file.arrays):  # a file name may ask for a network too large to build
        return False
    try:
        shapes = engine().parameter_shapes(candidate)
    except NoEngineError:
        raise
    except GluonAFFError:  # a file name may describe a network that cannot be built
        return False
    arrays = by_raw_names(file.arrays, shapes, lambda: engine().raw_names(candidate)) or file.arrays
    return shapes.keys() == arrays.keys() and all(fits(shape, arrays[name].shape) for name, shape in shapes.items())
