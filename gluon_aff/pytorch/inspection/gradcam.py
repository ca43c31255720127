"""Compute a layer's output for an image and its gradient for a class, from which Grad-CAM makes its maps."""

from __future__ import annotations

from typing import List, Optional

import numpy as np
import torch
from torch import Tensor, nn

from gluon_aff.engines import ClassActivation
from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.pytorch.devices import on_device
from gluon_aff.pytorch.inspection.layers import layer_called, outputs_of


def class_activation(net: nn.Module, image: np.ndarray, layer: str, label: Optional[int] = None) -> ClassActivation:
    """Infer an image with `net`, in inference mode, and differentiate; see `gluon_aff.engines.Network.activation`."""
    observed = layer_called(net, layer)
    with outputs_of(observed) as outputs:
        logits = net(on_device(image[np.newaxis], net))
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise InputError("the network does not return one vector of logits for an image: Grad-CAM is for classifiers")
    maps = _checked_maps(outputs, layer)
    values = logits.detach()[0].float().cpu().numpy()
    label = int(values.argmax()) if label is None else label
    if label not in range(len(values)):
        raise InputError(f"label {label} is not one of the network's, 0 to {len(values) - 1}")
    (gradient,) = torch.autograd.grad(logits[0, label], maps)
    found = ClassActivation(values, label, _as_array(maps), _as_array(gradient))
    if not (np.isfinite(found.maps).all() and np.isfinite(found.gradient).all()):
        raise GluonAFFError(f"the maps of {layer} or their gradient are not finite: look for damaged weights")
    return found


def _as_array(maps: Tensor) -> np.ndarray:
    return maps.detach()[0].float().cpu().numpy()


def _checked_maps(outputs: List[Tensor], layer: str) -> Tensor:
    """Return the layer's last output, (1, C, H, W).

    Raises:
        InputError: there is no output, or its maps have no spatial positions.
    """
    if not outputs or outputs[-1].dim() != 4:
        raise InputError(f"--layer {layer}: its output is not (N, C, H, W); name a convolution or a stage")
    if outputs[-1].shape[2:] == (1, 1):
        raise InputError(
            f"--layer {layer}: its maps are 1 x 1 and show no positions; name an earlier layer or enlarge images"
        )
    return outputs[-1]
