"""Layers of a network by name, and what they give."""

from __future__ import annotations

import contextlib
from typing import Iterator, List

from torch import Tensor, nn

from gluon_aff.errors import InputError, unknown_name
from gluon_aff.pytorch.networks.layers import Classifier


def layer_called(net: nn.Module, name: str) -> nn.Module:
    """The layer with the name that its parameters have, such as `layer4.2.conv3`.

    Raises:
        InputError: there is none.
    """
    layers = dict(net.named_modules())
    layers.pop("")
    if name not in layers:
        raise unknown_name("layer (--layer)", name, layers)
    return layers[name]


def pooled_layer(net: nn.Module) -> str:
    """Name of the layer whose maps are averaged for the head.

    Raises:
        InputError: `net` averages no maps at its end, as a classifier does.
    """
    if not isinstance(net, Classifier):
        raise InputError("the network has no global average pool behind its maps: name the layer with --layer")
    features = getattr(net, "features", None)
    return "layer4" if features is None else f"features.{len(features) - 1}"


@contextlib.contextmanager
def outputs_of(layer: nn.Module) -> Iterator[List[Tensor]]:
    """A list that the layer's outputs are added to; what follows gets copies, since it may work in place."""
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
