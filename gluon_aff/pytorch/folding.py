"""Make copies of networks that infer faster on a CPU."""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from typing import Any, Callable, Dict, Tuple

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def faster_on_cpu(net: nn.Module) -> nn.Module:
    """Return a copy of `net` with its BatchNorm folded into convolutions, and its channels last in memory.

    Outputs differ by rounding errors, and the batch and the image size may change as before; `net` stays as it is. A
    network keeps its BatchNorm if it cannot be traced, because its code depends on values or sizes of its maps, or if
    its convolutions have a narrower type than BatchNorm.

    Args:
        net: the network, in inference mode.
    """
    copied = copy.deepcopy(net)
    with contextlib.suppress(Exception):  # tracing runs code of the network, which may raise any error
        copied = _folded(copied)
    return copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class _Tracer(fx.Tracer):
    """Traces networks that call modules without a name, such as a slice of a Sequential."""

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any]
    ) -> Any:
        """Record a call of one of PyTorch's layers, and trace the code of any other module."""
        if self.is_leaf_module(m, ""):
            return super().call_module(m, forward, args, kwargs)
        return forward(*args, **kwargs)


def _folded(net: nn.Module) -> fx.GraphModule:
    """Return the network as a graph, with each BatchNorm that is all that reads a convolution folded into that."""
    traced = fx.GraphModule(net, _Tracer().trace(net))
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    for node in list(traced.graph.nodes):
        norm = _layer(traced, node)
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        before = node.all_input_nodes[0]
        convolution, once = _layer(traced, before), len(before.users) == calls[before.target] == calls[node.target] == 1
        if once and isinstance(convolution, nn.Conv2d) and convolution.weight.dtype == norm.weight.dtype:
            traced.add_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _layer(traced: fx.GraphModule, node: fx.Node) -> Any:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None
