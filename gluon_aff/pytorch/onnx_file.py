"""Export networks to ONNX by PyTorch's exporter."""

from __future__ import annotations

import inspect
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict, Mapping

import torch
from torch import nn

from gluon_aff.errors import GluonAFFError, last_line
from gluon_aff.export.onnx_format import BATCH, HEIGHT, INPUT, OPSET, OUTPUT, WIDTH, file_content
from gluon_aff.extras import import_extra


def onnx_model(net: nn.Module, input_size: int, properties: Mapping[str, str]) -> bytes:
    """Export `net`, in inference mode, (N, 3, H, W) -> (N, K), float32, as `gluon_aff.engines.Network.onnx_model` says.

    PyTorch folds BatchNorm into the convolution before it.
    """
    onnx = import_extra("onnx")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = str(Path(folder) / "network.onnx")
        warnings.simplefilter("ignore")  # PyTorch recommends its other exporter
        try:
            torch.onnx.export(
                net,
                (torch.zeros(2, 3, input_size, input_size),),
                path,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: BATCH, 2: HEIGHT, 3: WIDTH}, OUTPUT: {0: BATCH}},
                opset_version=OPSET,
                **_exporter(),
            )
        except RuntimeError as error:  # raised for an operator that PyTorch cannot export
            raise GluonAFFError(
                f"the network cannot be written as ONNX ({last_line(error)}): use operators that torch.onnx knows"
            ) from None
        return file_content(onnx, onnx.load(path), properties)


def _exporter() -> Dict[str, Any]:
    """Return the argument that selects the tracing exporter, where PyTorch has two (from version 2.5 on).

    The other exporter, based on torch.export, needs onnxscript and cannot write opset 13. It starts at opset 18, and
    onnx fails to convert its output for these networks (PyTorch 2.14.1, onnxscript 0.7.2, onnx 1.23.2).
    """
    return {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
