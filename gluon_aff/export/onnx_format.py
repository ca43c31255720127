"""What every ONNX file of this package has, whichever engine wrote its graph."""

from __future__ import annotations

from typing import Any, Mapping

from gluon_aff._version import __version__

OPSET = 13  # of the nodes: MXNet's exporter writes this one only
IR_VERSION = 7  # that came with it
INPUT, OUTPUT = "images", "logits"
BATCH, HEIGHT, WIDTH = "batch", "height", "width"


def file_content(onnx: Any, model: Any, properties: Mapping[str, str]) -> bytes:
    """Stamp `model` with its writer and `properties`, check it, and return what its file holds.

    Args:
        onnx: the module.
        model: an onnx.ModelProto, which is changed.
        properties: what the file says of the network.
    """
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "gluon_aff", __version__
    onnx.helper.set_model_props(model, dict(properties))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
