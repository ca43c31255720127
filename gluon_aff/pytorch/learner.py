"""Train networks with PyTorch (`gluon_aff.engines.Learner`)."""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib import util
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gluon_aff.engines import Devices, LearnerSettings, LearnerState, Network, Pixels, StepFigures
from gluon_aff.errors import InputError
from gluon_aff.models import Architecture
from gluon_aff.pytorch.cluster import TorchCluster
from gluon_aff.pytorch.devices import arriving, check_bfloat16, normalised, sent, torch_devices
from gluon_aff.pytorch.network import TorchNetwork
from gluon_aff.pytorch.networks.layers import ImageNorm, initialise
from gluon_aff.pytorch.networks.zoo import build
from gluon_aff.pytorch.objectives import Task, task_of
from gluon_aff.pytorch.optimizer_states import load_states, save_states
from gluon_aff.pytorch.optimizers import HISTORY, MOMENTUM, make_optimizer
from gluon_aff.pytorch.parameters import load_arrays, load_params, parameter_arrays, parameter_names
from gluon_aff.schedule import Schedule
from gluon_aff.weights.optimizer_states import named_arrays

MIXED = {"float16": torch.float16, "bfloat16": torch.bfloat16}
LOSS_SCALE = ":loss_scale"  # key next to the optimizer's arrays in a checkpoint; no parameter has such a name


def learner(settings: LearnerSettings, devices: Devices, cluster: TorchCluster) -> TorchLearner:
    """Build a network to train on one device.

    Raises:
        InputError: the settings contradict each other, or a file cannot be used.
    """
    (device,) = torch_devices(devices)
    mixed = settings.amp or (settings.dtype if settings.dtype in MIXED else None)
    if mixed == "float16" and device.type == "cpu":
        raise InputError("float16 needs a GPU: on a CPU train in float32, or with --amp bfloat16 if it has that")
    if mixed == "bfloat16":
        check_bfloat16(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dtype = torch.float64 if settings.dtype == "float64" else torch.float32
    task = task_of(settings.objective, device, dtype)
    net = _initialised(settings, device, dtype, cluster)
    made = TorchLearner(net, settings, task, device, cluster, None if mixed is None else MIXED[mixed])
    if settings.start.states:
        made.load_states(settings.start.states)
    if settings.start.updates is not None:
        made.updates = settings.start.updates
    return made


class TorchLearner:
    """Train a network on one device.

    In mixed precision, convolutions and dense layers compute in float16 or bfloat16, but the weights stay float32. With
    `--dtype float16` they are written to files as float16, and as float32 in the optimizer's states, as MXNet does.

    Args:
        net: network, on its device.
        settings: settings of the recipe.
        task: targets, loss and metric.
        device: device of the network.
        cluster: the workers. Each has its share of every batch, and figures are means over them.
        mixed: type for mixed precision. None for no mixed precision.
    """

    notes: Sequence[str]
    takes_pixels: bool

    def __init__(
        self,
        net: nn.Module,
        settings: LearnerSettings,
        task: Task,
        device: torch.device,
        cluster: TorchCluster,
        mixed: Optional[torch.dtype],
    ) -> None:
        self.net = net
        self.takes_pixels = device.type == "cuda"
        self.updates = 0
        self.notes = _notes(settings, device, mixed)
        self._settings = settings
        self._task = task
        self._device = device
        self._cluster = cluster
        self._mixed = mixed
        self._rate = settings.optimizer.rate
        self._trained = _trained_parameters(net)
        self._optimizer = make_optimizer(settings.optimizer, self._trained)
        self._scaler = torch.amp.GradScaler(device.type, enabled=mixed == torch.float16)
        self._model = self._parallel(self._compiled(net))

    @property
    def learning_rate(self) -> float:
        """Return the learning rate of the last step."""
        return self._rate.rate(self.updates) if isinstance(self._rate, Schedule) else float(self._rate)

    def set_learning_rate(self, rate: float) -> None:
        """Train with the learning rate `rate` from now on; not allowed if there is a schedule."""
        self._rate = rate

    def seed(self, seed: int) -> None:
        """Seed PyTorch's random numbers, which dropout draws from."""
        torch.manual_seed(seed)

    def step(
        self, images: Union[np.ndarray, Pixels], labels: np.ndarray, mixup_weight: float, asked_to_stop: bool
    ) -> Callable[[], StepFigures]:
        """Update the weights once, and return a function that waits for the figures."""
        if not self.net.training:
            self.net.train()
        y = sent(labels, self._device)
        x, target = self._task.pair(self._sent(images), y, mixup_weight)
        x = self._laid_out(x.to(self._dtype))
        with self._autocast():
            output = self._model(x)
        output = output.to(self._dtype)
        target = target.to(self._dtype) if target.is_floating_point() else target
        loss = self._task.loss(output, target, x)
        self._optimizer.zero_grad()
        # Divide by the images of this worker, since gradients are averaged over the workers. The single loss of
        # segmentation is divided by the number of images too, as MXNet's trainer does.
        self._scaler.scale(loss.sum() / len(images)).backward()
        self._update()
        with torch.no_grad():
            metric = self._task.metric(output.detach(), target, y)
            figures = torch.stack([metric, loss.mean(), torch.full_like(metric, float(asked_to_stop))]).float()
        awaited = self._cluster.total(figures)
        if figures.is_cuda:  # here the GPU waits for the sum, and this process does not
            awaited = arriving(awaited())
        return lambda: _figures(awaited(), self._cluster.size)

    def end_epoch(self) -> bool:
        """Give all workers the mean of their running statistics, and return whether all weights are finite."""
        arrays = [tensor for tensor in self.net.state_dict().values() if tensor.is_floating_point()]
        finite = torch.stack([torch.isfinite(tensor).all() for tensor in arrays]).all()
        self._average_running_statistics()
        return bool(finite)

    def validated(self) -> Network:
        """Return the network itself for validation, which has the current parameters until the next step."""
        return TorchNetwork([self.net.eval()], self._mixed)

    def parameters(self) -> Dict[str, np.ndarray]:
        """Return the current parameters by name."""
        arrays = parameter_arrays(self.net)
        return {**arrays, **{name: arrays[name].astype(np.float16) for name in self._halved()}}

    def state(self) -> LearnerState:
        """Return everything that a checkpoint needs."""
        arrays = self._optimizer_arrays()
        if self._scaler.is_enabled():
            state = self._scaler.state_dict()
            arrays[LOSS_SCALE] = np.array([state["scale"], state["_growth_tracker"]], np.float32)
        return LearnerState(self.parameters(), {}, arrays, self.updates)

    def restore(self, state: LearnerState, source: str) -> None:
        """Continue from a `state` that `state()` returned; call this before the first step.

        Args:
            state: the state.
            source: name of the checkpoint for error messages.

        Raises:
            InputError: the state does not fit the network.
            KeyError: an array that the optimizer needs is missing.
        """
        load_arrays(self.net, state.parameters, source)
        self._set_optimizer_arrays(state.optimizer)
        self.updates = state.updates
        if self._scaler.is_enabled() and LOSS_SCALE in state.optimizer:
            scale, tracker = state.optimizer[LOSS_SCALE].tolist()
            self._scaler.load_state_dict({**self._scaler.state_dict(), "scale": scale, "_growth_tracker": int(tracker)})

    def save_states(self, path: str) -> None:
        """Write the `.states` file, whole or not at all.

        Raises:
            GluonAFFError: the file cannot be written.
        """
        batch = self._settings.batch_shape[0] * self._cluster.size
        arrays = self._optimizer_arrays()
        save_states(path, self.net, self._settings.optimizer, arrays, self.updates, batch, bool(self._halved()))

    def load_states(self, path: str) -> None:
        """Load momentum, float32 weights and the number of updates from a `.states` file.

        Raises:
            InputError: the file is damaged, or does not fit the network or the optimizer.
        """
        arrays, self.updates = load_states(path, self.net, self._settings.optimizer, bool(self._halved()))
        self._set_optimizer_arrays(arrays)

    @property
    def _kept(self) -> Optional[str]:
        """Return the name of what the optimizer keeps for each parameter, or None if it keeps nothing."""
        if self._settings.optimizer.name == "adagrad":
            return HISTORY
        return MOMENTUM if self._settings.optimizer.momentum else None

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.net.parameters()).dtype

    def _sent(self, images: Union[np.ndarray, Pixels]) -> torch.Tensor:
        return normalised(images, self._device) if isinstance(images, Pixels) else sent(images, self._device)

    def _laid_out(self, images: torch.Tensor) -> torch.Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self._device.type == "cuda" else images

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, self._mixed, enabled=self._mixed is not None)

    def _update(self) -> None:
        self.updates += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def _compiled(self, net: nn.Module) -> nn.Module:
        """Return the network as a compiled graph on a GPU. On a CPU compilation takes longer than it saves."""
        if not self._settings.compiled or self._device.type == "cpu" or _no_triton():
            return net
        return torch.compile(net)  # type: ignore[return-value]

    def _parallel(self, net: nn.Module) -> nn.Module:
        if self._cluster.size == 1:
            return net
        ids = [self._device.index] if self._device.type == "cuda" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer versions rename broadcast_buffers
            return DistributedDataParallel(net, ids, broadcast_buffers=False, gradient_as_bucket_view=True)

    def _average_running_statistics(self) -> None:
        state = self.net.state_dict()
        names = [name for name, each in self.net.named_parameters() if not each.requires_grad]
        names += [name for name, each in self.net.named_buffers() if each.is_floating_point()]
        if not names:
            return
        flat = torch.cat([state[name].reshape(-1) for name in names])
        mean = self._cluster.total(flat)() / self._cluster.size
        for name, part in zip(names, mean.split([state[name].numel() for name in names])):
            state[name].copy_(part.reshape(state[name].shape))

    def _halved(self) -> List[str]:
        """Return the parameters that are float16 in files: convolutions and dense layers, with `--dtype float16`."""
        if self._settings.dtype != "float16":
            return []
        names = parameter_names(self.net)
        layers = [name for name, layer in self.net.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
        return [names[key] for key in names if key.rpartition(".")[0] in set(layers)]

    def _optimizer_arrays(self) -> Dict[str, np.ndarray]:
        """Return `LearnerState.optimizer`: momentum, and float32 weights of parameters that are float16 in files."""
        arrays: Dict[str, torch.Tensor] = {}
        for name, state in self._optimizer_states().items() if self.updates else ():
            arrays.update(named_arrays(name, state))
        return {name: array.detach().cpu().numpy().copy() for name, array in arrays.items()}

    @torch.no_grad()
    def _set_optimizer_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        for name, state in self._optimizer_states().items() if arrays else ():
            for key, kept in named_arrays(name, state).items():
                kept.copy_(torch.from_numpy(np.array(arrays[key])))

    def _optimizer_states(self) -> Dict[str, Any]:
        """Return the trained parameters' states as in `.states` files, in tensors of the optimizer and the network."""
        halved = set(self._halved())
        kept: List[Any] = [None] * len(self._trained)
        if self._kept:  # zeros before the first step, and as long as each step overflowed in float16 and was skipped
            kept = self._optimizer.kept(self._kept, list(self._trained.values()))
        return {
            name: (momentum, parameter) if name in halved else momentum
            for (name, parameter), momentum in zip(self._trained.items(), kept)
        }


def _notes(settings: LearnerSettings, device: torch.device, mixed: Optional[torch.dtype]) -> List[str]:
    notes = []
    if not settings.start.params:
        notes.append(
            "with the same --seed, PyTorch draws other initial weights than MXNet, from the same distributions"
        )
    if mixed is not None:
        notes.append(f"mixed precision: convolutions and dense layers compute in {str(mixed).partition('.')[2]}")
    elif device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        notes.append("float32 convolutions compute in TF32; NVIDIA_TF32_OVERRIDE=0 gives full precision")
    if settings.compiled and device.type != "cpu" and _no_triton():
        notes.append("the network is not compiled: torch.compile needs Triton, which is not installed")
    return notes


def _no_triton() -> bool:
    return util.find_spec("triton") is None


def _initialised(
    settings: LearnerSettings, device: torch.device, dtype: torch.dtype, cluster: TorchCluster
) -> nn.Module:
    architecture = _synchronised(settings, device, cluster)
    _check_shape(architecture, settings.batch_shape)
    torch.manual_seed(settings.seed)
    net = build(architecture)
    if settings.initializer != "xavier":
        initialise(net, settings.initializer)
    if settings.start.params:
        load_params(net, settings.start.params, ignore_extra=settings.start.ignore_extra)
    for layer in net.modules():
        if isinstance(layer, ImageNorm):
            nn.init.ones_(layer.weight)  # a training step in MXNet sets this value, whatever the file has
    net.to(device, dtype)
    if device.type == "cuda":
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def _check_shape(architecture: Architecture, shape: Tuple[int, ...]) -> None:
    """Raise InputError if the network cannot train on batches of that shape; nothing is computed."""
    if shape[0] > 1:  # only one image can be too few; the meta device takes PyTorch a second to import
        return
    with torch.device("meta"):
        net, images = build(architecture), torch.zeros(shape)
    try:
        net(images)
    except ValueError:  # raised by BatchNorm
        raise InputError(
            f"--batch-size {shape[0]}: PyTorch's BatchNorm cannot train on a single value for each channel, as in "
            "this network's pooled maps: take 2 or more, or --engine mxnet"
        ) from None


def _synchronised(settings: LearnerSettings, device: torch.device, cluster: TorchCluster) -> Architecture:
    """Return the architecture, with batch statistics over all workers if the settings say so."""
    architecture = settings.architecture
    if not settings.sync_bn or cluster.size == 1:
        return architecture
    if device.type == "cpu":
        raise InputError("--sync-bn: PyTorch's SyncBatchNorm works on GPUs only: train on GPUs, or without it")
    return replace(architecture, settings={**architecture.settings, "norm_layer": nn.SyncBatchNorm})


def _trained_parameters(net: nn.Module) -> Dict[str, nn.Parameter]:
    """Return the parameters with a gradient, by their names in `.params` files."""
    parameters: Dict[str, Any] = dict(net.named_parameters())
    names = parameter_names(net)
    return {names[key]: each for key, each in parameters.items() if each.requires_grad}


def _figures(sums: torch.Tensor, workers: int) -> StepFigures:
    metric, loss, asked_to_stop = (sums / workers).tolist()
    return StepFigures(metric, loss, asked_to_stop > 0)
