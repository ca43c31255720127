"""Define what the package needs from MXNet or PyTorch, in NumPy arrays and plain settings.

Code outside `gluon/` and `pytorch/` reaches the frameworks only through `engine` and `torch_files` at the end of this
module. It handles neither their arrays nor their networks.
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

# Waits for a result that is being computed, and returns it.
Awaited = Callable[[], np.ndarray]
# Starts to compute the outputs for images, float32 (N, 3, H, W). The returned function waits for them and returns them,
# float32 (N, ...).
Infer = Callable[[np.ndarray], Awaited]
# Computes the outputs for images like `Infer`, but waits for them.
Logits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Devices:
    """Name the devices that a process computes on.

    Attributes:
        kind: 'cpu' or 'gpu'.
        numbers: numbers of the devices. The devices split a batch into slices of equal size, or nearly equal if it does
            not divide evenly.
    """

    kind: str = "cpu"
    numbers: Tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def names(self) -> List[str]:
        """Return the devices' names as logs have them, such as gpu(0)."""
        return [f"{self.kind}({number})" for number in self.numbers]

    def share(self, rank: int, size: int) -> Devices:
        """Return every `size`-th device, starting with number `rank`: the share of one process among `size`."""
        return Devices(self.kind, self.numbers[rank::size])


@dataclass(frozen=True)
class Distillation:
    """Name a teacher network whose outputs the trained network imitates.

    Attributes:
        teacher: name of the network, in `models.MODELS` or in the framework's own collection.
        params: path of its weights.
        temperature: divisor of both networks' logits before they are compared.
        hard_weight: share of the loss on the labels, 0..1. The rest is the loss on the teacher's outputs.
    """

    teacher: str
    params: str
    temperature: float
    hard_weight: float


@dataclass(frozen=True)
class Classification:
    """Describe training with cross-entropy over K classes.

    Attributes:
        classes: K, the number of outputs of the network.
        smoothing: eta of label smoothing, 0..1. The label gets the probability 1 - eta + eta/K, each other class eta/K.
        mixup: whether batches and their labels are mixed with their reverse. If so, the metric is the RMSE between
            softmax and mixed labels, as in the original. Otherwise it is the accuracy; the original crashed without
            mixup.
        distillation: a teacher to learn from in addition, if any.
    """

    classes: int
    smoothing: float = 0.0
    mixup: bool = False
    distillation: Optional[Distillation] = None

    def error(self, metric: float) -> float:
        """Return the epoch's error for the curve: the RMSE with mixup, as in the original; otherwise 1 - accuracy."""
        return metric if self.mixup else 1 - metric


@dataclass(frozen=True)
class Segmentation:
    """Describe training with the soft IoU loss on masks; the metric is the IoU over a device's slice of a batch."""

    def error(self, metric: float) -> float:
        """Return the epoch's error for the curve: 1 - IoU."""
        return 1 - metric


Objective = Union[Classification, Segmentation]


@dataclass(frozen=True)
class Optimizer:
    """Describe how weights are updated.

    Attributes:
        name: 'nag', 'sgd' or 'adagrad'.
        rate: a constant learning rate, or a schedule over the updates.
        wd: weight decay.
        momentum: momentum factor, or None if the optimizer has none.
        no_wd: whether betas, gammas and biases are exempt from weight decay (the original's `--no-wd`).
    """

    name: str
    rate: Union[float, Schedule]
    wd: float
    momentum: Optional[float] = None
    no_wd: bool = False


@dataclass(frozen=True)
class Start:
    """Name the files that training starts from instead of new weights.

    Attributes:
        params: path of a `.params` file.
        ignore_extra: whether arrays of that file that the network lacks are ignored.
        states: path of a `.states` file.
        updates: number of updates after which the schedule continues, overriding the one in the states. If None, theirs
            counts.
    """

    params: Optional[str] = None
    ignore_extra: bool = False
    states: Optional[str] = None
    updates: Optional[int] = None


@dataclass(frozen=True)
class LearnerSettings:
    """Describe a network to train, and how to train it.

    Attributes:
        architecture: the network.
        batch_shape: (N, 3, H, W) of the slice of a batch that a device gets.
        objective: what the network learns.
        optimizer: how its weights are updated.
        seed: seed of the initial weights.
        initializer: distribution of the initial weights, 'xavier' or 'msraprelu'.
        dtype: 'float32', 'float64', 'float16' (the optimizer keeps float32 copies of the weights) or 'bfloat16' (mixed
            precision).
        amp: 'float16' or 'bfloat16' for mixed precision with float32 weights, which overrides `dtype`; None for no
            mixed precision.
        compiled: whether the network runs as a compiled graph.
        static: whether memory is allocated once for all batches.
        sync_bn: whether batch statistics are taken over all devices of the process.
        start: files that training starts from.
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
class Pixels:
    """Hold images as bytes, which the learner normalises itself: (values - mean) / std.

    Attributes:
        values: uint8 (N, H, W, 3).
        mean: means of red, green and blue on a 0..255 scale.
        std: their standard deviations on the same scale.
    """

    values: np.ndarray
    mean: Sequence[float]
    std: Sequence[float]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.values)


@dataclass(frozen=True)
class StepFigures:
    """Hold the figures of one training step, averaged over the devices and the workers.

    Attributes:
        metric: metric of the objective.
        loss: mean loss of an image.
        asked_to_stop: whether any worker was asked to stop.
    """

    metric: float
    loss: float
    asked_to_stop: bool


@dataclass(frozen=True)
class LearnerState:
    """Hold everything that a checkpoint needs of a learner, keyed by parameter names.

    Attributes:
        parameters: the parameters as a `.params` file has them, averaged over the devices.
        device_statistics: running statistics of each device under `DEVICE:NAME`. Empty if there is only one device.
        optimizer: momentum and float32 copies of weights, under `NAME`, or under `NAME:0` and `NAME:1` if a parameter
            has both.
        updates: number of updates so far.
    """

    parameters: Mapping[str, np.ndarray]
    device_statistics: Mapping[str, np.ndarray]
    optimizer: Mapping[str, np.ndarray]
    updates: int


@dataclass(frozen=True)
class LayerCount:
    """Hold the counts of one layer for one image.

    Attributes:
        name: name of the layer, the prefix of its parameters' names, such as `layer4.2.conv3`.
        kind: name of the layer's class.
        output_shape: (1, C, H, W) or (1, C).
        trainable: number of trainable parameters.
        fixed: number of running statistics and other parameters without a gradient.
        multiply_adds: multiply-adds of convolutions and dense layers. Biases, normalisation and products of maps do not
            count.
        original_count: the layer's FLOPs as the original's summary counts them.
        thop_count: operations as the profiler of the AFINets paper counts them. It adds two for each value of a
            BatchNorm and one for each value that global pooling averages.
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
    """Hold a layer's output for an image, and the gradient of a class's logit with respect to it.

    Attributes:
        logits: float32 (K,).
        label: the class, 0..K-1.
        maps: the layer's output, float32 (C, h, w).
        gradient: gradient of the class's logit with respect to `maps`, float32 (C, h, w).
    """

    logits: np.ndarray
    label: int
    maps: np.ndarray
    gradient: np.ndarray


@dataclass(frozen=True)
class Channels:
    """Select the channels `begin` to `end` - 1 of a layer's output; if `end` is None, all from `begin` on."""

    layer: str
    begin: int = 0
    end: Optional[int] = None

    def __str__(self) -> str:
        if not self.begin and self.end is None:
            return self.layer
        return f"{self.layer}[{self.begin}:{'' if self.end is None else self.end}]"


class Cluster(Protocol):
    """Connect the workers of a run, one of which is this process.

    All workers have to call the same methods in the same order.
    """

    @property
    def rank(self) -> int:
        """Return the number of this worker, 0..size - 1."""

    @property
    def size(self) -> int:
        """Return the number of workers."""

    @property
    def local_size(self) -> int:
        """Return the number of workers on this machine."""

    def devices(self, all_devices: Devices) -> Devices:
        """Return this worker's share of the GPUs that all workers of its machine see; CPU devices are not shared out.

        Raises:
            InputError: there are fewer GPUs than workers.
        """

    def broadcast(self, array: np.ndarray) -> np.ndarray:
        """Return worker 0's `array`, bit for bit. All workers pass an array of the same shape and type."""

    def sum(self, figures: Sequence[float]) -> List[float]:
        """Return the sum of each figure over the workers, in float32."""


class Network(Protocol):
    """Run a network with its parameters on its devices.

    A layer's name is the prefix of its parameters' names, such as `layer4.2.conv3`. Inspecting or exporting a network
    does not change it.
    """

    def infer(self, images: np.ndarray) -> Awaited:
        """Start to compute the outputs for images, float32 (N, 3, H, W).

        The returned function waits for the outputs, float32 (N, ...).
        """

    def for_many_images(self) -> Infer:
        """Return a faster `infer`, if a fraction of a second is enough to set it up; outputs may differ by rounding."""

    def parameters(self) -> Dict[str, np.ndarray]:
        """Return the parameters by the names that `.params` files have, averaged over the devices."""

    def check_layer(self, name: str) -> None:
        """Check that the layer exists.

        Raises:
            InputError: it does not; the message suggests the most similar names.
        """

    def pooled_layer(self) -> str:
        """Return the name of the layer whose maps are averaged for the head.

        Raises:
            InputError: no maps are averaged, so the network is not a classifier.
        """

    def activation(self, image: np.ndarray, layer: str, label: Optional[int] = None) -> ClassActivation:
        """Infer one image, and differentiate the logit of a class with respect to a layer's output.

        Args:
            image: float32 (3, H, W).
            layer: name of the layer. If the network uses it twice, its last output counts.
            label: the class, 0..K-1. If None, the class with the largest logit.

        Raises:
            InputError: the layer or the label is unknown, the layer's output has no spatial positions, or the network
                has no logits.
            GluonAFFError: the layer's output or the gradient is not finite.
        """

    def channel_sums(
        self,
        channels: Channels,
        batches: Iterable[Tuple[np.ndarray, np.ndarray]],
        classes: int,
        advance: Callable[[int], object],
    ) -> Tuple[np.ndarray, float]:
        """Sum the spatial means of channels over the images of each class.

        Args:
            channels: channels of a layer whose output is (N, C, H, W) or (N, C). If the network uses the layer twice,
                its last output counts.
            batches: one or more batches of images, float32 (N, 3, H, W), and labels, (N,), 0..classes-1. N may be any
                number above 0.
            classes: number of label values.
            advance: is called with the number of images of each finished batch.

        Returns:
            The sums, float64 (classes, C), and the lowest value of the channels.

        Raises:
            InputError: the layer is unknown, it lacks one of the channels, or its output has another shape.
        """

    def onnx_model(self, input_size: int, outputs: int, properties: Mapping[str, str]) -> bytes:
        """Return the content of an ONNX file of the network.

        The model's input is `images`, float32 (batch, 3, height, width). Batch, height and width may be any that the
        network takes. The model's output is `logits`, (batch, outputs).

        Args:
            input_size: side in pixels of the square images that the network is exported with.
            outputs: number of outputs of the network.
            properties: metadata to write into the file.

        Raises:
            InputError: onnx is not installed, or its version does not fit.
            GluonAFFError: the network cannot be exported.
        """


class SymbolNetwork(Network, Protocol):
    """Run a network of MXNet, which can also be written in MXNet's own format."""

    def save_symbol(self, symbol: str, parameters: str) -> Logits:
        """Write MXNet's symbol and parameter files, and return a function that computes logits with what they contain.

        Raises:
            OSError: a file cannot be written.
        """


class Learner(Protocol):
    """Train a network in one of the processes of a run.

    Attributes:
        takes_pixels: whether `step` takes `Pixels` too, since the device normalises images faster than the CPU.
    """

    takes_pixels: bool

    @property
    def notes(self) -> Sequence[str]:
        """Return lines for the log about how this engine trains here."""

    @property
    def learning_rate(self) -> float:
        """Return the learning rate of the last step."""

    def set_learning_rate(self, rate: float) -> None:
        """Train with the learning rate `rate` from now on; not allowed if there is a schedule."""

    def seed(self, seed: int) -> None:
        """Seed the framework's random numbers, which dropout draws from."""

    def step(
        self, images: Union[np.ndarray, Pixels], labels: np.ndarray, mixup_weight: float, asked_to_stop: bool
    ) -> Callable[[], StepFigures]:
        """Update the weights once.

        Args:
            images: float32 (N, 3, H, W), or `Pixels` if the learner takes them. Each device takes an equal slice and
                applies mixup within it, as in the original.
            labels: float32 classes (N,), or masks (N, 1, H, W) for segmentation.
            mixup_weight: mixup's weight of the batch, 0..1. Its reverse gets the rest.
            asked_to_stop: whether this worker was asked to stop.

        Returns:
            A function that waits for the figures and returns them.
        """

    def end_epoch(self) -> bool:
        """Give all workers the mean of their running statistics, and return whether all weights are finite."""

    def validated(self) -> Network:
        """Return a network for validation that has the current parameters."""

    def parameters(self) -> Dict[str, np.ndarray]:
        """Return the current parameters, as in `LearnerState`."""

    def state(self) -> LearnerState:
        """Return everything that a checkpoint needs."""

    def restore(self, state: LearnerState, source: str) -> None:
        """Continue from a `state` that this method's counterpart returned; call it before the first step.

        Args:
            state: what `state()` returned.
            source: name of the checkpoint for error messages.

        Raises:
            InputError: the state does not fit the network.
            KeyError: an array that the optimizer needs is missing.
        """

    def save_states(self, path: str) -> None:
        """Write the `.states` file, whole or not at all.

        Raises:
            GluonAFFError: the file cannot be written.
        """


class Catalogue(Protocol):
    """Describe networks without their parameters. A module satisfies this protocol."""

    def arguments(self, architecture: Architecture) -> Dict[str, Any]:
        """Return all arguments of the host network, with the defaults of those that are not given.

        Two architectures with equal arguments are the same network.
        """

    def parameter_shapes(self, architecture: Architecture) -> Dict[str, Tuple[int, ...]]:
        """Return the parameters' shapes by the names that `.params` files have.

        A size of 0 is one that is known only once the network sees an image.

        Raises:
            InputError: no network can have these arguments.
        """

    def raw_names(self, architecture: Architecture) -> Dict[str, str]:
        """Return Gluon's own parameter names, which number the layers of a process, by the names in `.params` files."""


class TorchFiles(Catalogue, Protocol):
    """Read and write PyTorch's weight files, and run networks from them. A module satisfies this protocol."""

    def read_state(self, path: str) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
        """Read the arrays of a `.pth` or `.safetensors` file, by their `.params` names, and the file's network card.

        Raises:
            ParamsFileError: the file cannot be read, or holds something other than the tensors of a network.
        """

    def write_state(self, path: str, arrays: Mapping[str, np.ndarray], card: Mapping[str, str]) -> None:
        """Write a `.pth` or `.safetensors` file, whole or not at all.

        Raises:
            GluonAFFError: the file cannot be written.
        """

    def logits(self, architecture: Architecture, arrays: Mapping[str, np.ndarray], images: np.ndarray) -> np.ndarray:
        """Return the outputs, (N, ...), of the network with these parameters for images, float32 (N, 3, H, W)."""


class Engine(Catalogue, Protocol):
    """Compute with networks and train them. A module of each framework satisfies this protocol.

    Attributes:
        NAME: name of the framework as logs have it.
        VERSION: version of the framework.
        PROCESS_PER_GPU: whether a process trains on one GPU only, so that several GPUs need several processes.
    """

    NAME: str
    VERSION: str
    PROCESS_PER_GPU: bool

    def find_devices(self, gpus: str, strict: bool = False) -> Tuple[Devices, str]:
        """Return the devices for `--gpus` (comma-separated ids), the CPU if there are no GPUs, and a line for the log.

        Args:
            gpus: the flag's text.
            strict: whether each named GPU has to exist.

        Raises:
            InputError: the text is not a list of ids, or the framework cannot use a GPU that it names.
        """

    def trainable_parameters(self, architecture: Architecture) -> int:
        """Return the number of trainable parameters.

        Raises:
            InputError: the host network cannot take the arguments.
        """

    def count_layers(self, architecture: Architecture, input_size: int) -> List[LayerCount]:
        """Return the counts of each layer for one image, (1, 3, input_size, input_size).

        A layer that is called twice has two entries; the first one counts its parameters.

        Raises:
            InputError: the host network cannot take the arguments, or the image is too small.
        """

    def load_network(
        self, architecture: Architecture, path: str, devices: Devices, dtype: str, allow_not_finite: bool = False
    ) -> Network:
        """Build a network for inference with the parameters of the `.params` file at `path`.

        Args:
            architecture: the network to build.
            path: path of the file.
            devices: devices to put the network on.
            dtype: 'float32', 'float16' or, with PyTorch, 'bfloat16'. BatchNorm stays float32.
            allow_not_finite: whether values that are NaN or infinite are accepted.

        Raises:
            ParamsFileError: the file is damaged, has values that are not finite, or does not fit the network.
        """

    def measure_memory(
        self, architecture: Architecture, batch: int, training: bool, devices: Devices
    ) -> Dict[str, object]:
        """Run a network for a few batches and measure the memory. Call it in a fresh process.

        Args:
            architecture: a classifier.
            batch: number of random images in a batch, of the network's input size.
            training: whether to run forward pass, backward pass and update, instead of inference.
            devices: devices to choose from; the first one is used.

        Returns:
            `device`; `of`, whose memory the figures count; and in MiB `before`, held before the network is built, and
            `peak`. PyTorch adds `saved`, which the forward pass in training keeps for the backward pass besides the
            parameters, and on a GPU `reserved`, the peak that its allocator holds.
        """

    def try_step(self, devices: Devices) -> Dict[str, float]:
        """Train a convolution and a dense layer for one step on the first device.

        Returns:
            `before` and `after`, the loss before and after the step, and `seconds`, its time including all set-up.
        """

    def join_cluster(self, kvstore: str) -> Cluster:
        """Connect to the other workers of the run in the way that `--kvstore` names.

        Raises:
            InputError: the name is unknown, or it needs `gluon-aff launch`, which did not start this process.
        """

    def learner(self, settings: LearnerSettings, devices: Devices, cluster: Cluster) -> Learner:
        """Build a network to train.

        Raises:
            InputError: the settings contradict each other, or a file cannot be used.
        """


class MXNetEngine(Engine, Protocol):
    """Compute with MXNet, which has several builds. A module satisfies this protocol."""

    def about(self) -> Dict[str, Any]:
        """Return MXNet's `version`, the `features` that it was built with, and the path of its native `library`."""


def engine(name: Optional[str] = None) -> Engine:
    """Return the engine that computes with networks and trains them.

    Args:
        name: 'mxnet', 'torch' or 'auto'. 'auto' is MXNet if it works here, otherwise PyTorch. If None, the environment
            variable GLUON_AFF_ENGINE decides; its default is 'auto'.

    Raises:
        NoEngineError: the engine does not work here. The message says what to install, and how.
        InputError: there is no engine of that name.
    """
    name = engine_name(name)
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
    """Return the part of PyTorch's engine that reads and writes weight files.

    Raises:
        NoEngineError: PyTorch is not installed. The message says how to install it.
    """
    return cast(TorchFiles, import_module("gluon_aff.pytorch.state_files"))
