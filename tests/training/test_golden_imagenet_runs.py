"""Whole runs of the documented commands for ImageNet, held against goldens (tests/goldens/README.md)."""

import pytest
from shared_by_tests.golden_runs import RUNS, golden_of, measure, write_data
from shared_by_tests.golden_tests import HeldAgainstGoldens

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden_imagenet_runs")
    write_data(folder)
    return folder


# Other runs of the first release have its flags, and those of the head these networks.
LONG = ("imagenet_first_iaff_resnet", "imagenet_first_aff_resnext")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.long if name in LONG else ())
        for name in sorted(RUNS)
        if name.startswith("imagenet_")
    ],
)
def golden_and_found(request, data):
    golden = golden_of(request.param)
    return golden, measure(request.param, data, golden["engine_free"]["weights"])


class TestRuns(HeldAgainstGoldens):
    pass
