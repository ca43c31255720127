"""Layers of a network, with their parameters and multiply-adds."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, nn

from gluon_aff.engines import LayerCount
from gluon_aff.errors import InputError, last_line
from gluon_aff.gluon.fusion.context import GlobalAveragePool
from gluon_aff.gluon.inspection.layers import named_layers
from gluon_aff.gluon.networks.zoo import build
from gluon_aff.gluon.parameters import raw_names_of
from gluon_aff.models import SMALLEST_SIZE, Architecture

PROBE_SIZE = 64  # parameters are as many at any size


@contextlib.contextmanager
def refusing_small_images(input_size: int) -> Iterator[None]:
    """Say that images of that side are too small where MXNet cannot compute shapes of them; raise InputError."""
    try:
        yield
    except (ValueError, mx.MXNetError):
        if input_size >= SMALLEST_SIZE:
            raise
        raise InputError(
            f"--input-size {input_size} is too small for this network: take {SMALLEST_SIZE} or more"
        ) from None


def count_layers(architecture: Architecture, input_size: int) -> List[LayerCount]:
    """`gluon_aff.engines.Engine.count_layers`."""
    net = build(architecture)
    net.initialize()
    return layer_counts(net, input_size)


def layer_counts(net: HybridBlock, input_size: int) -> List[LayerCount]:
    """Run one (1, 3, input_size, input_size) image through `net`, initialised and not hybridized, and count.

    Raises:
        InputError: if the image is too small.
    """
    counts: List[LayerCount] = []
    handles = [
        layer.register_forward_hook(_recorder(name, counts))
        for name, layer in named_layers(net)
        if isinstance(layer, (nn.Conv2D, nn.Dense, GlobalAveragePool)) or layer._reg_params
    ]
    try:
        with refusing_small_images(input_size):
            net(mx.nd.zeros((1, 3, input_size, input_size)))
    finally:
        for handle in handles:
            handle.detach()
    return counts


def parameter_shapes(architecture: Architecture) -> Dict[str, Tuple[int, ...]]:
    """`gluon_aff.engines.Engine.parameter_shapes`."""
    try:
        parameters = build(architecture)._collect_params_with_prefix()
    except (mx.MXNetError, ZeroDivisionError) as error:
        raise InputError(f"{architecture.name}: no network has these arguments ({last_line(error)})") from None
    return {name: parameter.shape for name, parameter in parameters.items()}


def raw_names(architecture: Architecture) -> Dict[str, str]:
    """`gluon_aff.engines.Engine.raw_names`."""
    return raw_names_of(build(architecture))


def trainable_parameters(architecture: Architecture) -> int:
    """`gluon_aff.engines.Engine.trainable_parameters`."""
    net = build(architecture)
    net.infer_shape(mx.nd.zeros((1, 3, PROBE_SIZE, PROBE_SIZE)))
    return sum(int(np.prod(p.shape)) for p in net.collect_params().values() if p.grad_req != "null")


def _recorder(name: str, counts: List[LayerCount]) -> Any:
    def record(layer: HybridBlock, inputs: Any, output: mx.nd.NDArray) -> None:
        own = {} if any(count.name == name for count in counts) else layer._reg_params
        sizes = [(int(np.prod(p.shape)), p.grad_req != "null") for p in own.values()]
        counts.append(
            LayerCount(
                name,
                type(layer).__name__,
                output.shape,
                sum(size for size, trains in sizes if trains),
                sum(size for size, trains in sizes if not trains),
                *_count_operations(layer, output.shape),
                _count_as_thop(layer, inputs[0].shape, output.shape),
            )
        )

    return record


def _count_operations(layer: HybridBlock, output_shape: Tuple[int, ...]) -> Tuple[int, int]:
    """Multiply-adds and the original's count (utils/flops.py there).

    The latter divides convolutions by their groups although the weight's shape is per group already, adds biases, and
    counts dense layers twice over.
    """
    if isinstance(layer, nn.Conv2D):
        positions = output_shape[2] * output_shape[3]
        weights = int(np.prod(layer.weight.shape))
        biases = layer.bias.shape[0] if layer.bias is not None else 0
        return positions * weights, positions * (weights // layer._kwargs["num_group"] + biases)
    if isinstance(layer, nn.Dense):
        units, inputs = layer.weight.shape
        vectors = int(np.prod(output_shape[:-1]))
        return vectors * units * inputs, 2 * units * inputs - inputs + units
    return 0, 0


def _count_as_thop(layer: HybridBlock, input_shape: Tuple[int, ...], output_shape: Tuple[int, ...]) -> int:
    """Operations as Lyken17/pytorch-OpCounter counted them in 2020 (afinets_spec, Section 3)."""
    if isinstance(layer, nn.BatchNorm):
        return 2 * int(np.prod(output_shape))
    if isinstance(layer, GlobalAveragePool):
        return int(np.prod(input_shape)) + int(np.prod(output_shape))
    return _count_operations(layer, output_shape)[0]
