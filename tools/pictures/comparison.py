"""Draw the curves of two published runs in one picture."""

from __future__ import annotations

from typing import Any

from gluon_aff.published import curve, published_runs
from gluon_aff.results.compare import comparable
from gluon_aff.results.plots import draw_runs
from tools.pictures.theme import WIDTH, Theme, colour_axes

# These runs have the same settings, but start from different weights
RUNS = {
    "aff_resnext47_32x4d_superclass_run1": "run 1, from scratch",
    "aff_resnext47_32x4d_superclass_run3": "run 3, from the best weights of run 2",
}


def draw_comparison(theme: Theme) -> Any:
    """Draw two published runs in the same way as `gluon-aff compare --plot` draws a logged run and a published one."""
    runs = published_runs()
    columns = {}
    for name, start in RUNS.items():
        best = 100 * runs[name].best["val_acc"]
        columns[f"{start}: {best:.2f} % at best"] = comparable(curve(runs[name]))
    figure = draw_runs(columns)
    figure.set_figwidth(WIDTH / 72)
    for axes in figure.axes:
        for line, colour in zip(axes.lines, (theme.blue, theme.orange)):
            line.set_color(colour)
        colour_axes(axes, theme)
    first, *_ = figure.axes
    first.legend(labelcolor=theme.ink, framealpha=0, loc="lower right")
    return figure
