"""Whole runs of the documented commands for CIFAR and segmentation, held against goldens (tests/goldens/README.md)."""

import numpy as np
import pytest
from shared_by_tests.golden_runs import GOLDENS, RUNS, SIGNS, golden_of, measure, write_few_shapes
from shared_by_tests.golden_tests import HeldAgainstGoldens

from gluon_aff.data.samples.stop_signs import write_stop_signs

OTHERS = [name for name in sorted(RUNS) if not name.startswith("imagenet_")]
pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden_runs")
    write_few_shapes(folder)
    write_stop_signs(str(folder / "signs"), *SIGNS)
    return folder


@pytest.fixture(scope="module", params=OTHERS)
def golden_and_found(request, data):
    golden = golden_of(request.param)
    return golden, measure(request.param, data, golden["engine_free"]["weights"])


class TestRuns(HeldAgainstGoldens):
    pass


def test_every_run_has_a_golden_and_every_golden_a_run():
    assert {path.stem for path in GOLDENS.iterdir()} == set(RUNS)


@pytest.mark.parametrize("name", [name for name in sorted(RUNS) if not name.endswith("_from_seed")])
def test_mixup_ends_and_the_rate_changes_within_a_run(name):
    golden = golden_of(name)["engine_free"]
    header, *lines = golden["log"]
    epochs = sum("val=" in line or "validation:" in line for line in lines)
    weights, rates = (np.reshape(golden[what], (epochs, -1)) for what in ("mixup_weights", "learning_rates"))
    assert (weights[-1] == 1).all()
    assert (weights[0] < 1).all() == ("mixup=True" in header)
    assert rates[-1, -1] < rates.max() / 5
    warms_up = "cosine=True" in header or "use_rec=" in header
    assert (rates[0, 0] < rates[0, -1]) == warms_up


@pytest.mark.parametrize(
    "name", ["cifar_head_resnet", "cifar_first_resnet", "cifar_release_first_resnet", "segmentation"]
)
def test_a_better_file_follows_the_best_one_within_a_run(name):
    golden = golden_of(name)
    scores = golden["rounded"]["figures"]["val"]
    better = sum(score > max([0.0, *scores[:epoch]]) for epoch, score in enumerate(scores))
    best = [path for path in golden["engine_free"]["files"] if path.endswith("-best.params")]
    assert better > 1
    assert len(best) == (1 if "--keep-one-best" in golden["command"] else better)
