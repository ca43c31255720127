"""Define the width, the text sizes and the colours of the pictures, for light and for dark pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WIDTH = 720  # points, the unit of all lengths
SMALL, NORMAL, LARGE = 11, 12, 15  # text sizes in points


@dataclass(frozen=True)
class Theme:
    """Holds the colours for light or for dark pages.

    They are shades of colours from the palette of Okabe and Ito, which the colour-blind can tell apart.
    """

    name: str
    ink: str
    faint: str
    fill: str
    blue: str
    orange: str
    green: str


THEMES = (
    Theme("light", "#1f2328", "#59636e", "#f0f3f6", "#0072b2", "#bc4c00", "#00795a"),
    Theme("dark", "#e6edf3", "#9198a1", "#1c2430", "#56b4e9", "#ef9a3d", "#2fc09a"),
)


def new_figure(height: float, width: float = WIDTH) -> Any:
    """Return an empty figure of the given size in points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    FigureCanvasAgg(figure)
    return figure


def whole_axes(figure: Any) -> Any:
    """Return new axes that cover the whole figure, with coordinates in points from the top left corner."""
    axes = figure.add_axes((0, 0, 1, 1))
    width, height = 72 * figure.get_size_inches()
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return axes


def colour_axes(axes: Any, theme: Theme) -> None:
    """Give the axes, their labels and their grid the colours of the theme."""
    axes.set_facecolor("none")
    axes.tick_params(colors=theme.ink)
    for label in (axes.title, axes.xaxis.label, axes.yaxis.label):
        label.set_color(theme.ink)
    axes.spines[:].set_color(theme.faint)
    axes.grid(color=theme.faint, alpha=0.25)
