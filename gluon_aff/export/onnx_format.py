"""What all ONNX files of this package have in common, whichever engine exports the graph."""

from __future__ import annotations

from typing import Any, Mapping

from gluon_aff._version import __version__

OPSET = 13  # version of the operators, the only one that MXNet's exporter writes
IR_VERSION = 7  # version of the file format that was released with this opset
INPUT, OUTPUT = "images", "logits"
BATCH, HEIGHT, WIDTH = "batch", "height", "width"


def file_content(onnx: Any, model: Any, properties: Mapping[str, str]) -> bytes:
    """Store writer and `properties` in `model`, check it, and return the bytes of its file.

    Args:
        onnx: the imported module onnx.
        model: an onnx.ModelProto, which is changed in place.
        properties: description of the network.
    """
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "gluon_aff", __version__
    onnx.helper.set_model_props(model, dict(properties))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
