"""Inference in a thread."""

import numpy as np
import pytest

from gluon_aff.evaluation.inference import in_thread


def test_inference_in_a_thread_keeps_the_order():
    infer = in_thread(lambda images: images.reshape(len(images), -1)[:, :3] * 2)
    batches = [np.full((2, 3, 1, 1), number, np.float32) for number in range(20)]
    started = [infer(batch) for batch in batches]
    assert [wait().tolist() for wait in reversed(started)] == [[[2.0 * n] * 3] * 2 for n in reversed(range(20))]


def test_an_error_in_the_thread_comes_when_awaited():
    def fail(images):
        raise ValueError("no")

    wait = in_thread(fail)(np.zeros((1, 3, 1, 1), np.float32))
    with pytest.raises(ValueError, match="no"):
        wait()
