"""Implement `gluon_aff.engines.Network` for Gluon networks."""

from __future__ import annotations

from typing import Callable, Dict, Iterable, List, Mapping, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from gluon_aff.engines import Awaited, Channels, ClassActivation, Devices, Infer, Logits, SymbolNetwork
from gluon_aff.gluon.devices import contexts_of
from gluon_aff.gluon.export.onnx_file import onnx_model
from gluon_aff.gluon.export.symbol_files import save_symbol
from gluon_aff.gluon.inference import fused, inference
from gluon_aff.gluon.inspection.gradcam import class_activation
from gluon_aff.gluon.inspection.layers import layer_called, pooled_layer
from gluon_aff.gluon.inspection.selectivity import channel_sums
from gluon_aff.gluon.networks.zoo import build
from gluon_aff.gluon.parameters import load_parameters, parameter_arrays
from gluon_aff.models import Architecture


class GluonNetwork:
    """Run a Gluon network on its devices.

    Args:
        net: initialised network, (N, 3, H, W) -> (N, ...), of any floating-point type, which it keeps.
        contexts: the network's devices. Each takes an equal slice of a batch, or nearly equal.
    """

    def __init__(self, net: HybridBlock, contexts: List[mx.Context]) -> None:
        self.net, self.contexts = net, contexts
        self._infer = inference(net, contexts)

    def infer(self, images: np.ndarray) -> Awaited:
        """Start to compute the outputs for images, float32 (N, 3, H, W); the returned function waits for them."""
        return self._infer(images)

    def for_many_images(self) -> Infer:
        """Return an `infer` that runs fused layers if the only device is the CPU, and otherwise `infer` itself."""
        cpu = [mx.cpu()]
        return inference(fused(self.net), cpu) if self.contexts == cpu else self._infer

    def parameters(self) -> Dict[str, np.ndarray]:
        """Return the parameters by name, averaged over the devices."""
        return parameter_arrays(self.net)

    def check_layer(self, name: str) -> None:
        """Raise InputError if the layer does not exist."""
        layer_called(self.net, name)

    def pooled_layer(self) -> str:
        """Return the name of the layer whose maps are averaged for the head."""
        return pooled_layer(self.net)

    def activation(self, image: np.ndarray, layer: str, label: Optional[int] = None) -> ClassActivation:
        """Return a layer's output for an image, float32 (3, H, W), and the gradient of a class's logit."""
        return class_activation(self.net, image, layer, label)

    def channel_sums(
        self,
        channels: Channels,
        batches: Iterable[Tuple[np.ndarray, np.ndarray]],
        classes: int,
        advance: Callable[[int], object],
    ) -> Tuple[np.ndarray, float]:
        """Return the sums of the channels' spatial means for each class, float64 (classes, C), and the lowest value."""
        return channel_sums(self.net, self.contexts, channels, batches, classes, advance)

    def onnx_model(self, input_size: int, outputs: int, properties: Mapping[str, str]) -> bytes:
        """Return the content of an ONNX file of the network."""
        return onnx_model(self.net, input_size, outputs, properties)

    def save_symbol(self, symbol: str, parameters: str) -> Logits:
        """Write MXNet's symbol and parameter files, and return a function that computes logits from them."""
        return save_symbol(self.net, symbol, parameters)


def load_network(
    architecture: Architecture, path: str, devices: Devices, dtype: str, allow_not_finite: bool = False
) -> SymbolNetwork:
    """Build a network for inference, as `gluon_aff.engines.Engine.load_network` says."""
    net, contexts = build(architecture), contexts_of(devices)
    net.cast(dtype)
    load_parameters(net, path, contexts, allow_not_finite=allow_not_finite)
    net.hybridize(static_alloc=True)
    return GluonNetwork(net, contexts)
