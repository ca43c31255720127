"""Asynchronous inference for engines that block until they have the result, such as ONNX Runtime."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from gluon_aff.engines import Infer, Logits


def in_thread(logits: Logits) -> Infer:
    """Return an inference that runs `logits` in a thread, so that the next images can be read meanwhile."""
    thread = ThreadPoolExecutor(max_workers=1)
    return lambda images: thread.submit(logits, images).result
