"""Find the layers of a network by name, and run it so that their outputs can be seen."""

from __future__ import annotations

import contextlib
from typing import Iterator, Tuple

from mxnet.gluon import HybridBlock, nn

from gluon_aff.errors import InputError, unknown_name
from gluon_aff.gluon.fusion.context import GlobalAveragePool


def named_layers(block: HybridBlock, prefix: str = "") -> Iterator[Tuple[str, HybridBlock]]:
    """Yield every layer of `block`, outer ones first, by its name, such as `layer4.2.conv3`.

    The name is the prefix of the names of the layer's parameters.
    """
    for name, child in block._children.items():
        yield prefix + name, child
        yield from named_layers(child, f"{prefix}{name}.")


def layer_called(net: HybridBlock, name: str) -> HybridBlock:
    """Return the layer with that name.

    Raises:
        InputError: there is no such layer.
    """
    layers = dict(named_layers(net))
    if name not in layers:
        raise unknown_name("layer (--layer)", name, layers)
    return layers[name]


def pooled_layer(net: HybridBlock) -> str:
    """Return the name of the layer whose maps are averaged for the head.

    It is the last stage, after its last fusion and ReLU. Stages of pre-activation blocks end in a sum; there it is the
    ReLU that follows them.

    Raises:
        InputError: `net` averages no maps at its end, so it is not a classifier.
    """
    in_features = "features" in net._children
    layers = (net.features if in_features else net)._children
    pools = [i for i, layer in enumerate(layers.values()) if isinstance(layer, (GlobalAveragePool, nn.GlobalAvgPool2D))]
    if not pools or not pools[-1]:
        raise InputError("the network has no global average pool after its maps: name the layer with --layer")
    return ("features." if in_features else "") + list(layers)[pools[-1] - 1]


@contextlib.contextmanager
def layer_by_layer(net: HybridBlock) -> Iterator[None]:
    """Run hybridized blocks imperatively, so that hooks see arrays. The blocks keep their graphs."""
    hybridized = [block for block in (net, *(layer for _, layer in named_layers(net))) if block._active]
    for block in hybridized:
        block._active = False
    try:
        yield
    finally:
        for block in hybridized:
            block._active = True
