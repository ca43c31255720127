"""The command `gradcam`, which draws where in images networks see a class."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

from gluon_aff._platform import ENGINES
from gluon_aff.commands import ENGINE, Command, check_output, json_text
from gluon_aff.commands.weights import (
    add_engine_option,
    add_file_options,
    add_finite_option,
    model_and_file,
    request_of,
    titles,
)
from gluon_aff.errors import InputError, unknown_name
from gluon_aff.files import replacing_together
from gluon_aff.printing import show

if TYPE_CHECKING:
    import numpy as np

    from gluon_aff.evaluation.weights_file import LoadedNetwork


@dataclass(frozen=True)
class _Column:
    """A column of the picture.

    Attributes:
        loaded: network of the column.
        title: title of the column.
        names: a class name for each output.
        layer: layer whose maps are drawn.
        shown: label of the class to draw; the predicted class if None.
        expected: true label of each image; empty if they are not known.
    """

    loaded: LoadedNetwork
    title: str
    names: List[str]
    layer: str
    shown: Optional[int]
    expected: List[int]


@dataclass(frozen=True)
class _Result:
    """Facts about one image and one network for the .json file, with their heat map and picture."""

    facts: Dict[str, Any]
    heat: np.ndarray
    picture: np.ndarray


def _add_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    add_file_options(parser)
    add_engine_option(parser)
    add_finite_option(parser)
    parser.add_argument(
        "--compare", action="append", default=[], metavar="PARAMS", help="draw another column for another network with "
        "the same input size: a .params file, or MODEL=PARAMS, such as aff_resnet50=published; may be repeated "
        "(default: none)"
    )  # fmt: skip
    parser.add_argument(
        "--class", dest="shown", metavar="CLASS", help="draw this class, given by label or name (default: the class "
        "that each network predicts)"
    )  # fmt: skip
    parser.add_argument(
        "--label", action="append", default=[], metavar="CLASS", help="true class, label or name; repeat it once for "
        "each image, in their order, and a cross marks wrong predictions (default: none)"
    )  # fmt: skip
    parser.add_argument(
        "--layer", metavar="NAME", help="layer to draw, by its name in the network, such as layer4.2.conv3 (default: "
        "the last maps, which are averaged for the head)"
    )  # fmt: skip
    parser.add_argument(
        "--resize", action="store_true", help="squash the whole image to a square, as the paper did (default: cut out "
        "the centre, as predict does)"
    )  # fmt: skip
    parser.add_argument(
        "--tutorial", action="store_true", help="compute as in MXNet's tutorial, which the paper used: add 1 before "
        "the ReLU, and use the tutorial's colours (default: as in the Grad-CAM paper)"
    )  # fmt: skip
    parser.add_argument(
        "--names", metavar="FILE", help="text file with one class name in each line (default: the names of the weights "
        "or of their data set)"
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", required=True, metavar="PNG", help="picture to write; next to it, a .npy file gets the maps, "
        "float32 (images, networks, height, width) from 0 to 1, and a .json file the classes and scores"
    )  # fmt: skip
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files: JPEG, PNG, BMP, WebP, TIFF, PNM, GIF")


def _gradcam(options: argparse.Namespace) -> int:
    check_output(options.output, "-o", ".png")
    if os.path.realpath(options.output) in map(os.path.realpath, options.images):
        raise InputError(f"-o {options.output}: this is one of the images; name another file")
    if options.label and len(options.label) != len(options.images):
        raise InputError(
            f"--label: {len(options.label)} for {len(options.images)} images; give one for each image, in their order"
        )
    from tqdm import tqdm

    from gluon_aff.data.preprocessing import fitting, image_input

    columns = _columns(options)
    card = columns[0].loaded.card
    fit = fitting(card.for_cifar, card.input_size, options.resize)
    pixels = [image_input(path, fit) for path in options.images]
    rows: List[List[_Result]] = []
    with tqdm(desc="Grad-CAM", total=len(pixels) * len(columns), leave=False, disable=None, unit="map") as progress:
        for row, (path, image) in enumerate(zip(options.images, pixels)):
            rows.append([])
            for column in columns:
                rows[-1].append(_result(column, path, image, row, options.tutorial))
                progress.update()
    _write(options, columns, pixels, rows)
    return 0


def _columns(options: argparse.Namespace) -> List[_Column]:
    from gluon_aff.evaluation.weights_file import load_network, output_names

    request = replace(request_of(options), gpus="")
    requests = [request]
    for text in options.compare:
        model, params = model_and_file(text)
        requests.append(replace(request, model=model, params=params))
    networks = [load_network(request) for request in requests]
    first = networks[0]
    columns = []
    for loaded, title in zip(networks, titles(networks)):
        if (loaded.card.for_cifar, loaded.card.input_size) != (first.card.for_cifar, first.card.input_size):
            raise InputError(
                f"--compare: {loaded.path} takes images of {loaded.card.input_size} pixels, and {first.path} of "
                f"{first.card.input_size}; draw them separately"
            )
        names = output_names(loaded.card, options.names)
        shown = None if options.shown is None else _label(options.shown, names, "--class")
        expected = [_label(text, names, "--label") for text in options.label]
        layer = options.layer or loaded.network.pooled_layer()
        columns.append(_Column(loaded, title, names, layer, shown, expected))
    return columns


def _label(text: str, names: Sequence[str], flag: str) -> int:
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    if text not in names:
        raise unknown_name(f"class ({flag})", text, names)
    return names.index(text)


def _result(column: _Column, path: str, pixels: np.ndarray, row: int, tutorial: bool) -> _Result:
    from gluon_aff.data.preprocessing import normalised
    from gluon_aff.evaluation.predict import likeliest
    from gluon_aff.inspection.gradcam import heat_map, overlay, resized_heat_map

    image = normalised(pixels, column.loaded.card.for_cifar)
    activation = column.loaded.network.activation(image, column.layer, column.shown)
    ranked = likeliest(activation.logits, len(activation.logits), path)
    raw = heat_map(activation, tutorial)
    heat = resized_heat_map(raw, pixels.shape[0], pixels.shape[1], tutorial)
    predicted = ranked[0][0]

    def described(label: int) -> Dict[str, Any]:
        return {"label": label, "name": column.names[label], "score": dict(ranked)[label]}

    facts = {
        "network": column.loaded.card.network,
        "weights": column.loaded.path,
        "layer": column.layer,
        "predicted": described(predicted),
        "shown": described(activation.label),
        "missed": predicted != column.expected[row] if column.expected else None,
        "least": float(raw.min()),
        "largest": float(raw.max()),
    }
    return _Result(facts, heat, overlay(pixels, heat, tutorial))


def _write(
    options: argparse.Namespace, columns: Sequence[_Column], pixels: Sequence[np.ndarray], rows: List[List[_Result]]
) -> None:
    import numpy as np

    from gluon_aff.inspection.picture_grid import Cell, draw_grid
    from gluon_aff.results.plots import draw_png

    cells = []
    found = []
    for row, (path, image, results) in enumerate(zip(options.images, pixels, rows)):
        expected = columns[0].names[columns[0].expected[row]] if options.label else None
        cells.append([Cell(image, expected or "")])
        cells[-1] += [Cell(result.picture, _beneath(result.facts), bool(result.facts["missed"])) for result in results]
        found.append({"image": path, "label": expected, "networks": [result.facts for result in results]})
        show(path)
        for column, result in zip(columns, results):
            predicted = result.facts["predicted"]
            missed = ", missed" if result.facts["missed"] else ""
            show(f"  {predicted['score']:.4f}  {predicted['name']}  ({column.title}{missed})")
    maps, facts = (str(Path(options.output).with_suffix(suffix)) for suffix in (".npy", ".json"))
    grid = draw_grid(["input", *(column.title for column in columns)], cells)
    with replacing_together(options.output, maps, facts) as (picture, maps_file, facts_file):
        with open(maps_file, "wb") as file:
            np.save(file, np.stack([np.stack([result.heat for result in results]) for results in rows]))
        Path(facts_file).write_text(json_text(found) + "\n", encoding="utf-8")
        draw_png(grid, picture)
    show(f"{options.output}, {maps} and {facts}: {len(rows)} x {len(columns)} heat maps")


def _beneath(facts: Dict[str, Any]) -> str:
    """Return the prediction, and the drawn class if it is another one."""
    text = f"{facts['predicted']['name']}  {facts['predicted']['score']:.2f}"
    if facts["shown"] == facts["predicted"]:
        return text
    return f"{text}\nmap: {facts['shown']['name']}  {facts['shown']['score']:.2f}"


COMMANDS: Dict[str, Command] = {
    "gradcam": Command(
        "draw where in images networks see a class (Grad-CAM)",
        _add_options,
        _gradcam,
        (
            "--model aff_resnet50 cat.jpg dog.png -o maps.png",
            "--params my.params --compare aff_resnet50=published --label tabby cat.jpg -o maps.png",
            "--model iaff_resnet50 --class 281 --layer layer3 --resize cat.jpg -o maps.png",
        ),
        computes=True,
        engines=ENGINES,
        about="The picture has a row for each image and a column for each network, like the paper's Fig. 6. It is "
        f"computed on the CPU.\n\n{ENGINE}",
    ),
}
