"""What a layer does for a class, of which Grad-CAM makes its maps."""

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
