"""Count the parameters and multiply-adds of a network's layers."""

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

PROBE_SIZE = 64  # the number of parameters does not depend on the size


@contextlib.contextmanager
def refusing_small_images(input_size: int) -> Iterator[None]:
    """Raise InputError if images of this size are too small for MXNet to compute the shapes of their maps."""
    try:
        yield
    except (ValueError, mx.MXNetError):
        if input_size >= SMALLEST_SIZE:
            raise
        raise InputError(
            f"--input-size {input_size} is too small for this network: take {SMALLEST_SIZE} or more"
        ) from None


def count_layers(architecture: Architecture, input_size: int) -> List[LayerCount]:
    """Count layers as `gluon_aff.engines.Engine.count_layers` says."""
    net = build(architecture)
    net.initialize()
    return layer_counts(net, input_size)


def layer_counts(net: HybridBlock, input_size: int) -> List[LayerCount]:
    """Run a (1, 3, input_size, input_size) image through `net`, initialised and not hybridized, and count.

    Raises:
        InputError: the image is too small.
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
    """Return the parameters' shapes, as `gluon_aff.engines.Catalogue.parameter_shapes` says."""
    try:
        parameters = build(architecture)._collect_params_with_prefix()
    except (mx.MXNetError, ZeroDivisionError) as error:
        raise InputError(f"{architecture.name}: no network has these arguments ({last_line(error)})") from None
    return {name: parameter.shape for name, parameter in parameters.items()}


def raw_names(architecture: Architecture) -> Dict[str, str]:
    """Return Gluon's own parameter names, as `gluon_aff.engines.Catalogue.raw_names` says."""
    return raw_names_of(build(architecture))


def trainable_parameters(architecture: Architecture) -> int:
    """Return the number of trainable parameters, as `gluon_aff.engines.Engine.trainable_parameters` says."""
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
    """Return the multiply-adds, and the count of the original's utils/flops.py.

    The original divides convolutions by their groups although the weight's shape already is that of a group, adds
    biases, and counts dense layers twice.
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
    """Count operations as Lyken17/pytorch-OpCounter did in 2020; the AFINets paper's tables used this profiler."""
    if isinstance(layer, nn.BatchNorm):
        return 2 * int(np.prod(output_shape))
    if isinstance(layer, GlobalAveragePool):
        return int(np.prod(input_shape)) + int(np.prod(output_shape))
    return _count_operations(layer, output_shape)[0]
