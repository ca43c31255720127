"""Measure two ways of doing the same, alternately."""

from __future__ import annotations

import csv
import statistics
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Callable, Dict, List, Sequence, Tuple

from gluon_aff.files import replacing
from gluon_aff.results.text import columns_text

WARM_UP = 2  # measurements that do not count, in which MXNet traces the network and oneDNN compiles its kernels

Measure = Callable[[], float]


@dataclass(frozen=True)
class Benchmark:
    """Describes a benchmark.

    Attributes:
        name: name for `--only`.
        about: what is measured, in a few words.
        unit: unit of the figures; more is better if it ends in "/s", and less otherwise.
        target: goal of the project, as text.
        make: returns two functions, which measure the literal formulation and ours once.
        warm_up: number of measurements of each that do not count.
        quick: True if a quick run includes it, as the fastest benchmark of its kind.
    """

    name: str
    about: str
    unit: str
    target: str
    make: Callable[[], Tuple[Measure, Measure]]
    warm_up: int = WARM_UP
    quick: bool = False


@dataclass(frozen=True)
class Result:
    """Holds the medians of a benchmark in its unit, for the literal formulation and ours."""

    benchmark: Benchmark
    literal: float
    ours: float
    repeats: int

    @property
    def ratio(self) -> float:
        """Return how many times better ours is; below 1 if it is worse."""
        better, worse = (self.ours, self.literal) if self.benchmark.unit.endswith("/s") else (self.literal, self.ours)
        return better / worse


def run(benchmark: Benchmark, repeats: int) -> Result:
    """Measure both formulations `repeats` times, alternately, so that other work of the machine disturbs both."""
    from tqdm import tqdm  # here because `python -m benchmarks gpu` imports this module and must not need tqdm

    measures = benchmark.make()
    for measure in measures * benchmark.warm_up:
        measure()
    figures: Tuple[List[float], List[float]] = ([], [])
    for _ in tqdm(range(repeats), benchmark.name, leave=False, disable=None):
        for measure, taken in zip(measures, figures):
            taken.append(measure())
    literal, ours = map(statistics.median, figures)
    return Result(benchmark, literal, ours, repeats)


def table(results: Sequence[Result]) -> str:
    """Return the results as a table."""
    rows = [("benchmark", "literal", "ours", "", "ratio", "target")]
    rows += [
        (r.benchmark.name, _figure(r.literal), _figure(r.ours), r.benchmark.unit, f"{r.ratio:.2f}", r.benchmark.target)
        for r in results
    ]
    return columns_text(rows, right=(1, 2, 4))


def write_csv(results: Sequence[Result], path: str, kind: str, machine: Dict[str, str]) -> None:
    """Write the results to a new CSV file.

    Args:
        results: the results.
        path: file to write.
        kind: `full` or `quick`, which each row states.
        machine: description of the machine, which each row repeats.

    Raises:
        GluonAFFError: the file cannot be written.
    """
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["benchmark", "about", "literal", "ours", "unit", "ratio", "target", "repeats", "run", "date", *machine]
        )
        for r in results:
            row = [
                r.benchmark.name,
                r.benchmark.about,
                r.literal,
                r.ours,
                r.benchmark.unit,
                r.ratio,
                r.benchmark.target,
            ]
            writer.writerow([*row, r.repeats, kind, date, *machine.values()])


def _figure(value: float) -> str:
    """Format a figure with three significant digits, or all digits before the decimal point if there are more."""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
