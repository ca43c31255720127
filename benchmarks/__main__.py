"""`python -m benchmarks`, which `make bench` runs."""

from __future__ import annotations

import argparse
import os
import sys
from typing import List, Optional

from benchmarks.machine import description
from benchmarks.measure import run, table, write_csv
from benchmarks.rows import BENCHMARKS
from gluon_aff.commands import positive
from gluon_aff.errors import GluonAFFError
from gluon_aff.machine.threads import use_all_cores

DESCRIPTION = """\
Measure speed and memory of the package against a literal formulation of the
original: the same networks with global pooling and broadcast operators, the
same augmentation image by image, --help after the imports of the original's
scripts (benchmarks/literal.py).

Both are measured in turns, in one run, after a warm-up. What is printed are
their medians and the ratio: how many times better ours is. The machine should
have nothing else to do; ratios suffer less from company than times.

All of them take from 20 to 40 minutes on two cores. --quick takes a few minutes: one
row of each kind, 3 measurements of each. It shows that all is in order, and no more.

`python -m benchmarks gpu` measures PyTorch on a GPU instead, against the rates of the
published logs, and `python -m benchmarks engines` the engines side by side on a CPU;
they have options of their own (--help).
"""
REPEATS, QUICK_REPEATS = 7, 3
TABLE, QUICK_TABLE = "build/benchmarks.csv", "build/benchmarks-quick.csv"
QUICK_HEADING = "A quick run: few rows and few measurements of each, not to be quoted in docs/performance.md."


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    width = max(len(benchmark.name) for benchmark in BENCHMARKS)
    listing = "\n".join(
        f"  {b.name:<{width}} {'*' if b.quick else ' '} {b.about} ({b.unit}; target {b.target})" for b in BENCHMARKS
    )
    result = argparse.ArgumentParser(
        "python -m benchmarks",
        description=DESCRIPTION,
        epilog=f"benchmarks (* with --quick too):\n{listing}\n\nexamples:\n  python -m benchmarks\n"
        "  python -m benchmarks --only step-resnet32 pipeline --repeats 15 --csv ''",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--only",
        nargs="+",
        choices=[b.name for b in BENCHMARKS],
        metavar="NAME",
        help="these benchmarks (default: all)",
    )
    result.add_argument(
        "--quick", action="store_true", help="a row of each kind, few measurements; writes a table of its own"
    )
    result.add_argument(
        "--repeats",
        type=positive,
        metavar="N",
        help=f"measurements of each (default: {REPEATS}; with --quick: {QUICK_REPEATS})",
    )
    result.add_argument(
        "--csv",
        metavar="FILE",
        help=f"write the table there too (default: {TABLE}; with --quick: {QUICK_TABLE}; '' for no file)",
    )
    return result


def _options(argv: List[str]) -> argparse.Namespace:
    """Options, with what a quick or a full run has where nothing is said."""
    arguments = parser()
    options = arguments.parse_args(argv)
    quick = options.quick
    options.only = options.only or [each.name for each in BENCHMARKS if each.quick or not quick]
    options.repeats = options.repeats or (QUICK_REPEATS if quick else REPEATS)
    if options.csv is None:
        options.csv = QUICK_TABLE if quick else TABLE
    if quick and os.path.abspath(options.csv) == os.path.abspath(TABLE):
        arguments.error(f"--csv {options.csv}: a quick run does not take the place of the full table")
    return options


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line; return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["gpu"]:
        from benchmarks.gpu import main as measure_gpu

        return measure_gpu(arguments[1:])
    if arguments[:1] == ["engines"]:
        from benchmarks.both_engines import main as measure_engines

        use_all_cores()
        return measure_engines(arguments[1:])
    options = _options(arguments)
    use_all_cores()
    machine = description()
    for name, value in machine.items():
        print(f"{name}: {value}")
    results = []
    for benchmark in BENCHMARKS:
        if benchmark.name in options.only:
            results.append(run(benchmark, options.repeats))
            print(f"{benchmark.name}: {results[-1].ratio:.2f}", file=sys.stderr)
    heading = f"{QUICK_HEADING}\n\n" if options.quick else ""
    print(f"\n{heading}{table(results)}")
    try:
        if options.csv:
            write_csv(results, options.csv, "quick" if options.quick else "full", machine)
            print(f"\nwritten: {options.csv}", file=sys.stderr)
    except GluonAFFError as error:
        print(f"python -m benchmarks: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
