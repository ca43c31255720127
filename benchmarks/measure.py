"""Two ways to do the same, measured in turns."""

from __future__ import annotations

import csv
import statistics
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Callable, Dict, List, Sequence, Tuple

from gluon_aff.files import replacing
from gluon_aff.results.text import columns_text

WARM_UP = 2  # measurements that are thrown away: MXNet traces the network, oneDNN compiles its kernels

Measure = Callable[[], float]


@dataclass(frozen=True)
class Benchmark:
    """What is measured.

    Attributes:
        name: what `--only` takes.
        about: what is done, in a few words.
        unit: of the figures; more is better if it ends in "/s", and less otherwise.
        target: what the project set out to reach, as text.
        make: returns what measures the literal formulation once, and what measures ours.
        warm_up: measurements of each to throw away first.
        quick: whether a quick run has it: one row of each kind, the one that takes least.
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
    """Medians in the benchmark's unit, and how many times better ours is."""

    benchmark: Benchmark
    literal: float
    ours: float
    repeats: int

    @property
    def ratio(self) -> float:
        """Above 1 where ours is better."""
        better, worse = (self.ours, self.literal) if self.benchmark.unit.endswith("/s") else (self.literal, self.ours)
        return better / worse


def run(benchmark: Benchmark, repeats: int) -> Result:
    """Measure both `repeats` times, in turns, so that whatever else the machine does hits both."""
    from tqdm import tqdm  # which a machine that measures its GPU need not have

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
    """The results as text."""
    rows = [("benchmark", "literal", "ours", "", "ratio", "target")]
    rows += [
        (r.benchmark.name, _figure(r.literal), _figure(r.ours), r.benchmark.unit, f"{r.ratio:.2f}", r.benchmark.target)
        for r in results
    ]
    return columns_text(rows, right=(1, 2, 4))


def write_csv(results: Sequence[Result], path: str, kind: str, machine: Dict[str, str]) -> None:
    """Write a row for each result to a new file; `kind` says in each whether the run was full or quick.

    Raises:
        GluonAFFError: it cannot be written.
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
    """Three significant digits, or all before the decimal point."""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
