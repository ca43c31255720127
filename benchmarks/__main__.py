"""Run the benchmarks: `python -m benchmarks`, or `make bench`."""

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
Compare speed and memory of the package with a literal formulation of the
original (benchmarks/literal.py): the same networks with global pooling and
broadcast operators, the same augmentation image by image, and --help after
the imports of the original's scripts. Engine: MXNet.

Both are measured alternately in one run, after a warm-up. The table has their
medians, and the ratio, which says how many times better ours is. The machine
should do nothing else meanwhile; other work disturbs times more than ratios.

All benchmarks take 20 to 40 minutes on two cores. --quick takes a few minutes:
it makes 3 measurements of one benchmark of each kind, and only shows that
everything works.

`python -m benchmarks gpu` measures PyTorch on a GPU, and compares it with the
speeds in the published logs. `python -m benchmarks engines` compares the engines
on a CPU. Both have options of their own (--help).
"""
REPEATS, QUICK_REPEATS = 7, 3
TABLE, QUICK_TABLE = "build/benchmarks.csv", "build/benchmarks-quick.csv"
QUICK_HEADING = "A quick run with few rows and few measurements: do not quote it in docs/performance.md."


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
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
        help="run only these benchmarks (default: all)",
    )
    result.add_argument(
        "--quick", action="store_true", help="make few measurements of one benchmark of each kind, for a separate table"
    )
    result.add_argument(
        "--repeats",
        type=positive,
        metavar="N",
        help=f"number of measurements of each benchmark (default: {REPEATS}; with --quick: {QUICK_REPEATS})",
    )
    result.add_argument(
        "--csv",
        metavar="FILE",
        help=f"also write the table to this file, or to none if '' (default: {TABLE}; with --quick: {QUICK_TABLE})",
    )
    return result


def _options(argv: List[str]) -> argparse.Namespace:
    """Parse the options, and fill in the defaults of a quick or a full run."""
    arguments = parser()
    options = arguments.parse_args(argv)
    quick = options.quick
    options.only = options.only or [each.name for each in BENCHMARKS if each.quick or not quick]
    options.repeats = options.repeats or (QUICK_REPEATS if quick else REPEATS)
    if options.csv is None:
        options.csv = QUICK_TABLE if quick else TABLE
    if quick and os.path.abspath(options.csv) == os.path.abspath(TABLE):
        arguments.error(f"--csv {options.csv}: a quick run must not replace the full table; name another file")
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
