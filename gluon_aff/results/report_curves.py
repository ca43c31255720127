"""Draw the curves of the report page: an SVG picture of each quantity, with the data for the script of the page."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from html import escape
from typing import Dict, List, Sequence, Tuple

import numpy as np

from gluon_aff.results.compare import comparable

QUANTITIES = {
    "top1_error": "Validation: top-1 error (%)",
    "err_top5": "Validation: top-5 error (%)",
    "val_iou": "Validation: IoU (%)",
    "val_niou": "Validation: nIoU (%)",
    "train_error": "Training: top-1 error (%)",
    "train_rmse": "Training: RMSE of the softmax",
    "train_iou": "Training: IoU (%)",
    "loss": "Training: loss",
    "lr": "Learning rate",
}
KINDS = ("this", "published")  # CSS classes of the lines of the logged run and of the published run
# In units of the SVG picture, which are about as large as pixels on a phone
WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 56, 352, 8, 176
LARGEST = 1e30  # larger figures count as missing, so that the length of an axis stays finite


@dataclass(frozen=True)
class Curve:
    """Holds the figures of a quantity over the epochs of a run.

    Attributes:
        name: name of the run.
        kind: CSS class of its lines, which sets their colour.
        epochs: epochs of the figures.
        values: figures, NaN where one is missing.
    """

    name: str
    kind: str
    epochs: np.ndarray
    values: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Return a mask of the epochs that have a figure."""
        return np.isfinite(self.values)


def with_errors(columns: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Return the columns of a logged or published run with shares in percent, and with errors instead of accuracies."""
    columns = comparable(columns)
    errors = {"top1_accuracy": "top1_error", "train_acc": "train_error"}
    return {errors.get(name, name): 100 - column if name in errors else column for name, column in columns.items()}


def curves_html(runs: Dict[str, Dict[str, np.ndarray]]) -> str:
    """Return HTML with a picture of each quantity of the first run, with the curves of all runs that have the quantity.

    Args:
        runs: columns of one or two runs, as `with_errors` returns them, by the name of the run.
    """
    epochs = np.concatenate([columns["epoch"] for columns in runs.values()])
    span = int(epochs.min()), int(epochs.max())
    figures = []
    for quantity, title in QUANTITIES.items():
        curves = [
            Curve(name, kind, columns["epoch"], _finite(columns[quantity]))
            for (name, columns), kind in zip(runs.items(), KINDS)
            if quantity in columns
        ]
        curves = [curve for curve in curves if curve.known.any()]
        if curves and curves[0].kind == KINDS[0]:
            figures.append(_figure(title, curves, span))
    return f'<div class="curves" data-plot="{LEFT} {RIGHT} {WIDTH}">{"".join(figures)}</div>'


def key_html(kind: str) -> str:
    """Return a sample of the lines of `kind` for a legend."""
    return f'<svg class="key" viewBox="0 0 30 10" aria-hidden="true"><path class="{kind}" d="M1 5H29"/></svg>'


def _figure(title: str, curves: List[Curve], span: Tuple[int, int]) -> str:
    last = int(curves[0].epochs[curves[0].known][-1])
    figures = np.concatenate([curve.values[curve.known] for curve in curves])
    low, high = _padded(float(figures.min()), float(figures.max()))
    first, end = span if span[0] < span[1] else (last - 0.5, last + 0.5)
    lines = [_tick_lines(low, high), _epoch_ticks(first, end)]
    for curve in reversed(curves):  # the first curve is drawn last, on top of the others
        across = np.interp(curve.epochs, (first, end), (LEFT, RIGHT))
        up = np.interp(curve.values, (low, high), (BOTTOM, TOP))
        lone = " lone" if curve.known.sum() == 1 else ""
        lines.append(f'<path class="{curve.kind}{lone}" d="{_path(across, up)}"/>')
    lines.append(f'<path class="pointer" d="M{LEFT} {TOP}V{BOTTOM}" visibility="hidden"/>')
    return (
        f'<figure data-curves="{_data(curves)}" data-span="{span[0]} {span[1]} {last}"><figcaption>{title}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_in_words(title, curves))}">'
        f'{"".join(lines)}</svg><p class="reading">{escape(_reading(curves, last))}</p></figure>'
    )


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < LARGEST, values, np.nan)


def _data(curves: Sequence[Curve]) -> str:
    """Return the curves as JSON, escaped for an HTML attribute."""
    content = [
        {
            "name": curve.name,
            "epochs": curve.epochs.tolist(),
            "values": [float(f"{value:.4g}") if math.isfinite(value) else None for value in curve.values],
        }
        for curve in curves
    ]
    return escape(json.dumps(content, separators=(",", ":")))


def _reading(curves: Sequence[Curve], epoch: int) -> str:
    """Return the figures of an epoch as text, in the same form as the script of the page shows them."""
    there = [(curve.name, curve.values[curve.known & (curve.epochs == epoch)]) for curve in curves]
    return f"epoch {epoch}: {', '.join(f'{name} {values[0]:.4g}' for name, values in there if len(values))}"


def _in_words(title: str, curves: Sequence[Curve]) -> str:
    known = [(curve.name, curve.values[curve.known]) for curve in curves]
    ways = (f"{name} from {values[0]:.4g} to {values[-1]:.4g}" for name, values in known)
    return f"{title} over epochs: {'; '.join(ways)}"


def _padded(low: float, high: float) -> Tuple[float, float]:
    """Return the ends of an axis that is a little longer than the range of the figures."""
    room = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def _ticks(low: float, high: float, most: int, least_step: float = 0.0) -> List[float]:
    """Return at most `most` + 1 round numbers between `low` and `high`, at least `least_step` apart."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= most)
    step = max(step, least_step)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick_lines(low: float, high: float) -> str:
    marks = []
    for value in _ticks(low, high, 5):
        y = f"{np.interp(value, (low, high), (BOTTOM, TOP)):.1f}"
        marks.append(f'<path class="grid" d="M{LEFT} {y}H{RIGHT}"/>')
        marks.append(f'<text class="up" x="{LEFT - 6}" y="{y}" dy=".35em">{value:.6g}</text>')
    return "".join(marks)


def _epoch_ticks(first: float, last: float) -> str:
    marks = [f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>']
    for epoch in _ticks(first, last, 6, least_step=1.0):
        x = f"{np.interp(epoch, (first, last), (LEFT, RIGHT)):.1f}"
        marks.append(f'<path class="axis" d="M{x} {BOTTOM}v4"/>')
        marks.append(f'<text class="along" x="{x}" y="{BOTTOM + 17}">{epoch:.0f}</text>')
    return "".join([*marks, f'<text class="along" x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 3}">epoch</text>'])


def _path(across: np.ndarray, up: np.ndarray) -> str:
    """Return an SVG path through the points, with gaps where figures are missing; a point between gaps is a dot."""
    parts, pen_down = [], False
    for x, y, known in zip(across, up, np.isfinite(up)):
        if known:
            parts.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}" + ("" if pen_down else "h0"))
        pen_down = bool(known)
    return "".join(parts)
