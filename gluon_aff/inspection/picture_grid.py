"""Draw pictures in a grid, like the heat maps in the paper's Fig. 6."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

# In inches
SIDE = 1.8  # of a picture
GAP = 0.06
LINE = 0.14  # height of a line of text
MARGIN = 0.08
CHARACTERS = 26  # that fit in the width of a picture
TEXT_SIZE = 8  # points
CROSS_SIZE = 20
CROSS = "#d00000"


@dataclass(frozen=True)
class Cell:
    """One picture of the grid.

    Attributes:
        pixels: the picture, uint8 (H, W, 3).
        text: text below the picture.
        crossed: mark the picture with a red cross.
    """

    pixels: np.ndarray
    text: str = ""
    crossed: bool = False


def draw_grid(titles: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Any:
    """Return a Matplotlib figure with rows of pictures below the titles of their columns.

    Long texts are wrapped, and the pixels of a picture are drawn without interpolation.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    head = LINE * max(_wrapped(title).count("\n") + 1 for title in titles)
    foot = LINE * max(_wrapped(cell.text).count("\n") + 1 for row in rows for cell in row)
    width = 2 * MARGIN + len(titles) * (SIDE + GAP) - GAP
    height = 2 * MARGIN + head + len(rows) * (SIDE + foot + GAP)
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    for number, row in enumerate(rows):
        bottom = height - MARGIN - head - number * (SIDE + foot + GAP) - SIDE
        for column, cell in enumerate(row):
            left = MARGIN + column * (SIDE + GAP)
            axes = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
            if number == 0:
                axes.set_title(_wrapped(titles[column]), fontsize=TEXT_SIZE, pad=3, parse_math=False)
            _draw(axes, cell)
    return figure


def _draw(axes: Any, cell: Cell) -> None:
    from matplotlib.patheffects import withStroke

    axes.imshow(cell.pixels, interpolation="nearest", aspect="auto")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    colour = CROSS if cell.crossed else "black"
    axes.set_xlabel(_wrapped(cell.text), fontsize=TEXT_SIZE, labelpad=3, color=colour, parse_math=False)
    if cell.crossed:
        outline = [withStroke(linewidth=3, foreground="white")]
        axes.text(
            0.97, 0.97, "\N{MULTIPLICATION SIGN}", color=CROSS, fontsize=CROSS_SIZE, weight="bold",
            ha="right", va="top", transform=axes.transAxes, path_effects=outline,
        )  # fmt: skip


def _wrapped(text: str) -> str:
    return "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, CHARACTERS) or [""])
