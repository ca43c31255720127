"""Peak memory of a training step: `python -m benchmarks.peak MODEL BATCH literal|ours` prints MiB."""

from __future__ import annotations

import sys

from gluon_aff.machine.resources import peak_memory

STEPS = 3


def main(model: str, batch: str, formulation: str) -> None:
    """Train a little, then print the peak."""
    from benchmarks.workloads import seconds, training_step

    take = training_step(model, int(batch), formulation)
    for _ in range(STEPS):
        seconds(take)
    print(peak_memory())


if __name__ == "__main__":
    main(*sys.argv[1:])
