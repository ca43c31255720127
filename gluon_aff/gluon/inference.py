"""Infer with Gluon networks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import List

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, SymbolBlock

from gluon_aff.engines import Awaited, Infer
from gluon_aff.gluon.devices import load_slices
from gluon_aff.gluon.export.trace import block_of, trace


def inference(net: HybridBlock, contexts: List[mx.Context]) -> Infer:
    """Return a function that infers with `net`, an initialised network of any floating-point type.

    Args:
        net: (N, 3, H, W) -> (N, ...).
        contexts: the network's devices. Each takes an equal slice of a batch, or nearly equal.
    """
    dtype = network_dtype(net)

    def infer(images: np.ndarray) -> Awaited:
        slices = load_slices(images, contexts)
        outputs = [net(part.astype(dtype, copy=False)).astype("float32", copy=False) for part in slices]
        copies = [output.as_in_context(mx.cpu()) for output in outputs]
        return lambda: np.concatenate([copy.asnumpy() for copy in copies])

    return infer


def fused(net: HybridBlock) -> SymbolBlock:
    """Return a copy of `net` for the CPU in which oneDNN runs convolution, BatchNorm and ReLU as one operation.

    Logits differ from those of `net` by rounding. Any batch size and image size that `net` takes works. `net` does not
    change.

    Args:
        net: initialised network, (N, 3, H, W) -> (N, K), float32.
    """
    traced = trace(net)
    block = block_of(replace(traced, symbol=_with_add_n(traced.symbol)))
    any_shape = (1, 3, 32, 32)
    block.optimize_for(mx.nd.zeros(any_shape), backend="MKLDNN", static_alloc=True, static_shape=True)
    return block


def _with_add_n(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """Replace the graph's binary sums: MXNet 1.9.1, fusing one with a convolution, may silently add a wrong array."""
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        if node["op"] == "elemwise_add":
            node["op"], node["attrs"] = "add_n", {"num_args": "2"}
    return mx.sym.load_json(json.dumps(graph))


def network_dtype(net: HybridBlock) -> np.dtype:
    """Return the type of the network's images: the narrowest of its parameters' floating-point types, or float32.

    The narrowest type counts because BatchNorm's parameters stay float32 in a float16 network.
    """
    types = [np.dtype(parameter.dtype) for parameter in net.collect_params().values()]
    return min((each for each in types if each.kind == "f"), default=np.dtype(np.float32))
