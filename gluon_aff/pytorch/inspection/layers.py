"""Find the layers of a network by name, and record their outputs."""

from __future__ import annotations

import contextlib
from typing import Iterator, List

from torch import Tensor, nn

from gluon_aff.errors import InputError, unknown_name
from gluon_aff.pytorch.networks.layers import Classifier


def layer_called(net: nn.Module, name: str) -> nn.Module:
    """Return the layer with that name, the prefix of its parameters' names, such as `layer4.2.conv3`.

    Raises:
        InputError: there is no such layer.
    """
    layers = dict(net.named_modules())
    layers.pop("")
    if name not in layers:
        raise unknown_name("layer (--layer)", name, layers)
    return layers[name]


def pooled_layer(net: nn.Module) -> str:
    """Return the name of the layer whose maps are averaged for the head.

    It is the last stage, after its last fusion and ReLU. Stages of pre-activation blocks end in a sum; there it is the
    ReLU that follows them.

    Raises:
        InputError: `net` averages no maps at its end, so it is not a classifier.
    """
    if not isinstance(net, Classifier):
        raise InputError("the network has no global average pool after its maps: name the layer with --layer")
    features = getattr(net, "features", None)
    return "layer4" if features is None else f"features.{len(features) - 1}"


@contextlib.contextmanager
def outputs_of(layer: nn.Module) -> Iterator[List[Tensor]]:
    """Yield a list that collects the layer's outputs. Later layers get copies, since they may work in place."""
    outputs: List[Tensor] = []

    def keep(_: nn.Module, __: object, output: object) -> object:
        if not isinstance(output, Tensor):
            return None
        outputs.append(output)
        return output.clone()

    hook = layer.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        hook.remove()
