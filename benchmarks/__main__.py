"""`python -m benchmarks`, which `make bench` runs."""

from __future__ import annotations

import argparse
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
"""


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    width = max(len(benchmark.name) for benchmark in BENCHMARKS)
    listing = "\n".join(f"  {b.name:<{width}}  {b.about} ({b.unit}; target {b.target})" for b in BENCHMARKS)
    result = argparse.ArgumentParser(
        "python -m benchmarks",
        description=DESCRIPTION,
        epilog=f"benchmarks:\n{listing}\n\nexamples:\n  python -m benchmarks\n"
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
    result.add_argument("--repeats", type=positive, default=7, metavar="N", help="measurements of each (default: 7)")
    result.add_argument(
        "--csv",
        default="build/benchmarks.csv",
        metavar="FILE",
        help="write the table there too (default: %(default)s; '' for no file)",
    )
    return result


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line; return its exit code."""
    options = parser().parse_args(argv)
    use_all_cores()
    machine = description()
    for name, value in machine.items():
        print(f"{name}: {value}")
    results = []
    for benchmark in BENCHMARKS:
        if not options.only or benchmark.name in options.only:
            results.append(run(benchmark, options.repeats))
            print(f"{benchmark.name}: {results[-1].ratio:.2f}", file=sys.stderr)
    print(f"\n{table(results)}")
    try:
        if options.csv:
            write_csv(results, options.csv, machine)
            print(f"\nwritten: {options.csv}", file=sys.stderr)
    except GluonAFFError as error:
        print(f"python -m benchmarks: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
