"""Inference with what computes while it is waited for, such as ONNX Runtime."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from gluon_aff.engines import Infer, Logits


def in_thread(logits: Logits) -> Infer:
    """Inference with `logits`, in a thread, so that the next images are read meanwhile."""
    thread = ThreadPoolExecutor(max_workers=1)
    return lambda images: thread.submit(logits, images).result
