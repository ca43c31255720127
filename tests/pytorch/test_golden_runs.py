"""Whole runs of the documented commands under PyTorch, held against what MXNet did (tests/goldens/README.md)."""

import pytest
import torch  # noqa: F401  (these tests are left out where it is not installed)
from shared_by_tests.golden_runs import ALIKE, RUNS, changes, distances, golden_of, measure, tolerance, write_data

MARGIN = 4  # times the distance that is allowed between two ways in which MXNet itself computes
ALL = [pytest.param(name, marks=pytest.mark.long if name in ALIKE else ()) for name in sorted(RUNS)]
FROM_GIVEN_WEIGHTS = [each for each in ALL if RUNS[each.values[0]].weights_flag]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden_runs")
    write_data(folder)
    return folder


@pytest.fixture(scope="module", params=ALL)
def golden_and_found(request, data):
    golden = golden_of(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLUON_AFF_ENGINE", "torch")
        return golden, measure(request.param, data, golden["engine_free"]["weights"])


def test_what_rounding_does_not_touch_is_what_mxnet_did(golden_and_found):
    differing = changes(*golden_and_found)
    assert not differing, "\n".join(differing)


@pytest.mark.parametrize("golden_and_found", FROM_GIVEN_WEIGHTS, indirect=True)
def test_what_rounding_touches_is_near(golden_and_found):
    golden, found = golden_and_found
    for kind, distance in distances(without_variances(golden["rounded"]), found["rounded"]).items():
        assert distance.value <= MARGIN * tolerance(golden, kind), f"{kind}: {distance}"


@pytest.mark.parametrize("golden_and_found", FROM_GIVEN_WEIGHTS, indirect=True)
def test_running_variances_are_those_of_fewer_images(golden_and_found):
    """PyTorch divides by n - 1, of which a pooled map has one for each of the batch's images, MXNet on CPUs by n."""
    golden, found = golden_and_found
    images = int(golden["engine_free"]["batches"][0]["shape"].split("x")[0])
    for name, (size, *_) in golden["rounded"]["weights"].items():
        if name.endswith("running_var"):
            ratio = found["rounded"]["weights"][name][0] / size
            assert 1 - 2e-3 < ratio < images / (images - 1) + 2e-3, name


def without_variances(rounded):
    weights = {name: summary for name, summary in rounded["weights"].items() if not name.endswith("running_var")}
    return {**rounded, "weights": weights}
