"""Load the network of a weight file, and evaluate it on the validation images that belong to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterable, List, Optional, Tuple

from gluon_aff._platform import ENGINE_CHOICES
from gluon_aff.data.batches import Batch
from gluon_aff.data.cifar.batches import validation_batches
from gluon_aff.data.cifar.files import load_cifar
from gluon_aff.data.class_names import class_names
from gluon_aff.data.imagenet.class_lists import ClassList, named, strangers
from gluon_aff.data.imagenet.validation_batches import validation_data
from gluon_aff.engines import Devices, Infer, Logits, Network, engine
from gluon_aff.errors import InputError, last_line, unknown_name
from gluon_aff.evaluation.engine_choice import engine_for_inference
from gluon_aff.evaluation.evaluate import Evaluation, evaluate
from gluon_aff.evaluation.inference import in_thread
from gluon_aff.files import read_text
from gluon_aff.models import SEGMENTATION_HOST, model_record
from gluon_aff.published import PublishedWeights, weights_with_hash
from gluon_aff.weights.card import Card, names_of_outputs
from gluon_aff.weights.description import LABELS, describe, labels_of
from gluon_aff.weights.params_format import read_params_file
from gluon_aff.weights.store import published_file

PUBLISHED = "published"
ONNX_SUFFIX = ".onnx"
ONNX_RUNTIME = "onnxruntime"  # its name for --engine
ENGINES_FOR_INFERENCE = (*ENGINE_CHOICES, ONNX_RUNTIME)
IMAGENET_VALIDATION_IMAGES = 50_000
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class WeightsRequest:
    """Says which weights to load, and how.

    Attributes:
        params: path of a `.params` file or of an `.onnx` file that `gluon-aff export` wrote, or `published`.
        model: name of the model; the network that fits the file if None.
        labels: fine or superclass, for CIFAR-100; those of the published file or of the card if None.
        root: folder where published weights are looked for and downloaded to.
        open_aff: clone of the original repository, open-aff; $GLUON_AFF_OPEN_AFF if None.
        gpus: GPU ids, separated by commas; the CPU computes if there is no GPU.
        dtype: number format of the computation: float32, float16 or bfloat16.
        input_size: side of ImageNet images in pixels; if None, that of the training, 224 for published weights.
        engine: mxnet, torch or onnxruntime; if None, onnxruntime for an `.onnx` file, else the engine of this machine.
        allow_not_finite: also accept values that are NaN or infinite, which ONNX Runtime does not.
    """

    params: str
    model: Optional[str] = None
    labels: Optional[str] = None
    root: str = "params"
    open_aff: Optional[str] = None
    gpus: str = "0"
    dtype: str = "float32"
    input_size: Optional[int] = None
    engine: Optional[str] = None
    allow_not_finite: bool = False


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with the parameters of a file.

    Attributes:
        network: the network with its parameters on the devices.
        card: description of the network.
        path: path of the file.
        devices: devices that compute.
        framework: framework with its version, such as `PyTorch 2.4.0`.
    """

    network: Network
    card: Card
    path: str
    devices: Devices
    framework: str


@dataclass(frozen=True)
class LoadedWeights:
    """Weights that are ready for inference.

    Attributes:
        infer: inference of the network, which returns logits.
        card: description of the network.
        path: path of the file.
        engine: devices that compute; for ONNX Runtime also its name and version.
        framework: framework with its version, such as `PyTorch 2.4.0`.
        reason: why this framework computes.
    """

    infer: Infer
    card: Card
    path: str
    engine: str
    framework: str
    reason: str

    @property
    def published(self) -> Optional[PublishedWeights]:
        """Return the record of the published file with these weights; None if they were not published."""
        return weights_with_hash(self.card.git_blob_sha1)


@dataclass(frozen=True)
class ValidationSet:
    """Validation images for a network, which can be iterated over once.

    Attributes:
        dataset: cifar10, cifar100 or imagenet.
        labels: fine or superclass for CIFAR-100; the name of the data set for the others, which have one label set.
        batches: images (N, 3, H, W) and labels (N,) of each batch.
        images: number of images.
        names: names of the classes, in the order of the labels.
        official: True for the complete published validation set.
        notes: one line for each fact about the images that the user should know.
    """

    dataset: str
    labels: str
    batches: Iterable[Batch]
    images: int
    names: List[str]
    official: bool
    notes: Tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluatedWeights:
    """Holds loaded weights, the validation images, and the figures on them."""

    loaded: LoadedWeights
    data: ValidationSet
    evaluation: Evaluation


def load_weights(request: WeightsRequest, *, many_images: bool = False) -> LoadedWeights:
    """Find and check the weight file, and load its network for inference.

    Args:
        request: which weights to load, and how.
        many_images: prepare the network for many images: this takes a fraction of a second, and makes inference on the
            CPU faster.

    Raises:
        InputError: the file, the model, the label set and the engine do not fit together.
        GluonAFFError: the published weights are not found and cannot be downloaded, or the outputs of ONNX Runtime
            differ from the network's.
    """
    if request.engine and request.engine not in ENGINES_FOR_INFERENCE:
        raise unknown_name("engine", request.engine, ENGINES_FOR_INFERENCE)
    if request.params.lower().endswith(ONNX_SUFFIX):
        return _load_onnx(request)
    if request.engine != ONNX_RUNTIME:
        name, reason = engine_for_inference(request.engine, request.gpus)
        loaded = load_network(replace(request, engine=name))
        infer = loaded.network.for_many_images() if many_images else loaded.network.infer
        return LoadedWeights(infer, loaded.card, loaded.path, ",".join(loaded.devices.names), loaded.framework, reason)
    if request.dtype != WeightsRequest.dtype:
        raise InputError(f"--dtype {request.dtype}: an .onnx file computes in float32; leave the flag out")
    _refuse_gpus(request)
    _refuse_not_finite(request)
    from gluon_aff.export.onnx_file import onnx_model

    loaded = load_network(replace(request, gpus="", engine=None))
    return _in_onnxruntime(onnx_model(loaded.network, loaded.card).infer, loaded.card, loaded.path, "as asked for")


def load_network(request: WeightsRequest, *, segments: bool = False) -> LoadedNetwork:
    """Find and check the `.params` file, build its network, and load its parameters.

    Args:
        request: which weights to load, and how.
        segments: True if the caller needs a segmentation network, False if it needs a classifier.

    Raises:
        InputError: the file, the model and the label set do not fit together, the engine does not support the devices
            or the number format, or the network is not of the kind that the caller needs.
        GluonAFFError: the published weights are not found and cannot be downloaded.
    """
    if request.params.lower().endswith(ONNX_SUFFIX):
        raise InputError(f"--params {request.params}: this is already an export; name the .params file")
    chosen = engine(request.engine)
    devices, _ = chosen.find_devices(request.gpus)
    if chosen.NAME == "MXNet":
        _check_type_for_mxnet(request, devices)
    path = _file(request)
    architecture, card = describe(read_params_file(path), request.model, request.labels)
    name = architecture.name
    if segments != (architecture.host == SEGMENTATION_HOST):
        raise InputError(
            f"{name} classifies images: this command takes segmentation networks, which train_segmentation.py trains"
            if segments
            else f"{name} is a segmentation network: this command takes networks that classify images; use gluon-aff "
            "segment for this one"
        )
    card = _at_input_size(card, request.input_size)
    loaded = chosen.load_network(architecture, path, devices, request.dtype, request.allow_not_finite)
    return LoadedNetwork(loaded, card, path, devices, f"{chosen.NAME} {chosen.VERSION}")


def _load_onnx(request: WeightsRequest) -> LoadedWeights:
    from gluon_aff.export.onnx_runtime import open_onnx

    path = request.params
    if request.engine not in (None, ONNX_RUNTIME):
        raise InputError(
            f"--engine {request.engine}: {path} is for onnxruntime; name the .params file that it was made from"
        )
    if request.dtype != WeightsRequest.dtype:
        raise InputError(f"--dtype {request.dtype}: an .onnx file computes in float32; leave the flag out")
    _refuse_gpus(request)
    _refuse_not_finite(request)
    logits, card = open_onnx(path)
    if request.model and model_record(request.model).name != card.network:
        raise InputError(f"--model {request.model}: {path} is an export of {card.network}; leave the flag out")
    published = weights_with_hash(card.git_blob_sha1)
    if not published and card.labels and request.labels not in (None, card.labels):
        raise InputError(
            f"{LABELS[str(request.labels)]}: {path} was exported for {card.labels} labels; leave the flag out"
        )
    card = replace(card, labels=labels_of(request.labels or card.labels, published))
    return _in_onnxruntime(logits, _at_input_size(card, request.input_size), path, "which takes .onnx files")


def _in_onnxruntime(logits: Logits, card: Card, path: str, reason: str) -> LoadedWeights:
    from gluon_aff.extras import import_extra

    framework = f"ONNX Runtime {import_extra('onnxruntime').__version__}"
    return LoadedWeights(in_thread(logits), card, path, f"{framework}, cpu", framework, reason)


def _refuse_gpus(request: WeightsRequest) -> None:
    if request.gpus not in ("", WeightsRequest.gpus):
        raise InputError(f"--gpus {request.gpus}: ONNX Runtime computes on the CPU here; leave the flag out")


def _refuse_not_finite(request: WeightsRequest) -> None:
    if request.allow_not_finite:
        raise InputError(
            "--allow-not-finite: exports contain only finite weights; name a .params file, and choose another --engine"
        )


def _check_type_for_mxnet(request: WeightsRequest, devices: Devices) -> None:
    if request.dtype == "float16" and devices.kind == "cpu":
        raise InputError("--dtype float16: MXNet computes in float16 on GPUs only; leave the flag out")
    if request.dtype == "bfloat16":
        raise InputError("--dtype bfloat16: MXNet cannot compute in it; choose --engine torch, or leave the flag out")


def _at_input_size(card: Card, input_size: Optional[int]) -> Card:
    if input_size and card.for_cifar:
        raise InputError(f"--input-size {input_size}: CIFAR images are 32 x 32 pixels; leave the flag out")
    return replace(card, input_size=input_size or card.input_size)


def evaluate_weights(
    loaded: LoadedWeights, dataset: Optional[str], data_dir: Optional[str], batch_size: int, num_workers: int
) -> EvaluatedWeights:
    """Evaluate loaded weights on validation images.

    Args:
        loaded: the weights.
        dataset: cifar10, cifar100 or imagenet; the data set of the training if None.
        data_dir: archive or folder of the data set; Gluon's default folder for CIFAR if None.
        batch_size: number of images in a batch.
        num_workers: number of threads that decode ImageNet images.

    Raises:
        InputError: the data set is unknown, cannot be read, or is not the one that the weights were trained on.
        GluonAFFError: an output is not finite.
    """
    data = validation_set(loaded.card, loaded.path, dataset, data_dir, batch_size, num_workers)
    return EvaluatedWeights(loaded, data, evaluate(loaded.infer, data.batches, len(data.names), data.images))


def validation_set(
    card: Card, path: str, dataset: Optional[str], data_dir: Optional[str], batch_size: int, num_workers: int
) -> ValidationSet:
    """Return the validation images for the weights at `path`, whose description is `card`.

    The other arguments are those of `evaluate_weights`.

    Raises:
        InputError: the data set is unknown, cannot be read, or is not the one that the weights were trained on.
    """
    dataset = dataset or card.dataset
    if dataset is None:
        raise InputError(f"{path} does not say which data set it is for: add --dataset")
    if card.dataset not in (None, dataset):
        raise InputError(f"--dataset {dataset}: {path} was trained on {card.dataset}; leave --dataset out")
    if dataset != "cifar100" and card.labels in LABELS:
        raise InputError(f"{LABELS[str(card.labels)]}: {dataset} has only one label set; leave the flag out")
    labels = card.labels if dataset == "cifar100" else dataset
    if labels is None:
        raise InputError(
            f"{path} is not a published file and does not say which labels it was trained on: add --fine-label or "
            "--superclass (the default of train_cifar.py)"
        )
    if dataset == "imagenet":
        data = _imagenet(card, data_dir, batch_size, num_workers)
    else:
        data = _cifar(dataset, labels, data_dir, batch_size)
    if len(data.names) > card.outputs:
        raise InputError(
            f"this {dataset} has {len(data.names)} classes, but the network of {path} has {card.outputs} outputs: name "
            "the data set that it was trained on"
        )
    return data


def _file(request: WeightsRequest) -> str:
    if request.params != PUBLISHED:
        return request.params
    if not request.model:
        raise InputError("name the weights: --model NAME (gluon-aff models lists the names) or --params FILE")
    weights = model_record(request.model).weights
    if not weights:
        raise InputError(
            f"--params published: no weights of {request.model} were published; name a file with --params FILE"
        )
    labels = request.labels or next(iter(weights))
    if labels not in weights:
        there = " and ".join(LABELS.get(name, name) for name in weights)
        raise InputError(f"{LABELS[labels]}: only {there} weights of {request.model} were published")
    return published_file(weights[labels], request.root, request.open_aff)


def _cifar(dataset: str, labels: str, data_dir: Optional[str], batch_size: int) -> ValidationSet:
    images = load_cifar(dataset, False, labels == "fine", data_dir)
    batches = validation_batches(images, batch_size)
    return ValidationSet(dataset, labels, batches, len(images), list(images.names), images.official)


def _imagenet(card: Card, data_dir: Optional[str], batch_size: int, num_workers: int) -> ValidationSet:
    """Return ImageNet's validation images, after checking that their labels are those of the training set.

    The class names are compared with the training set next to them, or their number with the outputs.
    """
    if data_dir is None:
        raise InputError("--data-dir: name the folder that has ImageNet's val folder, or val.rec and val.idx")
    data = validation_data(data_dir, card.input_size, batch_size, num_workers)
    known = data.class_list
    if known and known.whole and not data.as_in_training:
        _check_classes(known, card.outputs)
    official = (data.images, data.classes) == (IMAGENET_VALIDATION_IMAGES, IMAGENET_CLASSES)
    names = known.ordered if known and known.whole else list(map(str, range(data.classes)))
    doubt = (
        f"the labels in {data_dir} go up to {data.classes - 1}, the network's outputs up to {card.outputs - 1}, and no "
        ".classes file names the classes: if a class was missing when the records were made, all labels after it are "
        "wrong; gluon-aff make-records numbers the classes like the training set"
    )
    doubtful = not (known and known.whole) and not data.as_in_training and data.classes < card.outputs
    return ValidationSet(
        "imagenet",
        "imagenet",
        data.batches,
        data.images,
        class_names("imagenet") if official else names,
        official,
        (*data.notes, *([doubt] if doubtful else [])),
    )


def _check_classes(known: ClassList, outputs: int) -> None:
    """Raise InputError if the classes cannot be those of a network with this many outputs."""
    if len(known.names) != outputs:
        raise InputError(
            f"{known.source} has {len(known.names)} classes, but the network has {outputs} outputs, so the labels "
            "would stand for other classes: add the missing folders, even if empty, or put the training set next to it"
        )
    others = strangers(known.ordered)
    if others:
        raise InputError(
            f"{known.source} has classes that ImageNet does not have ({named(others)}), so other labels would be "
            "wrong: remove them and add the missing ones, or put the training set next to it"
        )


def output_names(card: Card, path: Optional[str] = None) -> List[str]:
    """Return a name for every output of the network.

    The names come from the lines of the file `path`, else from the card, else from the data set. Outputs without a
    class, such as 20 to 99 of a superclass network, are called `output 20` and so on.

    Raises:
        InputError: the file cannot be read, or has another number of lines than the network has outputs.
    """
    if path:
        try:
            names = read_text(path).splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"--names {path}: {last_line(error)}; name a text file") from None
        if len(names) != card.outputs:
            raise InputError(
                f"--names {path} has {len(names)} lines, but the network has {card.outputs} outputs: write one name "
                "for each output"
            )
        return names
    if card.names:
        return list(card.names)
    known = class_names(str(card.dataset), card.labels == "fine") if names_known(card) else []
    return list(names_of_outputs(known, card.outputs))


def names_known(card: Card) -> bool:
    """Return whether class names are known for the network's outputs, from the card or from its data set."""
    if card.names:
        return True
    if card.dataset is None:
        return False
    if card.dataset == "imagenet":
        return card.outputs == IMAGENET_CLASSES
    return card.dataset == "cifar10" or card.labels is not None
