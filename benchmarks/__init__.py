"""Speed and memory of the package, held against a literal formulation of the original: `python -m benchmarks`."""
