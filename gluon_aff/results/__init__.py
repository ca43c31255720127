"""Read training logs and compare runs with published ones: comparisons, curves, reports, ablations.

This folder needs no engine.
"""
