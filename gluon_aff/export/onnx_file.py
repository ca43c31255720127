"""Networks as ONNX files, kept once ONNX Runtime agrees with the network."""

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
        content: of a file.
        infer: what ONNX Runtime makes of it.
        agreement: how that agrees with the network.
    """

    content: bytes
    infer: Logits
    agreement: Agreement


def onnx_model(network: Network, card: Card) -> ONNXModel:
    """Export `network`, and compare what ONNX Runtime makes of it with what the network gives.

    Args:
        network: (N, 3, H, W) -> (N, K), float32, on the CPU; it stays as it is.
        card: what it is.

    Raises:
        InputError: onnx or ONNX Runtime is missing, or another onnx is needed.
        GluonAFFError: the network cannot be exported, or the results differ.
    """
    content = network.onnx_model(card.input_size, card.outputs, properties(card))
    infer = logits_of_session(session_of(content, "the exported model"))
    return ONNXModel(content, infer, agree(network.infer, infer, card.input_size, "the exported model"))


def write_onnx(network: Network, path: str, card: Card) -> ONNXModel:
    """Write what `onnx_model` makes, once it is found to agree with the network.

    Raises:
        InputError, GluonAFFError: as there, or the file cannot be written.
    """
    model = onnx_model(network, card)
    with replacing(path) as partial:
        Path(partial).write_bytes(model.content)
    return model
