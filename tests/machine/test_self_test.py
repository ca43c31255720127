"""The step that `gluon-aff doctor` lets each engine train."""

import time

import numpy as np
import pytest

from gluon_aff._platform import ENGINES
from gluon_aff.engines import Devices, engine


def loss(outputs):
    """Cross-entropy, where the classes are 0 and 1."""
    return -np.log(np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True))[[0, 1], [0, 1]].mean()


@pytest.mark.inference
@pytest.mark.parametrize("name", ENGINES)
def test_it_is_one_of_nesterovs_in_numpy(name):
    """All weights are 0.1, so both outputs are equal, and only the last layer has a gradient."""
    images = np.arange(384).reshape(2, 3, 8, 8) / 384
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))
    features = np.repeat(0.1 * windows.sum(axis=(1, 4, 5)).reshape(2, 36), 4, axis=1)
    weight = np.full((2, 144), 0.1)
    gradient = (np.full((2, 2), 0.5) - np.eye(2)).T / 2 @ features
    stepped = weight - 0.001 * (1 + 0.9) * gradient
    started = time.perf_counter()
    found = engine(name).try_step(Devices())
    assert 0 < found["seconds"] < time.perf_counter() - started
    assert found["before"] == pytest.approx(loss(features @ weight.T), rel=1e-5)
    assert found["after"] == pytest.approx(loss(features @ stepped.T), rel=1e-4)
    assert found["after"] < 0.99 * found["before"]
