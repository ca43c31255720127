"""Draw MS-CAM, AFF and iAFF as block diagrams."""

from __future__ import annotations

from typing import Any

from tools.pictures.diagram import Diagram
from tools.pictures.theme import LARGE, Theme, new_figure, whole_axes

LANE = 64  # distance from the middle of a fusion module to the lines of its inputs
GAP = 16  # distance between layers
# Layers of a context branch and their widths (paper, Eq. 1 and 2)
MEAN = ("mean over\n$H \\times W$", 78)
BOTTLENECK = (
    ("$1 \\times 1$ conv\n$C \\to C/r$", 84),
    ("BN\nReLU", 54),
    ("$1 \\times 1$ conv\n$C/r \\to C$", 84),
    ("BN", 40),
)


def draw_fusion_modules(theme: Theme) -> Any:
    """Draw MS-CAM, AFF and iAFF as block diagrams with their equations (paper, Eq. 1 to 5)."""
    figure = new_figure(620)
    diagram = Diagram(whole_axes(figure), theme)
    _draw_mscam(diagram, 20)
    _draw_aff(diagram, 230)
    _draw_iaff(diagram, 435)
    return figure


def _draw_mscam(diagram: Diagram, top: float) -> None:
    green, r = diagram.theme.green, diagram.RADIUS
    middle, below = top + 82, top + 166
    tap, branch, total, sigmoid, product = 50, 82, 560, 588, 662
    diagram.heading(top, "MS-CAM", r"$X' = M(X)\,X, \quad M(X) = \sigma\,(g(X) + L(X))$")
    diagram.frame(64, top + 24, 570, 118, fc="none", ec=green, lw=1.6)
    diagram.text(618, top + 41, "$M$", fontsize=LARGE, color=green)
    diagram.text(24, middle, "$X$", fontsize=LARGE)
    diagram.line([(36, middle), (branch, middle)])
    diagram.dot(branch, middle)
    for name, sign, layers in (("$g$", -1, (MEAN, *BOTTLENECK)), ("$L$", 1, BOTTLENECK)):
        y = middle + 30 * sign
        left = total - 20 - sum(width + GAP for _, width in layers)
        diagram.text(branch + 16, y - 10, name)
        diagram.arrow([(branch, middle), (branch, y), (left, y)])
        for place, (text, width) in enumerate(layers):
            diagram.box(left, y, width, text)
            left += width + GAP
            if place < len(layers) - 1:
                diagram.arrow([(left - GAP, y), (left, y)])
        diagram.arrow([(left - GAP, y), (total, y), (total, middle + sign * r)])
    diagram.circle(total, middle, "+")
    diagram.arrow([(total + r, middle), (sigmoid, middle)])
    diagram.box(sigmoid, middle, 34, r"$\sigma$")
    diagram.arrow([(sigmoid + 34, middle), (product - r, middle)])
    diagram.circle(product, middle, "x")
    diagram.dot(tap, middle)
    diagram.arrow([(tap, middle), (tap, below), (product, below), (product, middle + r)])
    diagram.output(product + r, middle, "$X'$")


def _draw_aff(diagram: Diagram, top: float) -> None:
    theme = diagram.theme
    diagram.heading(top, "AFF", "$Z = M(X + Y)\\,X + (1 - M(X + Y))\\,Y$")
    middle = top + 100
    end = _draw_selection(diagram, _draw_sum(diagram, 62, middle), middle, "M", last=True)
    diagram.output(end, middle, "$Z$")
    legend = (
        ("$X$", "shortcut, or low level", theme.blue),
        ("$Y$", "residual, or high level", theme.orange),
        ("$M$", "weights of MS-CAM, 0 to 1", theme.green),
        ("$g$, $L$", "global and local context", theme.ink),
        ("$r$", "channel reduction ratio", theme.ink),
    )
    for row, (sign, text, colour) in enumerate(legend):
        y = middle - 52 + 26 * row
        diagram.text(470, y, sign, color=colour, fontsize=LARGE)
        diagram.text(500, y, text, ha="left")


def _draw_iaff(diagram: Diagram, top: float) -> None:
    equation = "$Z = M_2(U)\\,X + (1 - M_2(U))\\,Y, \\quad U = M_1(X + Y)\\,X + (1 - M_1(X + Y))\\,Y$"
    diagram.heading(top, "iAFF", equation)
    middle = top + 100
    first = _draw_selection(diagram, _draw_sum(diagram, 62, middle), middle, "M_1")
    diagram.arrow([(first, middle), (first + 52, middle)])
    diagram.text(first + 24, middle - 13, "$U$", fontsize=LARGE)
    end = _draw_selection(diagram, first + 52, middle, "M_2", last=True)
    diagram.output(end, middle, "$Z$")


def _draw_sum(diagram: Diagram, x: float, middle: float) -> float:
    """Draw the inputs X and Y and their sum, and return the x coordinate at which the arrow from the sum ends."""
    r = diagram.RADIUS
    for y, sign, colour in ((middle - LANE, -1, diagram.theme.blue), (middle + LANE, 1, diagram.theme.orange)):
        diagram.text(24, y, "$X$" if sign < 0 else "$Y$", fontsize=LARGE, color=colour)
        diagram.line([(36, y), (x, y)], colour)
        diagram.dot(x, y, colour)
        diagram.arrow([(x, y), (x, middle + sign * r)], colour)
    diagram.circle(x, middle, "+")
    diagram.arrow([(x + r, middle), (x + 38, middle)])
    return x + 38


def _draw_selection(diagram: Diagram, left: float, middle: float, weight: str, last: bool = False) -> float:
    """Draw the sum of X and Y, weighted by an MS-CAM, and return the x coordinate at which the circle of the sum ends.

    Args:
        diagram: diagram to draw in.
        left: x coordinate of the left side of the MS-CAM.
        middle: y coordinate of the middle of the fusion module.
        weight: symbol of the weights.
        last: whether this is the last selection, at which the lines of X and Y end; at an earlier one they branch.
    """
    theme, r = diagram.theme, diagram.RADIUS
    diagram.attention(left, middle, 46, f"${weight}$")
    branch, product = left + 62, left + 132
    diagram.line([(left + 46, middle), (branch, middle)], theme.green)
    diagram.dot(branch, middle, theme.green)
    for sign, colour, text in ((-1, theme.blue, f"${weight}$"), (1, theme.orange, f"$1 - {weight}$")):
        lane, gate = middle + sign * LANE, middle + sign * LANE / 2
        diagram.arrow([(branch, middle), (branch, gate), (product - r, gate)], theme.green)
        diagram.text((branch + product - r) / 2, gate + sign * 12, text, color=theme.green)
        diagram.line([(product if last else 62, lane), (62, lane)], colour)
        if not last:
            diagram.dot(product, lane, colour)
        diagram.arrow([(product, lane), (product, gate + sign * r)], colour)
        diagram.circle(product, gate, "x")
        diagram.arrow([(product, gate - sign * r), (product, middle + sign * r)], colour)
    diagram.circle(product, middle, "+")
    return product + r
