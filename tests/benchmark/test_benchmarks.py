"""The benchmark program, on workloads of no size."""

import csv
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import pytest
from mxnet.gluon import nn

from benchmarks import __main__ as program
from benchmarks import machine, peak, rows, workloads
from benchmarks.measure import Benchmark, Result, run, table
from gluon_aff.inspection.memory import random_images, step

ROOT = Path(__file__).parents[2]


def counting(figures, calls, name):
    def measure():
        calls.append(name)
        return figures[calls.count(name) - 1]

    return measure


def test_median_of_measurements_in_turns_after_the_warm_up():
    calls = []
    measures = counting([99, 99, 6, 30, 10], calls, "literal"), counting([99, 99, 5, 4, 90], calls, "ours")
    result = run(Benchmark("x", "", "ms", "", lambda: measures), 3)
    assert calls == ["literal", "ours"] * 5
    assert (result.literal, result.ours, result.repeats) == (10, 5, 3)
    assert result.ratio == 2


@pytest.mark.parametrize(("unit", "ratio"), [("ms", 0.25), ("MB", 0.25), ("s", 0.25), ("images/s", 4)])
def test_ratio_is_above_1_where_ours_is_better(unit, ratio):
    assert Result(Benchmark("x", "", unit, "", tuple), 100, 400, 7).ratio == ratio


def test_table():
    results = [
        Result(Benchmark("step", "", "ms", ">= 1.9", tuple), 2912.4, 1456.2, 7),
        Result(Benchmark("help", "", "s", "< 0.3 s", tuple), 2.345, 0.2345, 7),
    ]
    assert table(results).splitlines() == [
        "benchmark  literal   ours      ratio  target",
        "step         2,912  1,456  ms   2.00  >= 1.9",
        "help          2.35  0.234  s   10.00  < 0.3 s",
    ]


def test_program_prints_the_machine_first_and_writes_csv(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(machine.THREADS, "1")
    made = tuple(
        Benchmark(name, f"about {name}", "ms", ">= 2", lambda: (lambda: 8.0, lambda: 2.0)) for name in ("one", "two")
    )
    monkeypatch.setattr(program, "BENCHMARKS", made)
    path = tmp_path / "new" / "results.csv"
    assert program.main(["--only", "two", "--repeats", "1", "--csv", str(path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed[:4]] == ["processor", "cores", "OMP_NUM_THREADS", "versions"]
    assert printed[-1].split() == ["two", "8", "2", "ms", "4.00", ">=", "2"]
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["benchmark"], row["literal"], row["ours"], row["ratio"]) == ("two", "8.0", "2.0", "4.0")
    assert (row["repeats"], row["OMP_NUM_THREADS"], row["target"]) == ("1", "1", ">= 2")


def test_csv_that_cannot_be_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(program, "BENCHMARKS", (Benchmark("x", "", "ms", "", lambda: (lambda: 1.0, lambda: 1.0)),))
    assert program.main(["--repeats", "1", "--csv", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err.splitlines()[-1]


def test_unknown_benchmark(capsys):
    with pytest.raises(SystemExit) as stop:
        program.main(["--only", "nothing"])
    assert stop.value.code == 2
    assert "step-resnet32" in capsys.readouterr().err


def test_help_lists_the_benchmarks_and_imports_no_mxnet():
    command = [sys.executable, "-X", "importtime", "-m", "benchmarks", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for benchmark in rows.BENCHMARKS:
        assert f"  {benchmark.name} " in result.stdout
        assert f"target {benchmark.target}" in result.stdout
    assert "mxnet" not in result.stderr


def test_step_trains():
    net = nn.Dense(2, in_units=3 * 4 * 4)
    net.initialize(mx.init.Zero())
    take = step(net, random_images(2, 4, mx.cpu()), mx.nd.array([0, 1]))
    assert workloads.milliseconds(take)() > 0
    assert net.weight.data().asnumpy().any()


@pytest.mark.parametrize("formulation", rows.BOTH)
def test_training_step_and_inference_of_a_network(formulation, monkeypatch):
    def small(model, **kwargs):
        return rows_of_blocks(model, blocks=1, channel_times=1, **kwargs)

    rows_of_blocks = workloads.get_model
    monkeypatch.setattr(workloads, "get_model", small)
    assert workloads.seconds(workloads.training_step("aff_resnet32_cifar100", 2, formulation)) > 0
    logits = workloads.inference("aff_resnet32_cifar100", 2, formulation)()
    assert logits.shape == (2, 100)


@pytest.mark.parametrize("formulation", rows.BOTH)
@pytest.mark.parametrize("auto_augment", [False, True])
def test_pipeline_is_a_rate(auto_augment, formulation, monkeypatch):
    monkeypatch.setattr(workloads, "BATCH", 4)
    monkeypatch.setattr(workloads, "seconds", lambda work: work() or 0.5)
    assert workloads.pipeline(auto_augment, formulation)() == 4 * workloads.BATCHES / 0.5


def test_start_of_the_command_line():
    assert rows._start(rows.HELP["ours"]) > 0


def test_peak_of_a_training_step(monkeypatch, capsys):
    taken = []
    monkeypatch.setattr(workloads, "training_step", lambda *what: lambda: taken.append(what))
    peak.main("aff_resnet50", "8", "literal")
    assert taken == [("aff_resnet50", 8, "literal")] * peak.STEPS
    assert float(capsys.readouterr().out) > 5
