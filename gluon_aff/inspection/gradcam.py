"""Grad-CAM: where in an image a network sees a class (paper, Fig. 6; Selvaraju et al., arXiv:1610.02391)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock

from gluon_aff.data.imagenet_images import opencv
from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.inspection.layers import layer_by_layer, layer_called


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


def class_activation(net: HybridBlock, image: np.ndarray, layer: str, label: Optional[int] = None) -> ClassActivation:
    """Run `net` in inference mode and differentiate the logit of a class with respect to a layer's output.

    Args:
        net: (N, 3, H, W) -> (N, K), float32, initialised, hybridized or not; it stays as it is.
        image: its input, float32 (3, H, W).
        layer: name in the network's structure, as its parameters have it, such as `layer4.2.conv3`. Of a layer used
            twice, the last output.
        label: the class, 0..K-1; that of the largest logit if None.

    Raises:
        InputError: for an unknown layer or label, a layer whose output shows no places, or a network without logits.
        GluonAFFError: if the layer's output or the gradient is not finite.
    """
    observed = layer_called(net, layer)
    device = next(iter(net.collect_params().values())).list_ctx()[0]
    outputs: List[Any] = []

    def start_here(_: HybridBlock, __: Any, output: Any) -> None:
        if isinstance(output, mx.nd.NDArray):
            output.attach_grad()  # makes it an input of what follows, and cuts off what led to it
        outputs.append(output)

    hook = observed.register_forward_hook(start_here)
    try:
        with layer_by_layer(net), autograd.record(train_mode=False):
            logits = net(mx.nd.array(image[np.newaxis], ctx=device))
    finally:
        hook.detach()
    if not isinstance(logits, mx.nd.NDArray) or logits.ndim != 2:
        raise InputError("the network has no logits of one class for an image: Grad-CAM is for classifiers")
    maps = _checked_maps(outputs, layer)
    mx.nd.waitall()
    values = logits.asnumpy()[0]
    label = int(values.argmax()) if label is None else label
    if label not in range(len(values)):
        raise InputError(f"label {label} is none of the network's, 0 to {len(values) - 1}")
    chosen = mx.nd.one_hot(mx.nd.array([label], ctx=device), len(values))
    (gradient,) = autograd.grad([logits], [maps], [chosen], train_mode=False)
    found = ClassActivation(values, label, maps.asnumpy()[0], gradient.asnumpy()[0])
    if not (np.isfinite(found.maps).all() and np.isfinite(found.gradient).all()):
        raise GluonAFFError(f"the maps of {layer} or their gradient are not finite: look for damaged weights")
    return found


def heat_map(activation: ClassActivation, tutorial: bool = False) -> np.ndarray:
    """ReLU of the sum of the maps, each weighted with the spatial mean of its gradient: float64 (h, w), from 0.

    With `tutorial` 1 is added before the ReLU, as in MXNet's tutorial, which the paper's authors say they used: only
    what is below -1 is cut off.
    """
    weights = activation.gradient.astype(np.float64).mean(axis=(1, 2))
    weighted = np.tensordot(weights, activation.maps.astype(np.float64), axes=1)
    return np.maximum(weighted + (1 if tutorial else 0), 0)


def resized_heat_map(heat: np.ndarray, height: int, width: int, tutorial: bool = False) -> np.ndarray:
    """`heat_map`'s values from the least, 0, to the largest, 1, in an image's size, bilinear: float32 (height, width).

    Where all are equal, 0. With `tutorial` in 256 steps.
    """
    span = heat.max() - heat.min()
    scaled = (heat - heat.min()) / span if span > 0 else np.zeros_like(heat)
    if tutorial:
        return opencv().resize((255 * scaled).astype(np.uint8), (width, height)).astype(np.float32) / 255
    return opencv().resize(scaled.astype(np.float32), (width, height))


def overlay(pixels: np.ndarray, heat: np.ndarray, tutorial: bool = False) -> np.ndarray:
    """An image under its heat map in colours, from blue (0) to red (1), half and half: uint8 (H, W, 3).

    Args:
        pixels: uint8 (H, W, 3).
        heat: 0..1, (H, W).
        tutorial: from cyan (0) to magenta (1), added to the image and divided by the largest sum.
    """
    cv2 = opencv()
    levels = np.rint(255 * heat).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_COOL if tutorial else cv2.COLORMAP_JET)[..., ::-1]
    both = colours.astype(np.float32) + pixels
    return (both / both.max() * 255).astype(np.uint8) if tutorial else np.rint(both / 2).astype(np.uint8)


def _checked_maps(outputs: List[Any], layer: str) -> mx.nd.NDArray:
    """The last of a layer's outputs.

    Raises:
        InputError: there is none, or it has no places.
    """
    if not outputs or not isinstance(outputs[-1], mx.nd.NDArray) or outputs[-1].ndim != 4:
        raise InputError(f"--layer {layer}: its output is no maps, (N, C, H, W); name a convolution or a stage")
    if outputs[-1].shape[2:] == (1, 1):
        raise InputError(
            f"--layer {layer}: its maps are 1 x 1 and show no place; name an earlier one or enlarge images"
        )
    return outputs[-1]
