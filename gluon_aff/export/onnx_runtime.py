"""ONNX files at work, in ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np

from gluon_aff.data.batches import usable_workers
from gluon_aff.engines import Logits
from gluon_aff.errors import GluonAFFError, InputError, last_line
from gluon_aff.extras import import_extra
from gluon_aff.weights.card import WRITER, Card, card_of
from gluon_aff.weights.params import check_finite

MAX_THREADS = 64


def open_onnx(path: str) -> Tuple[Logits, Card]:
    """What a file of `gluon-aff export` computes, and what it says of its network.

    Raises:
        InputError: onnx or ONNX Runtime is missing, or the file cannot be read, is not ours or has values that are NaN
            or infinite.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): name a file of gluon-aff export") from None
    session = session_of(content, path)
    check_finite(_initializers(content, path), path, "export it anew, from whole weights")
    written = session.get_modelmeta().custom_metadata_map
    try:
        if WRITER not in written:
            raise KeyError(WRITER)
        return logits_of_session(session), card_of(written)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path} does not say which network it is of ({last_line(error)} is missing or no value): export it with "
            "gluon-aff export"
        ) from None


def _initializers(content: bytes, path: str) -> Dict[str, np.ndarray]:
    """The weights by name, in the content of the file at `path`; ONNX Runtime leaves unused ones unread."""
    onnx = import_extra("onnx")
    try:
        weights = onnx.load_from_string(content).graph.initializer
        return {each.name: onnx.numpy_helper.to_array(each) for each in weights if not each.external_data}
    except Exception as error:
        raise _unreadable(path, error) from None


def session_of(model: bytes, name: str) -> Any:
    """An InferenceSession on the cores that this process may use.

    Args:
        model: its file's content, since ONNX Runtime takes names in UTF-8 only.
        name: what to call it in a message.

    Raises:
        InputError: ONNX Runtime is missing, or cannot read the model.
    """
    onnxruntime = import_extra("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_workers(MAX_THREADS)
    options.log_severity_level = 4  # what it says of errors comes as an exception too
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own kinds have no base class
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> InputError:
    return InputError(f"{name} cannot be read as ONNX ({last_line(error)}): export it anew")


def logits_of_session(session: Any) -> Logits:
    """What computes logits, float32 (N, K), of images, float32 (N, 3, H, W).

    That raises GluonAFFError if ONNX Runtime stops.
    """
    (image,) = session.get_inputs()

    def infer(images: np.ndarray) -> np.ndarray:
        try:
            return session.run(None, {image.name: images})[0]
        except Exception as error:
            raise GluonAFFError(
                f"ONNX Runtime stopped: {last_line(error)}. If that is memory, use less of it"
            ) from None

    return infer
