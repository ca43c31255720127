"""Draw a small StopSign data set in COCO's layout, so that a whole run needs no download.

The signs are red octagons with a white rim, some of them behind a pole, among shapes of the same colour or form.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw

from gluon_aff.data.samples.cifar_layout import write_whole
from gluon_aff.data.stop_signs.annotations import CATEGORY
from gluon_aff.errors import InputError

WIDTH, HEIGHT = 128, 104
JPEG_QUALITY = 92
NOISE = 6  # standard deviation on a 0..255 scale
ENLARGED = 8  # factor by which images are drawn larger and then scaled down, for smooth edges
RIM = 0.86  # share of the radius at which the red begins
SIGN, DISTRACTOR = 13, 10  # COCO's numbers of the categories
CATEGORIES = ({"id": DISTRACTOR, "name": "traffic light"}, {"id": SIGN, "name": CATEGORY})
DISTRACTORS = 5  # the most in an image
WITHOUT_SIGN, BEHIND_POLE, CROWD = 0.1, 0.25, 0.1  # shares of the images

Point = Tuple[float, float]
Polygon = List[Point]


class Scene(NamedTuple):
    """A drawn image, uint8 (HEIGHT, WIDTH, 3), and its annotations without their ids."""

    pixels: np.ndarray
    annotations: List[Dict[str, Any]]


def write_stop_signs(folder: str, train_images: int = 240, val_images: int = 60, seed: int = 0) -> None:
    """Draw images of stop signs, 128 x 104 pixels, and write them in the layout of COCO 2017.

    Nine in ten images have a sign. In a quarter of these a pole stands before the sign, so that its mask consists of
    two polygons; in a tenth, two signs overlap and have one mask of run lengths, as COCO marks crowds.

    Args:
        folder: folder to create; one that holds the same set already is left unchanged.
        train_images: number of training images, 1 or more.
        val_images: number of validation images, 1 or more.
        seed: seed of the random numbers, 0 or more.

    Raises:
        DataError: the folder holds something else, or cannot be written.
        InputError: a number is not as required.
    """
    if seed < 0 or min(train_images, val_images) < 1:
        raise InputError(
            f"seed {seed}, {train_images} training and {val_images} validation images: the seed has to be 0 or more, "
            "and each number of images 1 or more"
        )
    files: Dict[str, bytes] = {}
    for half, (name, images) in enumerate({"train2017": train_images, "val2017": val_images}.items()):
        random = np.random.Generator(np.random.PCG64((seed, half)))
        scenes = [_scene(random) for _ in range(images)]
        files.update((f"{name}/{_file_name(i)}", _jpeg(scene.pixels)) for i, scene in enumerate(scenes, 1))
        files[f"annotations/instances_{name}.json"] = json.dumps(_annotations(scenes), separators=(",", ":")).encode()
    write_whole(Path(os.path.expanduser(folder)), files)


def _scene(random: np.random.Generator) -> Scene:
    image = _background(random)
    draw = ImageDraw.Draw(image)
    annotations = []
    for _ in range(int(random.integers(1, DISTRACTORS, endpoint=True))):
        outline = _distract(draw, random)
        annotations.append(_annotation(DISTRACTOR, _flat([outline])))
    kind = random.random()
    if kind >= WITHOUT_SIGN:
        shown = (kind - WITHOUT_SIGN) / (1 - WITHOUT_SIGN)
        annotations.append(_signs(draw, shown, random))
    pixels = np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)) + random.normal(
        0, NOISE, (HEIGHT, WIDTH, 3)
    )
    return Scene(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), annotations)


def _signs(draw: ImageDraw.ImageDraw, shown: float, random: np.random.Generator) -> Dict[str, Any]:
    """Draw a sign, a sign behind a pole or one behind another, as `shown` in 0..1 says; return the annotation."""
    radius = random.uniform(12, 30)
    centre = random.uniform(8, WIDTH - 8), random.uniform(8, HEIGHT - 8)
    sign = _octagon(centre, radius, random.uniform(-0.1, 0.1))
    _draw_sign(draw, centre, sign, random)
    if shown < BEHIND_POLE:
        left = centre[0] + random.uniform(-0.5, 0.2) * radius
        right = left + random.uniform(3, 6)
        _polygon(draw, [(left, -1), (right, -1), (right, HEIGHT + 1), (left, HEIGHT + 1)], _grey(random))
        return _annotation(SIGN, _flat([_side(sign, left, -1), _side(sign, right, 1)]))
    if shown < BEHIND_POLE + CROWD:
        nearer = centre[0] + radius, centre[1] + random.uniform(-0.5, 0.5) * radius
        other = _octagon(nearer, 0.8 * radius, 0.0)
        _draw_sign(draw, nearer, other, random)
        return {**_annotation(SIGN, _run_lengths([sign, other])), "iscrowd": 1}
    return _annotation(SIGN, _flat([sign]))


def _draw_sign(draw: ImageDraw.ImageDraw, centre: Point, outline: Polygon, random: np.random.Generator) -> None:
    red = int(random.uniform(150, 225)), int(random.uniform(15, 50)), int(random.uniform(20, 55))
    inner = [tuple(c + RIM * (p - c) for p, c in zip(point, centre)) for point in outline]
    _polygon(draw, outline, (235, 235, 235))
    _polygon(draw, inner, red)  # type: ignore[arg-type]
    size = abs(outline[0][0] - centre[0])
    for letter in (-0.55, -0.2, 0.15, 0.5):  # bars in place of the letters of STOP
        left = centre[0] + letter * size - 0.08 * size
        top, bottom = centre[1] - 0.28 * size, centre[1] + 0.28 * size
        _polygon(
            draw, [(left, top), (left + 0.16 * size, top), (left + 0.16 * size, bottom), (left, bottom)], (235,) * 3
        )


def _distract(draw: ImageDraw.ImageDraw, random: np.random.Generator) -> Polygon:
    """Draw a red disc, triangle or square, or an octagon of another colour, and return its outline."""
    kind = int(random.integers(4))
    centre, radius = (random.uniform(0, WIDTH), random.uniform(0, HEIGHT)), random.uniform(5, 16)
    corners, turn = ((24, 0.0), (3, -np.pi / 2), (4, np.pi / 4), (8, np.pi / 8))[kind]
    colour = (int(random.uniform(150, 225)), int(random.uniform(15, 50)), int(random.uniform(20, 55)))
    if kind == 3:
        colour = colour[2], colour[int(random.integers(2))], colour[0]
    outline = _regular(centre, radius, corners, turn)
    _polygon(draw, outline, colour)
    return outline


def _background(random: np.random.Generator) -> Image.Image:
    """Draw a gradient between two dull colours, with dull boxes on it, at ENLARGED times the size of the image."""
    top, bottom = random.uniform(40, 200, size=(2, 3))
    share = np.linspace(0, 1, HEIGHT * ENLARGED)[:, np.newaxis, np.newaxis]
    slope = np.broadcast_to(top + share * (bottom - top), (HEIGHT * ENLARGED, WIDTH * ENLARGED, 3))
    image = Image.fromarray(slope.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for left, upper, width, height in random.uniform([0, 0, 4, 4], [WIDTH, HEIGHT, 50, 50], size=(8, 4)).tolist():
        box = [(left, upper), (left + width, upper), (left + width, upper + height), (left, upper + height)]
        _polygon(draw, box, _grey(random))
    return image


def _grey(random: np.random.Generator) -> Tuple[int, int, int]:
    red, green, blue = (random.uniform(30, 200) + random.uniform(-25, 25, size=3)).astype(int).tolist()
    return red, green, blue


def _polygon(draw: ImageDraw.ImageDraw, points: Sequence[Point], colour: Tuple[int, int, int]) -> None:
    draw.polygon(_enlarged(points), fill=colour)


def _enlarged(points: Sequence[Point]) -> Polygon:
    """Scale points to the size at which the image is drawn; Pillow's coordinates are those of the pixels' centres."""
    return [(x * ENLARGED - 0.5, y * ENLARGED - 0.5) for x, y in points]


def _regular(centre: Point, radius: float, corners: int, turn: float) -> Polygon:
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    points = np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)
    return [(x, y) for x, y in points.tolist()]


def _octagon(centre: Point, radius: float, turn: float) -> Polygon:
    return _regular(centre, radius, 8, np.pi / 8 + turn)


def _side(polygon: Polygon, column: float, sign: int) -> Polygon:
    """Return the part of a convex polygon in which sign * (x - column) is 0 or more."""
    kept: Polygon = []
    for (x0, y0), (x1, y1) in zip(polygon, [*polygon[1:], polygon[0]]):
        inside, next_inside = sign * (x0 - column) >= 0, sign * (x1 - column) >= 0
        if inside:
            kept.append((x0, y0))
        if inside != next_inside:
            kept.append((column, y0 + (y1 - y0) * (column - x0) / (x1 - x0)))
    return kept


def _flat(polygons: Sequence[Polygon]) -> List[List[float]]:
    """Clip polygons to the image and return them as COCO stores them, x and y in turn; drop those outside it."""
    clipped = [np.clip(polygon, 0, (WIDTH, HEIGHT)) for polygon in polygons if len(polygon) > 2]
    return [np.round(points, 2).ravel().tolist() for points in clipped]


def _run_lengths(polygons: Sequence[Polygon]) -> Dict[str, Any]:
    """Return the union of the polygons as run lengths down the columns, zeros first, as COCO stores crowds."""
    mask = Image.new("L", (WIDTH * ENLARGED, HEIGHT * ENLARGED))
    for polygon in polygons:
        ImageDraw.Draw(mask).polygon(_enlarged(polygon), fill=255)
    pixels = np.asarray(mask.resize((WIDTH, HEIGHT), Image.Resampling.BOX)).ravel(order="F") > 127
    changes = np.flatnonzero(np.diff(pixels.astype(np.int8), prepend=0))
    counts = np.diff(np.concatenate([[0], changes, [len(pixels)]]))
    return {"size": [HEIGHT, WIDTH], "counts": counts.tolist()}


def _annotation(category: int, segmentation: Any) -> Dict[str, Any]:
    return {"category_id": category, "segmentation": segmentation, "iscrowd": 0}


def _annotations(scenes: Sequence[Scene]) -> Dict[str, Any]:
    """Return the content of the annotations file of the training or the validation images."""
    named = [(number, annotation) for number, scene in enumerate(scenes, 1) for annotation in scene.annotations]
    return {
        "info": {"description": "drawn stop signs"},
        "categories": list(CATEGORIES),
        "images": [
            {"id": number, "file_name": _file_name(number), "width": WIDTH, "height": HEIGHT}
            for number in range(1, len(scenes) + 1)
        ],
        "annotations": [{"id": i, "image_id": number, **annotation} for i, (number, annotation) in enumerate(named, 1)],
    }


def _file_name(number: int) -> str:
    return f"{number:012}.jpg"


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
