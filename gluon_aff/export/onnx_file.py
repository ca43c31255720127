"""Export networks as ONNX files, which are kept only if ONNX Runtime computes the same as the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gluon_aff.engines import Logits, Network
from gluon_aff.export.agreement import Agreement, agree
from gluon_aff.export.onnx_runtime import logits_of_session, session_of
from gluon_aff.files import replacing
from gluon_aff.weights.card import Card, properties


@dataclass(frozen=True)
class ONNXModel:
    """A network in ONNX's format.

    Attributes:
        content: bytes of the `.onnx` file.
        infer: inference of the model in ONNX Runtime.
        agreement: how well this inference agrees with the network.
    """

    content: bytes
    infer: Logits
    agreement: Agreement


def onnx_model(network: Network, card: Card) -> ONNXModel:
    """Export `network` as ONNX, and compare its outputs in ONNX Runtime with those of the network.

    Args:
        network: network (N, 3, H, W) -> (N, K) in float32 on the CPU; it is not changed.
        card: description of the network, which is stored in the model.

    Raises:
        InputError: onnx or ONNX Runtime is not installed, or the installed onnx does not suit the engine.
        GluonAFFError: the network cannot be exported, or the outputs differ.
    """
    content = network.onnx_model(card.input_size, card.outputs, properties(card))
    infer = logits_of_session(session_of(content, "the exported model"))
    return ONNXModel(content, infer, agree(network.infer, infer, card.input_size, "the exported model"))


def write_onnx(network: Network, path: str, card: Card) -> ONNXModel:
    """Export `network` with `onnx_model` and write the result to `path`.

    Raises:
        InputError: onnx or ONNX Runtime is not installed, or the installed onnx does not suit the engine.
        GluonAFFError: the network cannot be exported, the outputs differ, or the file cannot be written.
    """
    model = onnx_model(network, card)
    with replacing(path) as partial:
        Path(partial).write_bytes(model.content)
    return model
