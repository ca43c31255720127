"""Print the peak memory of a few training steps in MiB: `python -m benchmarks.peak MODEL BATCH literal|ours`."""

from __future__ import annotations

import sys

from gluon_aff.machine.resources import peak_memory

STEPS = 3


def main(model: str, batch: str, formulation: str) -> None:
    """Train for a few steps, then print the peak memory of this process."""
    from benchmarks.workloads import seconds, training_step

    take = training_step(model, int(batch), formulation)
    for _ in range(STEPS):
        seconds(take)
    print(peak_memory())


if __name__ == "__main__":
    main(*sys.argv[1:])
