"""Export networks to ONNX by MXNet's exporter, and correct what it writes."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from gluon_aff.errors import GluonAFFError, InputError, last_line
from gluon_aff.export.onnx_format import BATCH, HEIGHT, INPUT, IR_VERSION, OPSET, OUTPUT, WIDTH, file_content
from gluon_aff.extras import import_extra
from gluon_aff.gluon.export.trace import INPUT as TRACED_INPUT
from gluon_aff.gluon.export.trace import Traced, trace
from gluon_aff.gluon.fusion.context import JOINED

FIRST_WITHOUT_MAPPING = (1, 19)  # onnx.mapping, which MXNet's exporter needs, is gone from this version on


def onnx_model(net: HybridBlock, input_size: int, outputs: int, properties: Mapping[str, str]) -> bytes:
    """Export `net`, (N, 3, H, W) -> (N, K), float32, as `gluon_aff.engines.Network.onnx_model` says.

    BatchNorm stays in the file. ONNX Runtime folds it into the convolutions when it loads the model, because the
    weights are constants here instead of inputs.
    """
    onnx = _import_onnx()
    model = _as_mxnet_exports(onnx, net, input_size)
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    _put_right(onnx, model.graph, outputs)
    return file_content(onnx, model, properties)


def _import_onnx() -> Any:
    onnx = import_extra("onnx")
    numbers = tuple(map(int, re.findall(r"\d+", onnx.__version__)))
    if numbers >= FIRST_WITHOUT_MAPPING:
        raise InputError(f"onnx {onnx.__version__} is too new for MXNet 1.9.1: pip install 'onnx<1.19'")
    return onnx


def _as_mxnet_exports(onnx: Any, net: HybridBlock, input_size: int) -> Any:
    traced = trace(net)
    shape = (1, 3, input_size, input_size)
    with tempfile.TemporaryDirectory() as folder, _opset(onnx), _silence():
        path = str(Path(folder) / "network.onnx")
        try:
            mx.onnx.export_model(
                _with_counted_channels(traced.symbol, shape),
                [{**traced.arguments, **_fixed_gammas(traced)}, traced.auxiliary],
                [shape],
                [np.float32],
                path,
                dynamic=True,
                dynamic_input_shapes=[(BATCH, 3, HEIGHT, WIDTH)],
            )
        except (AttributeError, NotImplementedError) as error:  # raised for an operator that MXNet cannot export
            raise GluonAFFError(
                f"the network cannot be written as ONNX ({last_line(error)}): use --format symbol"
            ) from None
        return onnx.load(path)


def _with_counted_channels(symbol: mx.sym.Symbol, shape: Tuple[int, ...]) -> mx.sym.Symbol:
    """Write the number of joined channels into the graph, since MXNet's exporter cannot merge two axes.

    The other sizes are then counted from the right.
    """
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape(**{TRACED_INPUT: shape})
    shape_of = dict(zip(internals.list_outputs(), shapes))
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        if node["op"] == "Reshape" and node["attrs"]["shape"] == str(JOINED):
            channels = shape_of[f"{node['name']}_output"][1]
            node["attrs"] = {"shape": str((-1, channels, 0, 0)), "reverse": "True"}
    return mx.sym.load_json(json.dumps(graph))


def _fixed_gammas(traced: Traced) -> Dict[str, mx.nd.NDArray]:
    """Return ones for the gammas of BatchNorms without scale: MXNet ignores their values, but its exporter does not."""
    nodes = json.loads(traced.symbol.tojson())["nodes"]
    fixed = (node for node in nodes if node["op"] == "BatchNorm" and node["attrs"].get("fix_gamma", "True") == "True")
    names = (nodes[node["inputs"][1][0]]["name"] for node in fixed)
    return {name: mx.nd.ones_like(traced.arguments[name]) for name in names}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hide what MXNet's exporter prints and logs about nodes that it exports correctly, since results are compared."""
    logger = logging.getLogger()
    disabled, logger.disabled = logger.disabled, True
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.disabled = disabled


@contextlib.contextmanager
def _opset(onnx: Any) -> Iterator[None]:
    """Make onnx treat `OPSET` as its newest opset, since MXNet's exporter has its nodes checked against the newest."""
    context = onnx.checker.DEFAULT_CONTEXT
    newest, imports, version = onnx.defs.onnx_opset_version, context.opset_imports, context.ir_version
    onnx.defs.onnx_opset_version = lambda: OPSET
    context.opset_imports, context.ir_version = {"": OPSET}, IR_VERSION
    try:
        yield
    finally:
        onnx.defs.onnx_opset_version = newest
        context.opset_imports, context.ir_version = imports, version


def _put_right(onnx: Any, graph: Any, outputs: int) -> None:
    """Leave one input and one output with our names and known shapes, and remove constants that no node reads."""
    constants = {constant.name for constant in graph.initializer}
    (image,) = (value for value in graph.input if value.name not in constants)
    (logits,) = graph.output
    renamed = {image.name: INPUT, logits.name: OUTPUT}
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [renamed.get(value, value) for value in values]
    tensor, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    del graph.input[:], graph.output[:]
    graph.input.append(tensor(INPUT, kind, (BATCH, 3, HEIGHT, WIDTH)))
    graph.output.append(tensor(OUTPUT, kind, (BATCH, outputs)))
    graph.name = "network"
    used = {name for node in graph.node for name in node.input}
    unused = [constant for constant in graph.initializer if constant.name not in used]
    for constant in unused:  # shapes that MXNet's exporter replaced; ONNX Runtime would warn of each
        graph.initializer.remove(constant)
