"""Compare speed and memory of the package with a literal formulation of the original: `python -m benchmarks`."""
