"""Whole runs of the documented commands for ImageNet, held against goldens (tests/goldens/README.md)."""

import pytest
from shared_by_tests.golden_runs import ALIKE, RUNS, golden_of, measure, write_records_of_pictures
from shared_by_tests.golden_tests import HeldAgainstGoldens

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden_imagenet_runs")
    write_records_of_pictures(folder)
    return folder


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.long if name in ALIKE else ())
        for name in sorted(RUNS)
        if name.startswith("imagenet_")
    ],
)
def golden_and_found(request, data):
    golden = golden_of(request.param)
    return golden, measure(request.param, data, golden["engine_free"]["weights"])


class TestRuns(HeldAgainstGoldens):
    pass
