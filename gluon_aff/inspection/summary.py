"""Print the layers, parameters and multiply-adds of a network."""

from __future__ import annotations

from typing import List

from gluon_aff.engines import LayerCount

TITLES = {
    "multiply_adds": "multiply-adds",
    "original_count": "FLOPs as original",
    "thop_count": "FLOPs as thop",
}


def format_counts(counts: List[LayerCount], column: str = "multiply_adds") -> str:
    """Return a table of layers with totals as text.

    Args:
        counts: the layers.
        column: how operations are counted, a key of `TITLES`: the multiply-adds, or what the summary of the original
            or the profiler thop prints as FLOPs.
    """
    title = TITLES[column]
    width = max(len(c.name) for c in counts)
    lines = [f"{'layer':<{width}}  {'kind':<10} {'output':<18} {'parameters':>12} {title:>18}"]
    lines += [
        f"{c.name:<{width}}  {c.kind:<10} {'x'.join(map(str, c.output_shape)):<18} {c.trainable + c.fixed:>12,} "
        f"{getattr(c, column):>18,}"
        for c in counts
        if c.trainable or c.fixed or getattr(c, column)
    ]
    trainable, fixed = sum(c.trainable for c in counts), sum(c.fixed for c in counts)
    return "\n".join(
        [
            *lines,
            f"trainable parameters: {trainable:,}",
            f"values in the file, with BatchNorm's running statistics and constant gammas: {trainable + fixed:,}",
            f"{title} at batch 1: {sum(getattr(c, column) for c in counts):,}",
        ]
    )
