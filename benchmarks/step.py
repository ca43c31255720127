"""Print the median time of a training step in ms: `python -m benchmarks.step MODEL BATCH literal|ours`."""

from __future__ import annotations

import statistics
import sys

STEPS = 5
WARM_UP = 2


def main(model: str, batch: str, formulation: str) -> None:
    """Train for a few steps, then print the median time of a step."""
    from benchmarks.workloads import seconds, training_step

    take = training_step(model, int(batch), formulation)
    times = [seconds(take) for _ in range(WARM_UP + STEPS)]
    print(1000 * statistics.median(times[WARM_UP:]))


if __name__ == "__main__":
    main(*sys.argv[1:])
