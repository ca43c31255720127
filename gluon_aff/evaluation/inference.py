"""What computes logits from images: a network in MXNet, or what ONNX Runtime makes of one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Callable, List

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.gluon import HybridBlock, SymbolBlock

from gluon_aff.export.agreement import Logits
from gluon_aff.export.trace import block_of, trace

# Takes images, float32 (N, 3, H, W), and starts; what it returns waits for the logits, float32 (N, K).
Infer = Callable[[np.ndarray], Callable[[], np.ndarray]]


def in_mxnet(net: HybridBlock, contexts: List[mx.Context]) -> Infer:
    """Inference with `net`, an initialised network of any floating-point type.

    Args:
        net: (N, 3, H, W) -> (N, K).
        contexts: its devices; each takes an equal slice of a batch, or nearly.
    """
    dtype = network_dtype(net)

    def infer(images: np.ndarray) -> Callable[[], np.ndarray]:
        slices = gluon.utils.split_and_load(images, contexts[: len(images)], even_split=False)
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


def in_thread(logits: Logits) -> Infer:
    """Inference with `logits`, in a thread, so that the next images are read meanwhile."""
    thread = ThreadPoolExecutor(max_workers=1)
    return lambda images: thread.submit(logits, images).result


def network_dtype(net: HybridBlock) -> np.dtype:
    """The floating-point type of the network's images: the narrowest of its parameters', float32 if it has none.

    In a float16 network BatchNorm's parameters stay float32.
    """
    types = [np.dtype(parameter.dtype) for parameter in net.collect_params().values()]
    return min((t for t in types if t.kind == "f"), key=lambda t: t.itemsize, default=np.dtype(np.float32))
