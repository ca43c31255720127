"""Inference with Gluon networks."""

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
    """Inference with `net`, an initialised network of any floating-point type.

    Args:
        net: (N, 3, H, W) -> (N, ...).
        contexts: its devices; each takes an equal slice of a batch, or nearly.
    """
    dtype = network_dtype(net)

    def infer(images: np.ndarray) -> Awaited:
        slices = load_slices(images, contexts)
        outputs = [net(part.astype(dtype, copy=False)).astype("float32", copy=False) for part in slices]
        copies = [output.as_in_context(mx.cpu()) for output in outputs]
        return lambda: np.concatenate([copy.asnumpy() for copy in copies])

    return infer


def fused(net: HybridBlock) -> SymbolBlock:
    """A copy of `net` for the CPU, in which oneDNN runs convolution, BatchNorm and ReLU in one go.

    Logits differ by rounding; batch and image size are as free as in `net`, which stays as it is.

    Args:
        net: initialised network, (N, 3, H, W) -> (N, K), float32.
    """
    traced = trace(net)
    block = block_of(replace(traced, symbol=_with_add_n(traced.symbol)))
    any_shape = (1, 3, 32, 32)
    block.optimize_for(mx.nd.zeros(any_shape), backend="MKLDNN", static_alloc=True, static_shape=True)
    return block


def _with_add_n(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """The graph without binary sums: MXNet 1.9.1, making one with a convolution, may add something else, in silence."""
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        if node["op"] == "elemwise_add":
            node["op"], node["attrs"] = "add_n", {"num_args": "2"}
    return mx.sym.load_json(json.dumps(graph))


def network_dtype(net: HybridBlock) -> np.dtype:
    """The floating-point type of the network's images: the narrowest of its parameters', float32 if it has none.

    In a float16 network BatchNorm's parameters stay float32.
    """
    types = [np.dtype(parameter.dtype) for parameter in net.collect_params().values()]
    return min((t for t in types if t.kind == "f"), key=lambda t: t.itemsize, default=np.dtype(np.float32))
