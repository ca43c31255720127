"""Implement `gluon_aff.engines.Network` for PyTorch networks."""

from __future__ import annotations

import copy
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np
import torch

from gluon_aff.engines import Awaited, Channels, ClassActivation, Devices, Infer, Network
from gluon_aff.models import Architecture
from gluon_aff.pytorch.devices import arriving, check_bfloat16, on_device, torch_devices
from gluon_aff.pytorch.folding import faster_on_cpu
from gluon_aff.pytorch.inspection.gradcam import class_activation
from gluon_aff.pytorch.inspection.layers import layer_called, pooled_layer
from gluon_aff.pytorch.inspection.selectivity import channel_sums
from gluon_aff.pytorch.networks.zoo import DTYPES, build
from gluon_aff.pytorch.onnx_file import onnx_model
from gluon_aff.pytorch.parameters import cast, load_params, parameter_arrays


class TorchNetwork:
    """Run a PyTorch network on its devices.

    Args:
        nets: a copy of the network on each device, in inference mode. Each takes an equal slice of a batch, or nearly
            equal.
        mixed: type for mixed precision, in which convolutions and dense layers compute. None for no mixed precision.
    """

    def __init__(self, nets: List[torch.nn.Module], mixed: Optional[torch.dtype] = None) -> None:
        self.nets = nets
        self.mixed = mixed

    def infer(self, images: np.ndarray) -> Awaited:
        """Start to compute the outputs for images, float32 (N, 3, H, W); the returned function waits for them."""
        outputs = []
        with torch.inference_mode():
            for net, part in zip(self.nets, np.array_split(images, min(len(images), len(self.nets)))):
                x = on_device(part, net)
                with torch.autocast(x.device.type, self.mixed, enabled=self.mixed is not None):
                    outputs.append(arriving(net(x).float()))
        return lambda: np.concatenate([output().numpy() for output in outputs])

    def for_many_images(self) -> Infer:
        """Return what infers with a folded copy of the network, on a CPU; on a GPU, `infer` itself."""
        if self.mixed or any(each.is_cuda for net in self.nets for each in net.parameters()):
            return self.infer
        return TorchNetwork([faster_on_cpu(net) for net in self.nets]).infer

    def parameters(self) -> Dict[str, np.ndarray]:
        """Return the parameters by name."""
        return parameter_arrays(self.nets[0])

    def check_layer(self, name: str) -> None:
        """Raise InputError if the layer does not exist."""
        layer_called(self.nets[0], name)

    def pooled_layer(self) -> str:
        """Return the name of the layer whose maps are averaged for the head."""
        return pooled_layer(self.nets[0])

    def activation(self, image: np.ndarray, layer: str, label: Optional[int] = None) -> ClassActivation:
        """Return a layer's output for an image, float32 (3, H, W), and the gradient of a class's logit."""
        return class_activation(self.nets[0], image, layer, label)

    def channel_sums(
        self,
        channels: Channels,
        batches: Iterable[Tuple[np.ndarray, np.ndarray]],
        classes: int,
        advance: Callable[[int], object],
    ) -> Tuple[np.ndarray, float]:
        """Return the sums of the channels' spatial means for each class, float64 (classes, C), and the lowest value."""
        return channel_sums(self.nets[0], channels, batches, classes, advance)

    def onnx_model(self, input_size: int, outputs: int, properties: Mapping[str, str]) -> bytes:
        """Return the content of an ONNX file of the network; PyTorch does not need `outputs`."""
        return onnx_model(self.nets[0], input_size, properties)


def load_network(
    architecture: Architecture, path: str, devices: Devices, dtype: str, allow_not_finite: bool = False
) -> Network:
    """Build a network for inference, as `gluon_aff.engines.Engine.load_network` says."""
    on = torch_devices(devices)
    if dtype == "bfloat16":
        check_bfloat16(on[0])
    net = build(architecture).eval()
    load_params(net, path, allow_not_finite=allow_not_finite)
    cast(net, DTYPES[dtype])
    return TorchNetwork([copy.deepcopy(net).to(device) for device in on])
