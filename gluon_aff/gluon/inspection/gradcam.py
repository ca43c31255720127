"""Compute a layer's output for an image and its gradient for a class, from which Grad-CAM makes its maps."""

from __future__ import annotations

from typing import Any, List, Optional

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock

from gluon_aff.engines import ClassActivation
from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.gluon.inspection.layers import layer_by_layer, layer_called


def class_activation(net: HybridBlock, image: np.ndarray, layer: str, label: Optional[int] = None) -> ClassActivation:
    """Run `net` in inference mode, and differentiate the logit of a class with respect to a layer's output.

    Args:
        net: initialised network, (N, 3, H, W) -> (N, K), float32, hybridized or not. It does not change.
        image: input of the network, float32 (3, H, W).
        layer: name of the layer, the prefix of its parameters' names, such as `layer4.2.conv3`. If the network uses the
            layer twice, its last output counts.
        label: the class, 0..K-1. If None, the class with the largest logit.

    Raises:
        InputError: the layer or the label is unknown, the layer's output has no spatial positions, or the network has
            no logits.
        GluonAFFError: the layer's output or the gradient is not finite.
    """
    observed = layer_called(net, layer)
    device = next(iter(net.collect_params().values())).list_ctx()[0]
    outputs: List[Any] = []

    def start_here(_: HybridBlock, __: Any, output: Any) -> None:
        if isinstance(output, mx.nd.NDArray):
            output.attach_grad()  # starts a new graph here, so that the gradient stops at this output
        outputs.append(output)

    hook = observed.register_forward_hook(start_here)
    try:
        with layer_by_layer(net), autograd.record(train_mode=False):
            logits = net(mx.nd.array(image[np.newaxis], ctx=device))
    finally:
        hook.detach()
    if not isinstance(logits, mx.nd.NDArray) or logits.ndim != 2:
        raise InputError("the network does not return one vector of logits for an image: Grad-CAM is for classifiers")
    maps = _checked_maps(outputs, layer)
    mx.nd.waitall()
    values = logits.asnumpy()[0]
    label = int(values.argmax()) if label is None else label
    if label not in range(len(values)):
        raise InputError(f"label {label} is not one of the network's, 0 to {len(values) - 1}")
    chosen = mx.nd.zeros_like(logits)
    chosen[0, label] = 1
    (gradient,) = autograd.grad([logits], [maps], [chosen], train_mode=False)
    found = ClassActivation(values, label, maps.asnumpy()[0], gradient.asnumpy()[0])
    if not (np.isfinite(found.maps).all() and np.isfinite(found.gradient).all()):
        raise GluonAFFError(f"the maps of {layer} or their gradient are not finite: look for damaged weights")
    return found


def _checked_maps(outputs: List[Any], layer: str) -> mx.nd.NDArray:
    """Return the layer's last output, (1, C, H, W).

    Raises:
        InputError: there is no output, or its maps have no spatial positions.
    """
    if not outputs or not isinstance(outputs[-1], mx.nd.NDArray) or outputs[-1].ndim != 4:
        raise InputError(f"--layer {layer}: its output is not (N, C, H, W); name a convolution or a stage")
    if outputs[-1].shape[2:] == (1, 1):
        raise InputError(
            f"--layer {layer}: its maps are 1 x 1 and show no positions; name an earlier layer or enlarge images"
        )
    return outputs[-1]
