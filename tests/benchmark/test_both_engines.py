"""`python -m benchmarks engines`, on a small network."""

import csv

import numpy as np
import pytest

from benchmarks import both_engines
from benchmarks.gpu import random_images
from gluon_aff.models import model_record

SMALL = model_record("resnet20_b1")


def test_all_infer_the_same():
    works = both_engines.inferences(SMALL, random_images(3, 32))
    assert {*works, "PyTorch bfloat16"} == set(both_engines.INFERENCE)  # which not every processor has
    expected = works["MXNet"]()
    for name, work in works.items():
        rounding = 0.1 if name == "PyTorch bfloat16" else 1e-5
        np.testing.assert_allclose(work(), expected, rtol=0, atol=rounding * np.abs(expected).max(), err_msg=name)


def test_the_shortest_of_times_in_turns_behind_the_warm_up():
    calls, ticks = [], iter([0, 90, 200, 205, 205, 208, 300, 302, 302, 307])
    works = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
    assert both_engines.measured(works, 2, lambda: next(ticks)) == {"a": 2000, "b": 3000}
    assert calls == ["a", "b"] * 3


@pytest.mark.parametrize("flags", [(), ("--processor-time",)])
def test_a_row_for_each_batch_and_one_for_a_step(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(both_engines, "model_record", lambda name: SMALL)
    monkeypatch.setattr(both_engines, "STEP_BATCHES", {32: 2})
    monkeypatch.setattr(both_engines, "INFERENCE_BATCHES", (1, 2))
    table = tmp_path / "engines.csv"
    assert both_engines.main(["--only", "aff_resnet50", "--repeats", "1", "--csv", str(table), *flags]) == 0
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows] == ["infer 1", "infer 2", "step 2"]
    assert {row["time"] for row in rows} == {"processor" if flags else "clock"}
    assert all(float(row[name]) > 0 for row in rows[:2] for name in ("MXNet fused", "PyTorch folded", "ONNX Runtime"))
    assert all(float(rows[2][name]) > 0 for name in ("MXNet", "PyTorch"))
    printed = capsys.readouterr()
    assert "versions: " in printed.out
    assert f"written: {table}" in printed.err
