"""Run ONNX files in ONNX Runtime on the CPU."""

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
    """Open an ONNX file that `gluon-aff export` wrote.

    Returns:
        The inference of the file, and the card of its network.

    Raises:
        InputError: onnx or ONNX Runtime is not installed, or the file cannot be read, was not written by
            `gluon-aff export`, or has NaN or infinite values.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): name a file that gluon-aff export wrote") from None
    session = session_of(content, path)
    check_finite(_initializers(content, path), path, "export it again, from finite weights")
    written = session.get_modelmeta().custom_metadata_map
    try:
        if WRITER not in written:
            raise KeyError(WRITER)
        return logits_of_session(session), card_of(written)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path} does not describe its network ({last_line(error)} is missing or has no valid value): export it "
            "with gluon-aff export"
        ) from None


def _initializers(content: bytes, path: str) -> Dict[str, np.ndarray]:
    """Return the weights by name, from the content of the file at `path`, including those that no node uses."""
    onnx = import_extra("onnx")
    try:
        weights = onnx.load_from_string(content).graph.initializer
        return {each.name: onnx.numpy_helper.to_array(each) for each in weights if not each.external_data}
    except Exception as error:
        raise _unreadable(path, error) from None


def session_of(model: bytes, name: str) -> Any:
    """Return an InferenceSession that uses the cores available to this process.

    Args:
        model: content of the file, because ONNX Runtime opens only files whose names are UTF-8.
        name: what a message calls the model.

    Raises:
        InputError: ONNX Runtime is not installed, or cannot read the model.
    """
    onnxruntime = import_extra("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_workers(MAX_THREADS)
    options.log_severity_level = 4  # errors are raised as exceptions anyway
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> InputError:
    return InputError(f"{name} cannot be read as ONNX ({last_line(error)}): export it again")


def logits_of_session(session: Any) -> Logits:
    """Return a function that computes logits, float32 (N, K), of images, float32 (N, 3, H, W), in `session`.

    The function raises GluonAFFError if ONNX Runtime fails.
    """
    (image,) = session.get_inputs()

    def infer(images: np.ndarray) -> np.ndarray:
        try:
            return session.run(None, {image.name: images})[0]
        except Exception as error:
            raise GluonAFFError(
                f"ONNX Runtime stopped: {last_line(error)}. If it ran out of memory, use fewer images at a time"
            ) from None

    return infer
