"""Draw block diagrams."""

from __future__ import annotations

from typing import Any, Sequence, Tuple

from tools.pictures.theme import LARGE, NORMAL, SMALL, Theme


class Diagram:
    """Draws a block diagram of boxes, operators in circles and arrows between them.

    All coordinates are in points from the top left corner.
    """

    RADIUS = 10

    def __init__(self, axes: Any, theme: Theme) -> None:
        self.axes = axes
        self.theme = theme

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write a text with its middle at x, y, or its left or right end if `ha` says so."""
        style = {"ha": "center", "va": "center_baseline", "fontsize": NORMAL, "color": self.theme.ink, **style}
        self.axes.text(x, y, text, **style)

    def heading(self, y: float, title: str, equation: str) -> None:
        """Write the name of a module and its equation beside it."""
        self.text(16, y, title, ha="left", fontsize=LARGE, weight="bold")
        self.text(100, y, equation, ha="left", fontsize=LARGE - 1)

    def frame(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        """Draw a rectangle with round corners and with its top left corner at x, y."""
        from matplotlib.patches import FancyBboxPatch

        rounded = "round,pad=0,rounding_size=6"
        self.axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=rounded, **style))

    def box(self, x: float, y: float, width: float, text: str) -> None:
        """Draw a layer as a box with its left side at x and its middle at height y."""
        self.frame(x, y - 18, width, 36, fc=self.theme.fill, ec=self.theme.faint, lw=1)
        self.text(x + width / 2, y, text, fontsize=SMALL, va="center", linespacing=1.25)

    def attention(self, x: float, y: float, width: float, text: str) -> None:
        """Draw the weights of an MS-CAM as a box with its left side at x and its middle at height y."""
        self.frame(x, y - 20, width, 40, fc=self.theme.fill, ec=self.theme.green, lw=1.6)
        self.text(x + width / 2, y, text, fontsize=LARGE, va="center")

    def circle(self, x: float, y: float, sign: str) -> None:
        """Draw an operator, `+` or `x`, in a circle."""
        from matplotlib.patches import Circle

        self.axes.add_patch(Circle((x, y), self.RADIUS, fc=self.theme.fill, ec=self.theme.ink, lw=1.3, zorder=3))
        reach = 0.6 * self.RADIUS
        straight, slanting = ((reach, 0), (0, reach)), ((0.7 * reach, 0.7 * reach), (0.7 * reach, -0.7 * reach))
        for dx, dy in straight if sign == "+" else slanting:
            self.line([(x - dx, y - dy), (x + dx, y + dy)], zorder=4, lw=1.5)

    def line(self, points: Sequence[Tuple[float, float]], colour: str = "", **style: Any) -> None:
        """Draw a line through the points."""
        style = {"lw": 1.5, "solid_capstyle": "round", "zorder": 1, **style}
        self.axes.plot(*zip(*points), color=colour or self.theme.ink, **style)

    def arrow(self, points: Sequence[Tuple[float, float]], colour: str = "", **style: Any) -> None:
        """Draw a line through the points with an arrowhead at its end."""
        (before_x, before_y), (x, y) = points[-2:]
        length = ((x - before_x) ** 2 + (y - before_y) ** 2) ** 0.5
        dx, dy = (x - before_x) / length, (y - before_y) / length
        self.line([*points[:-1], (x - 5 * dx, y - 5 * dy)], colour, solid_joinstyle="round", **style)
        corners = [
            (x, y),
            (x - 7 * dx + 3.5 * dy, y - 7 * dy - 3.5 * dx),
            (x - 7 * dx - 3.5 * dy, y - 7 * dy + 3.5 * dx),
        ]
        self.axes.fill(*zip(*corners), color=colour or self.theme.ink, lw=0, zorder=2)

    def output(self, x: float, y: float, text: str) -> None:
        """Draw the arrow that leaves the module, and the name of the output."""
        self.arrow([(x, y), (x + 26, y)])
        self.text(x + 38, y, text, fontsize=LARGE)

    def dot(self, x: float, y: float, colour: str = "") -> None:
        """Draw the point at which a line branches."""
        self.axes.plot(x, y, "o", ms=4.5, color=colour or self.theme.ink, mew=0, zorder=2)
