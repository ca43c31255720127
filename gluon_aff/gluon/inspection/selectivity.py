"""Sum the channels of a layer for each class; the class selectivity index is computed from these sums."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from gluon_aff.engines import Channels
from gluon_aff.errors import InputError
from gluon_aff.gluon.devices import load_slices
from gluon_aff.gluon.inference import network_dtype
from gluon_aff.gluon.inspection.layers import layer_by_layer, layer_called
from gluon_aff.iteration import one_behind


def channel_sums(
    net: HybridBlock,
    contexts: List[mx.Context],
    channels: Channels,
    batches: Iterable[Tuple[np.ndarray, np.ndarray]],
    classes: int,
    advance: Callable[[int], object],
) -> Tuple[np.ndarray, float]:
    """Sum channels of `net` as `gluon_aff.engines.Network.channel_sums` says.

    `net` is initialised, and hybridized or not. It does not change.
    """
    layer = layer_called(net, channels.layer)
    sums: Dict[mx.Context, Any] = {}  # the sums (classes, C) and the lowest value (1,), which stay on their device
    outputs: List[Any] = []
    hook = layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    dtype = network_dtype(net)

    def steps() -> Iterator[Any]:
        for images, labels in batches:
            for context, part, part_labels in zip(
                contexts, load_slices(images, contexts), load_slices(labels, contexts)
            ):
                net(part.astype(dtype, copy=False))
                values = _checked(outputs, channels).astype("float32", copy=False)
                added = mx.nd.dot(mx.nd.one_hot(part_labels, classes), _per_image(values), transpose_a=True)
                so_far, lowest = sums.get(context, (mx.nd.zeros_like(added), values.min()))
                sums[context] = so_far + added, mx.nd.minimum(lowest, values.min())
                outputs.clear()
            yield len(labels), [lowest for _, lowest in sums.values()]

    try:
        with layer_by_layer(net):
            for images, under_way in one_behind(steps()):
                for array in under_way:
                    array.wait_to_read()
                advance(images)
    finally:
        hook.detach()
    total = sum(each.asnumpy().astype(np.float64) for each, _ in sums.values())
    return total, min(float(lowest.asscalar()) for _, lowest in sums.values())


def _checked(outputs: List[Any], channels: Channels) -> mx.nd.NDArray:
    """Return the chosen channels of a layer's last output, (N, C, H, W) or (N, C).

    Raises:
        InputError: there is no output, or it lacks one of the channels.
    """
    output = outputs[-1] if outputs else None
    if not isinstance(output, mx.nd.NDArray) or output.ndim not in (2, 4):
        raise InputError(f"--layer {channels.layer}: its output is not a feature; name a convolution, ReLU or stage")
    end = output.shape[1] if channels.end is None else channels.end
    if not channels.begin < end <= output.shape[1]:
        raise InputError(f"--layer {channels}: the layer has channels 0 to {output.shape[1] - 1}")
    return mx.nd.slice_axis(output, axis=1, begin=channels.begin, end=end)


def _per_image(values: mx.nd.NDArray) -> mx.nd.NDArray:
    """Average the maps of each channel: (N, C, H, W) or (N, C) -> (N, C)."""
    return values.mean(axis=(2, 3)) if values.ndim == 4 else values
