"""Peak memory of a training step: `python -m benchmarks.peak MODEL BATCH literal|ours` prints MB."""

from __future__ import annotations

import sys
from pathlib import Path

STEPS = 3


def peak() -> float:
    """The most memory that this process has held so far, in MB."""
    # Not getrusage, which counts what the parent held when it started this process.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(model: str, batch: str, formulation: str) -> None:
    """Train a little, then print the peak."""
    from benchmarks.workloads import seconds, training_step

    take = training_step(model, int(batch), formulation)
    for _ in range(STEPS):
        seconds(take)
    print(peak())


if __name__ == "__main__":
    main(*sys.argv[1:])
