"""Networks as the package uses them (`gluon_aff.engines.Network`)."""

from __future__ import annotations

import copy
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np
import torch

from gluon_aff.engines import Awaited, Channels, ClassActivation, Devices, Infer, Network
from gluon_aff.models import Architecture
from gluon_aff.pytorch.devices import check_bfloat16, on_device, torch_devices
from gluon_aff.pytorch.inspection.gradcam import class_activation
from gluon_aff.pytorch.inspection.layers import layer_called, pooled_layer
from gluon_aff.pytorch.inspection.selectivity import channel_sums
from gluon_aff.pytorch.networks.zoo import DTYPES, build
from gluon_aff.pytorch.onnx_file import onnx_model
from gluon_aff.pytorch.parameters import cast, load_params, parameter_arrays


class TorchNetwork:
    """A PyTorch network on its devices.

    Args:
        nets: the network on each device, in inference mode; each takes an equal slice of a batch, or nearly.
        mixed: type of mixed precision, in which convolutions and dense layers compute; None for none.
    """

    def __init__(self, nets: List[torch.nn.Module], mixed: Optional[torch.dtype] = None) -> None:
        self.nets = nets
        self.mixed = mixed

    def infer(self, images: np.ndarray) -> Awaited:
        """Start on images; a GPU computes while the caller goes on."""
        outputs = []
        with torch.inference_mode():
            for net, part in zip(self.nets, np.array_split(images, min(len(images), len(self.nets)))):
                x = on_device(part, net)
                with torch.autocast(x.device.type, self.mixed, enabled=self.mixed is not None):
                    outputs.append(net(x).float())
        return lambda: np.concatenate([output.cpu().numpy() for output in outputs])

    def for_many_images(self) -> Infer:
        """The same: PyTorch has nothing faster on a CPU that is set up in a fraction of a second."""
        return self.infer

    def parameters(self) -> Dict[str, np.ndarray]:
        """Values by name."""
        return parameter_arrays(self.nets[0])

    def check_layer(self, name: str) -> None:
        """Raise InputError if there is no such layer."""
        layer_called(self.nets[0], name)

    def pooled_layer(self) -> str:
        """Name of the layer whose maps are averaged for the head."""
        return pooled_layer(self.nets[0])

    def activation(self, image: np.ndarray, layer: str, label: Optional[int] = None) -> ClassActivation:
        """What a layer does for a class."""
        return class_activation(self.nets[0], image, layer, label)

    def channel_sums(
        self,
        channels: Channels,
        batches: Iterable[Tuple[np.ndarray, np.ndarray]],
        classes: int,
        advance: Callable[[int], object],
    ) -> Tuple[np.ndarray, float]:
        """What channels give for each class."""
        return channel_sums(self.nets[0], channels, batches, classes, advance)

    def onnx_model(self, input_size: int, outputs: int, properties: Mapping[str, str]) -> bytes:
        """The content of an ONNX file, which PyTorch can make without being told `outputs`."""
        return onnx_model(self.nets[0], input_size, properties)


def load_network(
    architecture: Architecture, path: str, devices: Devices, dtype: str, allow_not_finite: bool = False
) -> Network:
    """`gluon_aff.engines.Engine.load_network`."""
    on = torch_devices(devices)
    if dtype == "bfloat16":
        check_bfloat16(on[0])
    net = build(architecture).eval()
    load_params(net, path, allow_not_finite=allow_not_finite)
    cast(net, DTYPES[dtype])
    return TorchNetwork([copy.deepcopy(net).to(device) for device in on])
