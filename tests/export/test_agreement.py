"""What counts as the same results, and what does not."""

import numpy as np
import pytest

from gluon_aff.errors import GluonAFFError
from gluon_aff.export.agreement import agree

LOGITS = np.array([[1, -2, 4]], np.float32)


def logits(images):
    """The same for every image, of a network or of a file."""
    return np.repeat(LOGITS, len(images), axis=0)


def started(infer):
    """As a network infers."""
    return lambda images: lambda: infer(images)


def other_at(call, change):
    """What gives those logits but at one call, at which one of them is changed."""
    calls = []

    def infer(images):
        calls.append(images)
        result = logits(images)
        if len(calls) - 1 == call:
            result[-1, 0] += np.float32(change)
        return result

    return infer


def test_images_are_of_two_batches_and_sizes_and_the_same_for_both():
    seen = {"network": [], "file": []}

    def watched(name):
        def infer(images):
            seen[name].append(images)
            return logits(images)

        return infer

    found = agree(started(watched("network")), watched("file"), 32, "it")
    assert [images.shape for images in seen["file"]] == [(3, 3, 32, 32), (2, 3, 49, 64)] == list(found.shapes)
    for one, other in zip(*seen.values()):
        np.testing.assert_array_equal(one, other)
        assert one.std() == pytest.approx(1, abs=0.05)
    assert (found.difference, found.largest) == (0, 4)


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("change", [np.nan, np.inf, 1e-3, -1e-3, 5e-5])
def test_a_logit_that_differs_is_noticed_at_either_size(call, change):
    with pytest.raises(GluonAFFError, match=r"it differs from the network by .*logits of up to 4, so it was not kept"):
        agree(started(logits), other_at(call, change), 32, "it")


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_is_not_finite_is_noticed_at_either_size(call, value):
    with pytest.raises(GluonAFFError, match="the network's outputs for random images are not finite"):
        agree(started(other_at(call, value)), other_at(call, value), 32, "it")


def test_rounding_is_let_pass_and_named():
    """Of float32: 1e-5 of the largest logit."""
    assert agree(started(logits), other_at(1, 3e-5), 32, "it").difference == pytest.approx(3e-5, rel=0.01)
