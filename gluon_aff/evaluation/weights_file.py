"""Weight files at work: which network a file is of, on which labels, what was published of it, how it scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterable, List, Optional, Tuple

from gluon_aff.data.batches import Batch
from gluon_aff.data.cifar.batches import validation_batches
from gluon_aff.data.cifar.files import load_cifar
from gluon_aff.data.class_names import class_names
from gluon_aff.data.imagenet.class_lists import ClassList, named, strangers
from gluon_aff.data.imagenet.validation_batches import validation_data
from gluon_aff.engines import Devices, Infer, Logits, Network, engine
from gluon_aff.errors import InputError, last_line
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
ONNX_RUNTIME = "onnxruntime"  # --engine
IMAGENET_VALIDATION_IMAGES = 50_000
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class WeightsRequest:
    """Which weights to load, and how.

    Attributes:
        params: path of a `.params` file or of an `.onnx` file of `gluon-aff export`, or `published`.
        model: name of the model; what the file is of if None.
        labels: fine or superclass, for CIFAR-100; what the published file is of if None.
        root: folder where published weights are looked for and downloaded to.
        open_aff: clone of the original repository.
        gpus: ids, comma-separated; the CPU if there is none.
        dtype: float32, float16 or bfloat16.
        input_size: side of ImageNet's images in pixels; the published networks' 224 if None.
        engine: mxnet, torch or onnxruntime; if None, the last for an `.onnx` file, and for others the engine of this
            machine.
        allow_not_finite: take values that are NaN or infinite too; not with ONNX Runtime.
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
        network: with its parameters, on `devices`.
        card: what it is.
        path: the file.
        devices: what computes.
        framework: that it computes with, and its version.
    """

    network: Network
    card: Card
    path: str
    devices: Devices
    framework: str


@dataclass(frozen=True)
class LoadedWeights:
    """Weights ready to compute with.

    Attributes:
        infer: computes logits.
        card: what they are.
        path: the file.
        engine: what computes, and where.
        framework: what it computes with, and its version.
    """

    infer: Infer
    card: Card
    path: str
    engine: str
    framework: str

    @property
    def published(self) -> Optional[PublishedWeights]:
        """What was published of the weights, None if they were not."""
        return weights_with_hash(self.card.git_blob_sha1)


@dataclass(frozen=True)
class ValidationSet:
    """Validation images for a network, to go over once.

    Attributes:
        dataset: cifar10, cifar100 or imagenet.
        labels: label set; the data set's name where it has one only.
        batches: images and labels.
        images: how many there are.
        names: of the classes, in the order of their labels.
        official: whether that is the published set, whole.
        notes: what a user should know about the images, a line each.
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
    """Figures of a weight file on a data set."""

    loaded: LoadedWeights
    data: ValidationSet
    evaluation: Evaluation


def load_weights(request: WeightsRequest, *, many_images: bool = False) -> LoadedWeights:
    """Find the file, check it, and get it to work.

    Args:
        request: which file, and what computes.
        many_images: spend a fraction of a second more here to be faster on the CPU afterwards.

    Raises:
        InputError: if the file, the model, the label set and the engine do not go together.
        GluonAFFError: if published weights cannot be had, or ONNX Runtime computes something else than the network.
    """
    if request.params.lower().endswith(ONNX_SUFFIX):
        return _load_onnx(request)
    if request.engine != ONNX_RUNTIME:
        loaded = load_network(request)
        infer = loaded.network.for_many_images() if many_images else loaded.network.infer
        return LoadedWeights(infer, loaded.card, loaded.path, ",".join(loaded.devices.names), loaded.framework)
    if request.dtype != WeightsRequest.dtype:
        raise InputError(f"--dtype {request.dtype}: an .onnx file computes in float32; leave it out")
    _refuse_gpus(request)
    _refuse_not_finite(request)
    from gluon_aff.export.onnx_file import onnx_model

    loaded = load_network(replace(request, gpus="", engine=None))
    return _in_onnxruntime(onnx_model(loaded.network, loaded.card).infer, loaded.card, loaded.path)


def load_network(request: WeightsRequest, *, segments: bool = False) -> LoadedNetwork:
    """Find the `.params` file, check it, build its network, load it.

    Args:
        request: which file.
        segments: the network has to say of each pixel, not of the image, what it is.

    Raises:
        InputError: if the file, the model and the label set do not go together, the engine cannot compute so, or the
            network is for another job.
        GluonAFFError: if published weights cannot be had.
    """
    if request.params.lower().endswith(ONNX_SUFFIX):
        raise InputError(f"--params {request.params}: this is an export already; name the .params file")
    chosen = engine(request.engine)
    devices, _ = chosen.find_devices(request.gpus)
    if chosen.NAME == "MXNet":
        _check_type_for_mxnet(request, devices)
    path = _file(request)
    architecture, card = describe(read_params_file(path), request.model, request.labels)
    name = architecture.name
    if segments != (architecture.host == SEGMENTATION_HOST):
        raise InputError(
            f"{name} classifies images: this command takes networks of train_segmentation.py"
            if segments
            else f"{name} says of each pixel what it is: this command takes networks that classify images; "
            "gluon-aff segment is for this one"
        )
    card = _at_input_size(card, request.input_size)
    loaded = chosen.load_network(architecture, path, devices, request.dtype, request.allow_not_finite)
    return LoadedNetwork(loaded, card, path, devices, f"{chosen.NAME} {chosen.VERSION}")


def _load_onnx(request: WeightsRequest) -> LoadedWeights:
    from gluon_aff.export.onnx_runtime import open_onnx

    path = request.params
    if request.engine not in (None, ONNX_RUNTIME):
        raise InputError(f"--engine {request.engine}: {path} is for onnxruntime; name the .params file it was made of")
    if request.dtype != WeightsRequest.dtype:
        raise InputError(f"--dtype {request.dtype}: an .onnx file computes in float32; leave it out")
    _refuse_gpus(request)
    _refuse_not_finite(request)
    logits, card = open_onnx(path)
    if request.model and model_record(request.model).name != card.network:
        raise InputError(f"--model {request.model}: {path} is of {card.network}; leave the flag out")
    published = weights_with_hash(card.git_blob_sha1)
    if not published and card.labels and request.labels not in (None, card.labels):
        raise InputError(f"{LABELS[str(request.labels)]}: {path} was exported for {card.labels} labels; leave it out")
    card = replace(card, labels=labels_of(request.labels or card.labels, published))
    return _in_onnxruntime(logits, _at_input_size(card, request.input_size), path)


def _in_onnxruntime(logits: Logits, card: Card, path: str) -> LoadedWeights:
    from gluon_aff.extras import import_extra

    framework = f"ONNX Runtime {import_extra('onnxruntime').__version__}"
    return LoadedWeights(in_thread(logits), card, path, f"{framework}, cpu", framework)


def _refuse_gpus(request: WeightsRequest) -> None:
    if request.gpus not in ("", WeightsRequest.gpus):
        raise InputError(f"--gpus {request.gpus}: ONNX Runtime computes on the CPU here; leave it out")


def _refuse_not_finite(request: WeightsRequest) -> None:
    if request.allow_not_finite:
        raise InputError(
            "--allow-not-finite: exports are made of whole weights only; take a .params file and another --engine"
        )


def _check_type_for_mxnet(request: WeightsRequest, devices: Devices) -> None:
    if request.dtype == "float16" and devices.kind == "cpu":
        raise InputError("--dtype float16: MXNet computes with float16 on GPUs only; leave it out here")
    if request.dtype == "bfloat16":
        raise InputError("--dtype bfloat16: MXNet has none for this; take --engine torch, or leave it out")


def _at_input_size(card: Card, input_size: Optional[int]) -> Card:
    if input_size and card.for_cifar:
        raise InputError(f"--input-size {input_size}: CIFAR's images are 32 x 32; leave it out")
    return replace(card, input_size=input_size or card.input_size)


def evaluate_weights(
    loaded: LoadedWeights, dataset: Optional[str], data_dir: Optional[str], batch_size: int, num_workers: int
) -> EvaluatedWeights:
    """Evaluate on the validation images of `dataset` (the one it was trained on if None).

    Raises:
        InputError: if the data set is not known, not that of the weights, or cannot be read.
        GluonAFFError: if an output is not finite.
    """
    data = validation_set(loaded.card, loaded.path, dataset, data_dir, batch_size, num_workers)
    return EvaluatedWeights(loaded, data, evaluate(loaded.infer, data.batches, len(data.names), data.images))


def validation_set(
    card: Card, path: str, dataset: Optional[str], data_dir: Optional[str], batch_size: int, num_workers: int
) -> ValidationSet:
    """Validation images of `dataset` (the one it was trained on if None) for the weights at `path`.

    Raises:
        InputError: if the data set is not known, not that of the weights, or cannot be read.
    """
    dataset = dataset or card.dataset
    if dataset is None:
        raise InputError(f"{path} does not say which data set it is for: add --dataset")
    if card.dataset not in (None, dataset):
        raise InputError(f"--dataset {dataset}: {path} was trained on {card.dataset}; leave --dataset out")
    if dataset != "cifar100" and card.labels in LABELS:
        raise InputError(f"{LABELS[str(card.labels)]}: {dataset} has one label set only; leave the flag out")
    labels = card.labels if dataset == "cifar100" else dataset
    if labels is None:
        raise InputError(
            f"{path} is no published file and does not say which labels it was trained on: add --fine-label or "
            "--superclass (train_cifar.py's default)"
        )
    if dataset == "imagenet":
        data = _imagenet(card, data_dir, batch_size, num_workers)
    else:
        data = _cifar(dataset, labels, data_dir, batch_size)
    if len(data.names) > card.outputs:
        raise InputError(f"{dataset} has {len(data.names)} classes there, and {path} is of {card.outputs}")
    return data


def _file(request: WeightsRequest) -> str:
    if request.params != PUBLISHED:
        return request.params
    if not request.model:
        raise InputError("--params published: name the model with --model (gluon-aff models lists them)")
    weights = model_record(request.model).weights
    if not weights:
        raise InputError(f"--params published: none were, of {request.model}; name a file")
    labels = request.labels or next(iter(weights))
    if labels not in weights:
        there = " and ".join(LABELS.get(name, name) for name in weights)
        raise InputError(f"{LABELS[labels]}: of {request.model} only {there} weights were published")
    return published_file(weights[labels], request.root, request.open_aff)


def _cifar(dataset: str, labels: str, data_dir: Optional[str], batch_size: int) -> ValidationSet:
    images = load_cifar(dataset, False, labels == "fine", data_dir)
    batches = validation_batches(images, batch_size)
    return ValidationSet(dataset, labels, batches, len(images), list(images.names), images.official)


def _imagenet(card: Card, data_dir: Optional[str], batch_size: int, num_workers: int) -> ValidationSet:
    """Labels have to be the training set's: the names of the classes are held against it, or against the outputs."""
    if data_dir is None:
        raise InputError("--data-dir: name the folder with ImageNet's val folder, or with val.rec and val.idx")
    data = validation_data(data_dir, card.input_size, batch_size, num_workers)
    known = data.class_list
    if known and known.whole and not data.as_in_training:
        _check_classes(known, card.outputs)
    official = (data.images, data.classes) == (IMAGENET_VALIDATION_IMAGES, IMAGENET_CLASSES)
    names = known.ordered if known and known.whole else list(map(str, range(data.classes)))
    doubt = (
        f"the labels in {data_dir} go up to {data.classes - 1}, the network's outputs to {card.outputs - 1}, and no "
        ".classes file says for which classes: if one was missing when the records were made, the labels after it are "
        "wrong; gluon-aff make-records takes the training set's"
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
    """Refuse classes that cannot be those of so many outputs."""
    if len(known.names) != outputs:
        raise InputError(
            f"{known.source} has {len(known.names)} classes, and the network {outputs} outputs, so their labels would "
            "be those of other classes: add what is missing, empty folders if need be, or put the training set beside "
            "it"
        )
    others = strangers(known.ordered)
    if others:
        raise InputError(
            f"{known.source} has classes that are none of ImageNet's ({named(others)}), so the labels of others would "
            "be wrong: remove them, and add what is missing, or put the training set beside it"
        )


def output_names(card: Card, path: Optional[str] = None) -> List[str]:
    """A name for every output of the network: those in the file `path`, a line each, the card's, or its data set's.

    Outputs without a class, such as 20 to 99 of a superclass network, are named by their number.

    Raises:
        InputError: if the file cannot be read or has another number of lines.
    """
    if path:
        try:
            names = read_text(path).splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"--names {path}: {last_line(error)}; name a text file") from None
        if len(names) != card.outputs:
            raise InputError(f"--names {path} has {len(names)} lines, and the network {card.outputs} outputs")
        return names
    if card.names:
        return list(card.names)
    known = class_names(str(card.dataset), card.labels == "fine") if names_known(card) else []
    return list(names_of_outputs(known, card.outputs))


def names_known(card: Card) -> bool:
    """Whether the outputs of the network have names, the card's or those of its data set's classes."""
    if card.names:
        return True
    if card.dataset is None:
        return False
    if card.dataset == "imagenet":
        return card.outputs == IMAGENET_CLASSES
    return card.dataset == "cifar10" or card.labels is not None
