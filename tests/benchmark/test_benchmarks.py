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
from gluon_aff.gluon.inspection.memory import random_images, step

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


@pytest.fixture
def two_rows(monkeypatch, tmp_path):
    """A program of two rows, of which a quick run has one, in an empty folder; names of what was measured."""
    measured = []
    monkeypatch.chdir(tmp_path)
    made = tuple(
        Benchmark(name, "", "ms", "", lambda name=name: (lambda: measured.append(name) or 8.0, lambda: 2.0), 0, quick)
        for name, quick in (("slow", False), ("short", True))
    )
    monkeypatch.setattr(program, "BENCHMARKS", made)
    return measured


def rows_in(path):
    with path.open(newline="") as file:
        return [(row["benchmark"], row["repeats"], row["run"]) for row in csv.DictReader(file)]


def test_a_quick_run_says_so_and_leaves_the_full_table_alone(two_rows, tmp_path, capsys):
    assert program.main([]) == 0
    assert "quick" not in capsys.readouterr().out
    assert two_rows == ["slow"] * 7 + ["short"] * 7
    full = tmp_path / "build" / "benchmarks.csv"
    before = full.read_bytes()
    two_rows.clear()
    assert program.main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert two_rows == ["short"] * 3
    heading = lines.index(program.QUICK_HEADING)
    assert "quick run" in lines[heading]
    assert "do not quote it in docs/performance.md" in lines[heading]
    assert lines[heading + 2].startswith("benchmark ")  # the table itself
    assert full.read_bytes() == before
    assert rows_in(full) == [("slow", "7", "full"), ("short", "7", "full")]
    assert rows_in(full.with_name("benchmarks-quick.csv")) == [("short", "3", "quick")]


def test_a_quick_run_does_what_else_is_asked_for_but_never_overwrites_the_full_table(two_rows, tmp_path, capsys):
    assert program.main(["--quick", "--only", "slow", "--repeats", "2", "--csv", "mine.csv"]) == 0
    assert rows_in(tmp_path / "mine.csv") == [("slow", "2", "quick")]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        program.main(["--quick", "--csv", "./build/benchmarks.csv"])
    assert stop.value.code == 2
    assert "a quick run must not replace the full table" in capsys.readouterr().err
    assert not (tmp_path / "build").exists()


def test_a_quick_run_has_a_row_of_each_kind():
    kinds = [benchmark.name.split("-")[0] for benchmark in rows.BENCHMARKS]
    quick = [benchmark.name.split("-")[0] for benchmark in rows.BENCHMARKS if benchmark.quick]
    assert set(quick) == set(kinds) == {"step", "command", "infer", "onnx", "pipeline", "help", "memory"}
    assert len(quick) < len(kinds)


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
