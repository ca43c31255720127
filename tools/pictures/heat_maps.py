"""Draw heat maps of where the network of the demo sees the classes of its pictures."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List

import numpy as np

from gluon_aff.data.preprocessing import fitting, image_input
from gluon_aff.errors import InputError
from tools.pictures.theme import NORMAL, new_figure, whole_axes

SIDE = 96  # pixels; at 32, the size in training, the maps of a layer are too small to show anything
LAYER = "layer2"  # 12 x 12 maps
COLUMNS, TILE = 4, 120  # points


@dataclass(frozen=True)
class HeatMap:
    """Holds a picture and the heat map of its predicted class.

    Attributes:
        pixels: picture, uint8 (H, W, 3).
        label: class of the picture.
        heat: where the network sees the predicted class, from 0 to 1 (H, W).
        predicted: predicted class.
        score: score of the predicted class.
    """

    pixels: np.ndarray
    label: str
    heat: np.ndarray
    predicted: str
    score: float


def check_demo(demo: Path) -> None:
    """Check that `demo` contains the weights of `make demo-imagenet`.

    Raises:
        InputError: it does not contain exactly one file of best weights.
    """
    if len(list(demo.glob("params/*-best.params"))) != 1:
        raise InputError(f"{demo} has no weights to draw heat maps with: run `make demo-imagenet`, or name its folder")


def demo_heat_maps(demo: Path) -> List[HeatMap]:
    """Return the heat maps of the first validation picture of each class, computed by `gluon-aff gradcam`."""
    (weights,) = demo.glob("params/*-best.params")
    images = [str(path) for path in sorted(demo.glob("pictures/val/*/0000.jpg"))]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "maps.png"
        command = ["gradcam", "--params", str(weights), "--input-size", str(SIDE), "--layer", LAYER, "-o", str(output)]
        subprocess.run([sys.executable, "-m", "gluon_aff", *command, *images], check=True)
        heats = np.load(output.with_suffix(".npy"))[:, 0]
        facts = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    fit = fitting(False, SIDE)
    predicted = [fact["networks"][0]["predicted"] for fact in facts]
    return [
        HeatMap(image_input(image, fit), Path(image).parent.name, heat, said["name"], said["score"])
        for image, heat, said in zip(images, heats, predicted)
    ]


def draw_heat_maps(maps: List[HeatMap]) -> Any:
    """Draw the pictures in rows, each above its heat map.

    There are no gaps in which a background shows, so that the figure suits light and dark pages.
    """
    figure = new_figure(2 * TILE * math.ceil(len(maps) / COLUMNS), COLUMNS * TILE)
    axes = whole_axes(figure)
    limits = axes.axis()
    for number, each in enumerate(maps):
        left, top = number % COLUMNS * TILE, number // COLUMNS * 2 * TILE
        missed = " \N{MULTIPLICATION SIGN}" if each.predicted != each.label else ""
        _draw(axes, left, top, each.pixels, each.label)
        _draw(axes, left, top + TILE, overlay(each), f"{each.predicted} {each.score:.2f}{missed}")
    axes.axis(limits)
    return figure


def overlay(heat_map: HeatMap) -> np.ndarray:
    """Return the picture in grey with the heat map over it in colour.

    The colours become lighter as the heat increases, so that nobody has to tell red from green.
    """
    from matplotlib import colormaps

    grey = heat_map.pixels.mean(axis=2, keepdims=True) / 255
    return 0.35 * grey + 0.65 * colormaps["inferno"](heat_map.heat)[..., :3]


def _draw(axes: Any, left: float, top: float, pixels: np.ndarray, text: str) -> None:
    from matplotlib.patheffects import withStroke

    axes.imshow(pixels, extent=(left, left + TILE, top + TILE, top), interpolation="bilinear", aspect="auto")
    outline = [withStroke(linewidth=2.5, foreground="black")]
    style = {"ha": "center", "va": "center", "fontsize": NORMAL, "color": "white", "path_effects": outline}
    axes.text(left + TILE / 2, top + TILE - 10, text, **style)
