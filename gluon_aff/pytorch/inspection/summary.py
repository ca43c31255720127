"""Count the parameters and multiply-adds of a network's layers."""

from __future__ import annotations

from typing import Any, Callable, List, Tuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gluon_aff.engines import LayerCount
from gluon_aff.errors import InputError
from gluon_aff.models import SMALLEST_SIZE, Architecture
from gluon_aff.pytorch.networks.zoo import build
from gluon_aff.pytorch.parameters import UPDATES


def count_layers(architecture: Architecture, input_size: int) -> List[LayerCount]:
    """Count layers as `gluon_aff.engines.Engine.count_layers` says, from shapes alone, without computing."""
    with torch.device("meta"):
        net = build(architecture).eval()
    counts: List[LayerCount] = []
    for name, layer in net.named_modules():
        if isinstance(layer, nn.AdaptiveAvgPool2d) or layer._parameters:
            layer.register_forward_hook(_recorder(name, counts))
    try:
        net(torch.empty(1, 3, input_size, input_size, device="meta"))
    except RuntimeError:
        if input_size >= SMALLEST_SIZE:
            raise
        raise InputError(
            f"--input-size {input_size} is too small for this network: take {SMALLEST_SIZE} or more"
        ) from None
    return counts


def trainable_parameters(architecture: Architecture) -> int:
    """Return the number of trainable parameters, as `gluon_aff.engines.Engine.trainable_parameters` says."""
    with torch.device("meta"):
        return sum(each.numel() for each in build(architecture).parameters() if each.requires_grad)


def _recorder(name: str, counts: List[LayerCount]) -> Callable[..., None]:
    def record(layer: nn.Module, inputs: Tuple[Tensor, ...], output: Tensor) -> None:
        first = not any(count.name == name for count in counts)
        own = [each for each in layer.parameters(recurse=False) if first]
        statistics = [each for key, each in layer.named_buffers(recurse=False) if first and key != UPDATES]
        counts.append(
            LayerCount(
                name,
                type(layer).__name__,
                tuple(output.shape),
                sum(each.numel() for each in own if each.requires_grad),
                sum(each.numel() for each in [*own, *statistics] if not each.requires_grad),
                *_count_operations(layer, output),
                _count_as_thop(layer, inputs[0], output),
            )
        )

    return record


def _count_operations(layer: Any, output: Tensor) -> Tuple[int, int]:
    """Return the multiply-adds, and the count of the original's utils/flops.py.

    The original divides convolutions by their groups although the weight's shape already is that of a group, adds
    biases, and counts dense layers twice.
    """
    if isinstance(layer, nn.Conv2d):
        positions = output.shape[2] * output.shape[3]
        weights = layer.weight.numel()
        biases = 0 if layer.bias is None else layer.bias.numel()
        return positions * weights, positions * (weights // layer.groups + biases)
    if isinstance(layer, nn.Linear):
        vectors = output.numel() // layer.out_features
        weights = layer.weight.numel()
        return vectors * weights, 2 * weights - layer.in_features + layer.out_features
    return 0, 0


def _count_as_thop(layer: Any, entered: Tensor, output: Tensor) -> int:
    """Count operations as Lyken17/pytorch-OpCounter did in 2020; the AFINets paper's tables used this profiler."""
    if isinstance(layer, _BatchNorm):
        return 2 * output.numel()
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return entered.numel() + output.numel()
    return _count_operations(layer, output)[0]
