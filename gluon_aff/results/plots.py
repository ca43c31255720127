"""Curves of one or two runs as a picture."""

from __future__ import annotations

from typing import Any, Dict, Mapping

import numpy as np

from gluon_aff.files import replacing
from gluon_aff.results.compare import COLUMN_NAMES

# Readable for the colour-blind (Okabe and Ito)
COLOURS = ("#0072b2", "#e69f00")
STYLES = ("-", "--")
WIDTH = 7.0  # inches
PANELS = (("top1_accuracy", "val_iou"), ("loss", "train_rmse", "train_acc"), ("lr",))


def draw_runs(runs: Mapping[str, Dict[str, np.ndarray]]) -> Any:
    """Return a Matplotlib figure of accuracy or IoU, loss (or the training metric) and learning rate over epochs.

    Args:
        runs: columns by legend, as `results.compare.comparable` gives them; one or two runs.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = [next(filter(None, (_shared(name, runs) for name in names)), None) for names in PANELS]
    shown = [name for name in panels if name]
    figure = Figure(figsize=(WIDTH, 2.6 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    for index, name in enumerate(shown):
        axes = figure.add_subplot(len(shown), 1, index + 1)
        for (legend, columns), colour, style in zip(runs.items(), COLOURS, STYLES):
            marker = "o" if len(columns["epoch"]) == 1 else None
            axes.plot(columns["epoch"], columns[name], style, color=colour, label=legend, lw=1.2, marker=marker)
        axes.set(xlabel="epoch", ylabel=COLUMN_NAMES[name])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        if index == 0:
            axes.legend(framealpha=0, loc="lower right")
    return figure


def save_png(figure: Any, path: str) -> None:
    """Write the figure to the PNG file `path`, whole or not at all."""
    with replacing(path) as partial:
        draw_png(figure, partial)


def draw_png(figure: Any, file: str) -> None:
    """Write the figure to a PNG file of any name, which one of those in `gluon_aff.files` gave."""
    figure.savefig(file, format="png", dpi=150)


def _shared(name: str, runs: Mapping[str, Dict[str, np.ndarray]]) -> str:
    """`name` if all runs have that column."""
    return name if all(name in columns for columns in runs.values()) else ""
