"""Trace a network to a graph and parameters, as MXNet's exporters and partitioners take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, SymbolBlock

from gluon_aff.engines import Logits

INPUT = "data"  # the name that HybridBlock.export uses


@dataclass(frozen=True)
class Traced:
    """Hold a network as a graph.

    Attributes:
        symbol: the graph, with a single input named `INPUT`.
        arguments: trained parameters by their raw names, on the CPU. If the network is there too, they share its
            memory.
        auxiliary: running statistics, likewise.
    """

    symbol: mx.sym.Symbol
    arguments: Dict[str, mx.nd.NDArray]
    auxiliary: Dict[str, mx.nd.NDArray]


def trace(net: HybridBlock) -> Traced:
    """Trace `net`, an initialised network of type float32, (N, 3, H, W) -> (N, K), without changing it."""
    symbol = net(_input())
    values = {p.name: p.data(p.list_ctx()[0]).as_in_context(mx.cpu()) for p in net.collect_params().values()}
    return Traced(
        symbol,
        {name: values[name] for name in symbol.list_arguments() if name != INPUT},
        {name: values[name] for name in symbol.list_auxiliary_states()},
    )


def block_of(traced: Traced) -> SymbolBlock:
    """Return a block on the CPU that computes the graph with its own copy of the parameters."""
    block = SymbolBlock(traced.symbol, [_input()])
    parameters = block.collect_params()
    for name, value in {**traced.arguments, **traced.auxiliary}.items():
        parameters[name].initialize(mx.init.Constant(value))
    return block


def logits_of(net: HybridBlock) -> Logits:
    """Return a function that computes logits, float32 (N, K), for images, float32 (N, 3, H, W), on the CPU."""

    def infer(images: np.ndarray) -> np.ndarray:
        return net(mx.nd.array(images)).asnumpy()

    return infer


def _input() -> mx.sym.Symbol:
    return mx.sym.var(INPUT, dtype="float32")
