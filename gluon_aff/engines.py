"""The door to the frameworks: what the package asks of one, in NumPy arrays and plain settings.

Everything outside of `gluon/` and `pytorch/` reaches MXNet and PyTorch through the functions at the end only, and knows
neither their arrays nor their networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Protocol, Sequence, Tuple, Union, cast

import numpy as np

from gluon_aff._platform import engine_name, no_engine, platform_problem, torch_problem
from gluon_aff.errors import NoEngineError
from gluon_aff.models import Architecture
from gluon_aff.schedule import Schedule

# Waits for a result that is being computed.
Awaited = Callable[[], np.ndarray]
# Starts on images, float32 (N, 3, H, W); what is returned waits for the outputs, float32 (N, ...).
Infer = Callable[[np.ndarray], Awaited]
# The same, waited for.
Logits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Devices:
    """What a process computes on.

    Attributes:
        kind: cpu or gpu.
        numbers: of the devices; each takes an equal slice of a batch, or nearly.
    """

    kind: str = "cpu"
    numbers: Tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def names(self) -> List[str]:
        """As logs have them, such as gpu(0)."""
        return [f"{self.kind}({number})" for number in self.numbers]

    def share(self, rank: int, size: int) -> Devices:
        """Those of the process of that rank among `size`."""
        return Devices(self.kind, self.numbers[rank::size])


@dataclass(frozen=True)
class Distillation:
    """A network whose outputs the trained one imitates.

    Attributes:
        teacher: its name, in `models.MODELS` or in the framework's own collection.
        params: path of its weights.
        temperature: both networks' logits are divided by it where they are compared.
        hard_weight: share of the loss on the labels, 0..1; the rest is on the teacher's outputs.
    """

    teacher: str
    params: str
    temperature: float
    hard_weight: float


@dataclass(frozen=True)
class Classification:
    """Learning classes, by cross-entropy.

    Attributes:
        classes: outputs of the network, K.
        smoothing: eta; a label is 1 - eta + eta/K, the others eta/K.
        mixup: batches are mixed with their reverse, labels too; the metric is then the RMSE between softmax and mixed
            labels, as in the original, and the accuracy without, where the original crashed.
        distillation: a teacher to learn from as well.
    """

    classes: int
    smoothing: float = 0.0
    mixup: bool = False
    distillation: Optional[Distillation] = None

    def error(self, metric: float) -> float:
        """What the curve shows of an epoch whose mean metric is `metric`: with mixup the RMSE, as in the original."""
        return metric if self.mixup else 1 - metric


@dataclass(frozen=True)
class Segmentation:
    """Learning masks, by soft IoU; the metric is the IoU over a device's slice."""

    def error(self, metric: float) -> float:
        """1 - IoU."""
        return 1 - metric


Objective = Union[Classification, Segmentation]


@dataclass(frozen=True)
class Optimizer:
    """How weights are updated.

    Attributes:
        name: nag, sgd or adagrad.
        rate: learning rate, or its schedule over the updates.
        wd: weight decay.
        momentum: None where the optimizer has none.
        no_wd: no decay of betas, gammas and biases (the original's --no-wd).
    """

    name: str
    rate: Union[float, Schedule]
    wd: float
    momentum: Optional[float] = None
    no_wd: bool = False


@dataclass(frozen=True)
class Start:
    """What training starts from, where that is not new weights.

    Attributes:
        params: path of a `.params` file.
        ignore_extra: take no notice of arrays in it that the network lacks.
        states: path of a `.states` file.
        updates: that the schedule takes as done, whatever the states say; theirs if None.
    """

    params: Optional[str] = None
    ignore_extra: bool = False
    states: Optional[str] = None
    updates: Optional[int] = None


@dataclass(frozen=True)
class LearnerSettings:
    """A network to train, and how.

    Attributes:
        architecture: the network.
        batch_shape: (N, 3, H, W) of a device's slice of a batch.
        objective: what it learns.
        optimizer: how its weights are updated.
        seed: of new weights.
        initializer: of new weights, xavier or msraprelu.
        dtype: float32, float64, float16 (with float32 copies of the weights) or bfloat16 (mixed precision).
        amp: float16 or bfloat16 for mixed precision with float32 weights, whatever `dtype` says; None for none.
        compiled: run as a graph.
        static: allocate memory once for all batches.
        sync_bn: batch statistics over all devices of the process.
        start: what training starts from.
    """

    architecture: Architecture
    batch_shape: Tuple[int, int, int, int]
    objective: Objective
    optimizer: Optimizer
    seed: int
    initializer: str = "msraprelu"
    dtype: str = "float32"
    amp: Optional[str] = None
    compiled: bool = True
    static: bool = False
    sync_bn: bool = False
    start: Start = Start()


@dataclass(frozen=True)
class StepFigures:
    """What a step gave, as means over the devices and the workers.

    Attributes:
        metric: the objective's.
        loss: mean loss of an image.
        asked_to_stop: a worker was.
    """

    metric: float
    loss: float
    asked_to_stop: bool


@dataclass(frozen=True)
class LearnerState:
    """What a learner has learnt, by names of parameters.

    Attributes:
        parameters: as a `.params` file has them, means over the devices.
        device_statistics: running statistics of each device by `DEVICE:NAME`, where there are several.
        optimizer: momentum and float32 copies, `NAME` or, of several for one parameter, `NAME:0`, `NAME:1`.
        updates: how many there have been.
    """

    parameters: Mapping[str, np.ndarray]
    device_statistics: Mapping[str, np.ndarray]
    optimizer: Mapping[str, np.ndarray]
    updates: int


@dataclass(frozen=True)
class LayerCount:
    """One layer at batch 1.

    Attributes:
        name: as its parameters have it, such as `layer4.2.conv3`.
        kind: name of its class.
        output_shape: (1, C, H, W) or (1, C).
        trainable: parameters that are trained.
        fixed: running statistics and other parameters without gradient.
        multiply_adds: those of convolutions and dense layers; biases, normalisation and products of maps left out.
        original_count: what the original's summary adds up as FLOPs for it.
        thop_count: what the profiler of the AFINets paper does, which adds two for each value of a BatchNorm and one
            for each value that is averaged globally.
    """

    name: str
    kind: str
    output_shape: Tuple[int, ...]
    trainable: int
    fixed: int
    multiply_adds: int
    original_count: int
    thop_count: int


@dataclass(frozen=True)
class ClassActivation:
    """What a layer makes of an image, and what it does for a class.

    Attributes:
        logits: float32 (K,).
        label: the class.
        maps: the layer's output, float32 (C, h, w).
        gradient: of the class's logit with respect to `maps`, likewise.
    """

    logits: np.ndarray
    label: int
    maps: np.ndarray
    gradient: np.ndarray


@dataclass(frozen=True)
class Channels:
    """Channels `begin` to before `end` of what the layer with this name gives; to its last one if `end` is None."""

    layer: str
    begin: int = 0
    end: Optional[int] = None

    def __str__(self) -> str:
        if not self.begin and self.end is None:
            return self.layer
        return f"{self.layer}[{self.begin}:{'' if self.end is None else self.end}]"


class Cluster(Protocol):
    """The workers of a run, of which this process is one; all call the same functions in the same order."""

    @property
    def rank(self) -> int:
        """Number of this worker."""

    @property
    def size(self) -> int:
        """How many workers there are."""

    @property
    def local_size(self) -> int:
        """How many are on this machine."""

    def devices(self, all_devices: Devices) -> Devices:
        """This worker's share of those that all workers of its machine see; all of them if they are CPUs.

        Raises:
            InputError: there are fewer GPUs than workers.
        """

    def broadcast(self, array: np.ndarray) -> np.ndarray:
        """Worker 0's `array`, for which all workers give one of the same shape and type; bit for bit."""

    def sum(self, figures: Sequence[float]) -> List[float]:
        """Sum of each figure over the workers, in float32."""


class Network(Protocol):
    """A network with its parameters, on its devices; layers are called as their parameters, such as `layer4.2.conv3`.

    What looks inside or exports leaves the network as it is.
    """

    def infer(self, images: np.ndarray) -> Awaited:
        """Start on images, float32 (N, 3, H, W); what is returned waits for the outputs, float32 (N, ...)."""

    def for_many_images(self) -> Infer:
        """What infers faster where that takes a fraction of a second to set up; outputs may differ by rounding."""

    def parameters(self) -> Dict[str, np.ndarray]:
        """Values by the names that `.params` files have, means over the devices."""

    def check_layer(self, name: str) -> None:
        """Raise InputError, with the nearest names, if there is no such layer."""

    def pooled_layer(self) -> str:
        """Name of the layer whose maps are averaged for the head.

        Raises:
            InputError: none are, as a classifier's.
        """

    def activation(self, image: np.ndarray, layer: str, label: Optional[int] = None) -> ClassActivation:
        """Infer, and differentiate the logit of a class with respect to a layer's output.

        Args:
            image: float32 (3, H, W).
            layer: its name. Of a layer used twice, the last output.
            label: the class, 0..K-1; that of the largest logit if None.

        Raises:
            InputError: for an unknown layer or label, a layer whose output shows no places, or a network without
                logits.
            GluonAFFError: if the layer's output or the gradient is not finite.
        """

    def channel_sums(
        self,
        channels: Channels,
        batches: Iterable[Tuple[np.ndarray, np.ndarray]],
        classes: int,
        advance: Callable[[int], object],
    ) -> Tuple[np.ndarray, float]:
        """Sums over each class's images of the means of channels over height and width.

        Args:
            channels: of a layer whose output is (N, C, H, W) or (N, C). Of a layer used twice, the last output.
            batches: one or more, of images float32 (N, 3, H, W) and labels (N,), 0..classes-1, N any number above 0.
            classes: number of label values.
            advance: is told how many images are done.

        Returns:
            float64 (classes, C), and the lowest value of the channels.

        Raises:
            InputError: for an unknown layer, channels that it does not have, or an output of another shape.
        """

    def onnx_model(self, input_size: int, outputs: int, properties: Mapping[str, str]) -> bytes:
        """The network in ONNX's format, as a file has it.

        Its input is `images`, float32 (batch, 3, height, width), of any batch, height and width that the network takes;
        its output is `logits`, (batch, outputs).

        Args:
            input_size: side of the images in pixels that the exporter sees.
            outputs: how many the network has.
            properties: what the file says of it.

        Raises:
            InputError: onnx is missing, or another one is needed.
            GluonAFFError: the network cannot be exported.
        """


class SymbolNetwork(Network, Protocol):
    """A network of MXNet's, which alone writes its own format."""

    def save_symbol(self, symbol: str, parameters: str) -> Logits:
        """Write MXNet's pair of files; what is returned computes by what is read back from them.

        Raises:
            OSError: a file cannot be written.
        """


class Learner(Protocol):
    """A network that is being trained, in one of the processes of a run."""

    @property
    def notes(self) -> Sequence[str]:
        """Lines on what a user should know of how this engine trains here."""

    @property
    def learning_rate(self) -> float:
        """That of the last step."""

    def set_learning_rate(self, rate: float) -> None:
        """Train with `rate` from now on; not where there is a schedule."""

    def seed(self, seed: int) -> None:
        """Seed the framework's random numbers, such as dropout's."""

    def step(
        self, images: np.ndarray, labels: np.ndarray, mixup_weight: float, asked_to_stop: bool
    ) -> Callable[[], StepFigures]:
        """Update the weights once, on images (N, 3, H, W) and labels (N,) or masks (N, 1, H, W), both float32.

        Args:
            images: each device takes an equal slice, mixed within itself, as in the original.
            labels: of the images.
            mixup_weight: weight of the batch against its reverse, 0..1.
            asked_to_stop: this worker is.

        Returns:
            What waits for the figures.
        """

    def end_epoch(self) -> bool:
        """Give all workers the means of their running statistics; whether all weights are finite."""

    def validated(self) -> Network:
        """A network with the parameters that are learnt so far."""

    def parameters(self) -> Dict[str, np.ndarray]:
        """What is learnt so far, as in `LearnerState`."""

    def state(self) -> LearnerState:
        """What a checkpoint keeps."""

    def restore(self, state: LearnerState, source: str) -> None:
        """Go on from what `state` gave, before the first step; `source` is what a message calls it.

        Raises:
            InputError: it does not fit the network.
            KeyError: an array that the optimizer needs is missing.
        """

    def save_states(self, path: str) -> None:
        """Write the `.states` file, whole or not at all.

        Raises:
            GluonAFFError: it cannot be written.
        """


class Catalogue(Protocol):
    """What a framework knows of networks without their parameters; a module satisfies it."""

    def arguments(self, architecture: Architecture) -> Dict[str, Any]:
        """All arguments of its host, those not given with their defaults; the same for the same network."""

    def parameter_shapes(self, architecture: Architecture) -> Dict[str, Tuple[int, ...]]:
        """Shapes by the names that `.params` files have; 0 stands for a size that only an image tells.

        Raises:
            InputError: for arguments that no network can have.
        """

    def raw_names(self, architecture: Architecture) -> Dict[str, str]:
        """Gluon's own names, which count the layers of a process, by the names that `.params` files have."""


class TorchFiles(Catalogue, Protocol):
    """What only PyTorch can do with weight files; a module satisfies it."""

    def read_state(self, path: str) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
        """The arrays of a `.pth` or `.safetensors` file by `.params` names, and what it says of its network.

        Raises:
            ParamsFileError: it cannot be read, or holds something else than the tensors of a network.
        """

    def write_state(self, path: str, arrays: Mapping[str, np.ndarray], card: Mapping[str, str]) -> None:
        """Write such a file, whole or not at all.

        Raises:
            GluonAFFError: it cannot be written.
        """

    def logits(self, architecture: Architecture, arrays: Mapping[str, np.ndarray], images: np.ndarray) -> np.ndarray:
        """What the network with these parameters makes of images, float32 (N, 3, H, W) -> (N, ...)."""


class Engine(Catalogue, Protocol):
    """A framework that computes with networks and trains them; a module satisfies it.

    Attributes:
        NAME: as logs have it.
        VERSION: of the framework.
        PROCESS_PER_GPU: a process trains on one GPU only, and several form a cluster.
    """

    NAME: str
    VERSION: str
    PROCESS_PER_GPU: bool

    def find_devices(self, gpus: str, strict: bool = False) -> Tuple[Devices, str]:
        """Devices for `--gpus` (comma-separated ids), the CPU if there are no GPUs, and a line that says which.

        Raises:
            InputError: the text is no list of ids, or the framework cannot use what it names.
        """

    def trainable_parameters(self, architecture: Architecture) -> int:
        """How many values are trained.

        Raises:
            InputError: for arguments that the host cannot take.
        """

    def count_layers(self, architecture: Architecture, input_size: int) -> List[LayerCount]:
        """Counts of each layer for one image (1, 3, input_size, input_size).

        A layer that is called twice has two rows; its parameters are in the first.

        Raises:
            InputError: for arguments that the host cannot take, or if the image is too small.
        """

    def load_network(
        self, architecture: Architecture, path: str, devices: Devices, dtype: str, allow_not_finite: bool = False
    ) -> Network:
        """The network with the parameters of the `.params` file at `path`, for inference.

        Args:
            architecture: what to build.
            path: of the file.
            devices: where.
            dtype: float32, float16 or, under PyTorch, bfloat16 (BatchNorm stays float32).
            allow_not_finite: take values that are NaN or infinite too.

        Raises:
            ParamsFileError: the file is damaged, has such values, or does not fit.
        """

    def measure_memory(
        self, architecture: Architecture, batch: int, training: bool, devices: Devices
    ) -> Dict[str, object]:
        """Run a network for a few batches in this process, which has done nothing else, and say what it held.

        Args:
            architecture: a classifier's.
            batch: images at a time, random ones of the network's size.
            training: forward, backward and update; inference if not.
            devices: the first counts.

        Returns:
            `device`; `of`: what the figures are of; and in MiB `before` there was a network, and `peak`. PyTorch can
            also tell `saved`, what a forward pass of training keeps for the backward pass besides parameters, and on a
            GPU `reserved`, the peak of what its allocator holds.
        """

    def try_step(self, devices: Devices) -> Dict[str, float]:
        """Train a convolution and a dense layer for one step on the first of the devices.

        Returns:
            `before` and `after`: the loss; `seconds`: time of the step, with what the first one sets up.
        """

    def join_cluster(self, kvstore: str) -> Cluster:
        """Meet the other workers of the run, in the way that `--kvstore` names.

        Raises:
            InputError: for an unknown name, or one that is for `gluon-aff launch`, outside it.
        """

    def learner(self, settings: LearnerSettings, devices: Devices, cluster: Cluster) -> Learner:
        """A network to train.

        Raises:
            InputError: the settings do not go together, or a file cannot be used.
        """


class MXNetEngine(Engine, Protocol):
    """MXNet, of which there are several builds; a module satisfies it."""

    def about(self) -> Dict[str, Any]:
        """Of MXNet: its `version`, the `features` it was built with, and the file of its native `library`."""


def engine(name: Optional[str] = None) -> Engine:
    """The engine that computes with networks and trains them.

    Args:
        name: mxnet, torch, or auto, which is MXNet where it works, else PyTorch; what $GLUON_AFF_ENGINE names if None,
            auto without that.

    Raises:
        NoEngineError: it does not work here; it says what to install, and how.
    """
    name = name or engine_name()
    if name == "torch":
        return _torch()
    try:
        return cast(Engine, import_module("gluon_aff.gluon.engine"))
    except NoEngineError:
        if name == "mxnet":
            raise
        torch = torch_problem()
        if torch is None:
            return _torch()
        raise no_engine(*filter(None, (platform_problem(), torch))) from None


def _torch() -> Engine:
    return cast(Engine, import_module("gluon_aff.pytorch.engine"))


def torch_files() -> TorchFiles:
    """PyTorch, as far as files are concerned.

    Raises:
        NoEngineError: it is not installed; it says how to.
    """
    return cast(TorchFiles, import_module("gluon_aff.pytorch.state_files"))
