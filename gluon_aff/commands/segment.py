"""The command `segment`, which finds stop signs in images, and measures how well."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Sequence, Tuple

from gluon_aff._platform import ENGINES
from gluon_aff.commands import ENGINE, Command, check_output, json_text, positive
from gluon_aff.commands.weights import add_engine_option
from gluon_aff.errors import InputError
from gluon_aff.files import check_directories, replacing
from gluon_aff.printing import show, show_text
from gluon_aff.settings.declaration import check_limits, check_not_empty
from gluon_aff.settings.segmentation import SegmentationSettings

if TYPE_CHECKING:
    import numpy as np

    from gluon_aff.data.stop_signs.annotations import MaskedImage
    from gluon_aff.evaluation.segment import SegmentedImage

WORST = 6
TINT = (0, 220, 255)  # a colour that stop signs do not have
OPACITY = 0.6


def _add_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument("--params", required=True, metavar="FILE", help="a .params file that train-segmentation wrote")
    parser.add_argument(
        "--model", metavar="NAME", help="name of the network, such as resnet20_fpn_b1 (default: the network that the "
        "file describes or fits)"
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of COCO 2017, as in training: measure IoU and nIoU on its validation "
        "images with a stop sign (default: segment the IMAGEs instead)"
    )  # fmt: skip
    parser.add_argument(
        "--base-size", type=int, metavar="PIXELS", help="side in pixels of the square to which images are squashed "
        f"(default: that of the training if the weights' card says it, else {SegmentationSettings.base_size})"
    )  # fmt: skip
    parser.add_argument(
        "--min-area", type=int, default=SegmentationSettings.min_area, metavar="PIXELS", help="with --data-dir, leave "
        f"out images with fewer pixels of a stop sign, as in training (default: {SegmentationSettings.min_area})"
    )  # fmt: skip
    parser.add_argument("--batch-size", type=positive, default=8, help="images in a batch (default: 8)")
    parser.add_argument(
        "--gpus", default="0", metavar="IDS", help="GPU ids, such as 0,1 (default: 0; the CPU computes if there is no "
        "GPU)"
    )  # fmt: skip
    add_engine_option(parser)
    parser.add_argument(
        "--masks", metavar="DIR", help="folder for the masks, a PNG file of the size of each upright image, with the "
        "values 0 and 255 (default: none)"
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="PNG", help=f"picture with the images and masks; with --data-dir, with the {WORST} "
        "worst ones (default: none)"
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON, with the figures of each image")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files: JPEG, PNG, BMP, WebP, TIFF, PNM, GIF")


def _segment(options: argparse.Namespace) -> int:
    if bool(options.images) == bool(options.data_dir):
        raise InputError("name images, or the folder of COCO with --data-dir, but not both")
    for name in ("masks", "output"):
        check_not_empty(name, getattr(options, name))
    check_limits(SegmentationSettings, options)
    signs = _signs(options)
    _check_outputs(options, [sign.path for sign in signs] or options.images)
    from gluon_aff.evaluation.segment import segment_images, segment_stop_signs
    from gluon_aff.evaluation.weights_file import WeightsRequest, load_network

    request = WeightsRequest(options.params, options.model, gpus=options.gpus, engine=options.engine)
    loaded = load_network(request, segments=True)
    if loaded.card.outputs != 1:
        raise InputError(
            f"{options.params} belongs to a network with {loaded.card.outputs} output maps: this command takes "
            "networks with one"
        )
    base_size = options.base_size or loaded.card.base_size or SegmentationSettings.base_size
    infer, sizes = loaded.network.infer, (base_size, options.batch_size)
    segmented = segment_stop_signs(infer, signs, *sizes) if signs else segment_images(infer, options.images, *sizes)
    results = []
    for each in _written(segmented, options):
        results.append(_facts(each))
        if not (options.json or signs):
            show(f"{results[-1]['share']:.4f}  {each.image.path}")
    _print_figures(loaded.card.network, base_size, results, options)
    return 0


def _print_figures(
    network: str, base_size: int, results: Sequence[Dict[str, Any]], options: argparse.Namespace
) -> None:
    """Print IoU and nIoU if there are true masks; with --json, print all results."""
    from gluon_aff.evaluation.segment import iou_and_niou_of

    measured: Dict[str, float] = {}
    if options.data_dir:
        overlaps = ((result["intersection"], result["union"]) for result in results)
        measured = dict(zip(("iou", "niou"), iou_and_niou_of(overlaps)))
    if options.json:
        show_text(json_text({"network": network, **measured, "images": results}))
    elif measured:
        show(f"{network} on {len(results)} validation images, {base_size} x {base_size}")
        show(f"IoU   {measured['iou']:.6f}", f"nIoU  {measured['niou']:.6f}")


def _signs(options: argparse.Namespace) -> Tuple[MaskedImage, ...]:
    from gluon_aff.data.stop_signs.annotations import load_stop_signs

    return load_stop_signs(options.data_dir, False, options.min_area).images if options.data_dir else ()


def _check_outputs(options: argparse.Namespace, images: Sequence[str]) -> None:
    """Raise InputError if an output file is one of the images or another output."""
    inputs = set(map(os.path.realpath, images))
    masks = [os.path.realpath(_mask_path(options.masks, image)) for image in images] if options.masks else []
    if len(set(masks)) < len(masks):
        raise InputError(f"--masks {options.masks}: two images have the same name; segment them separately")
    if inputs.intersection(masks):
        raise InputError(f"--masks {options.masks}: masks would replace images there; name another folder")
    if options.masks:
        check_directories({"--masks": options.masks})
    if options.output:
        check_output(options.output, "-o", ".png")
        if os.path.realpath(options.output) in {*inputs, *masks}:
            raise InputError(f"-o {options.output}: this is one of the images or masks; name another file")


def _mask_path(folder: str, image: str) -> str:
    return os.path.join(folder, f"{Path(image).stem}.png")


def _written(segmented: Iterable[SegmentedImage], options: argparse.Namespace) -> Iterator[SegmentedImage]:
    """Yield the images; write the mask of each, and the picture at the end."""
    from PIL import Image

    shown: List[SegmentedImage] = []
    for each in segmented:
        if options.masks:
            with replacing(_mask_path(options.masks, each.image.path)) as partial:
                Image.fromarray(each.own_size_mask()).convert("L").save(partial, format="PNG")
        if options.output:
            shown.append(each)
        if options.data_dir:
            shown = sorted(shown, key=lambda each: each.iou)[:WORST]
        yield each
    if options.output:
        _draw(shown, options.output)


def _facts(each: SegmentedImage) -> Dict[str, Any]:
    facts = {"image": each.image.path, "share": float(each.found.mean())}
    if each.image.truth is None:
        return facts
    intersection, union = each.overlap
    return {**facts, "iou": each.iou, "intersection": intersection, "union": union}


def _draw(segmented: Sequence[SegmentedImage], path: str) -> None:
    from gluon_aff.inspection.picture_grid import Cell, draw_grid
    from gluon_aff.results.plots import save_png

    rows = []
    for each in segmented:
        pixels, truth = each.image.pixels, each.image.truth
        rows.append([Cell(pixels, Path(each.image.path).name)])
        if truth is not None:
            rows[-1].append(Cell(_tinted(pixels, truth)))
        text = f"{each.found.mean():.2%} of the pixels" if truth is None else f"IoU {each.iou:.3f}"
        rows[-1].append(Cell(_tinted(pixels, each.found), text))
    titles = ["input", "found"] if len(rows[0]) == 2 else ["input", "true mask", "found"]
    save_png(draw_grid(titles, rows), path)


def _tinted(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    import numpy as np

    coloured = (1 - OPACITY) * pixels + OPACITY * np.array(TINT)
    return np.where(mask[..., np.newaxis], np.rint(coloured), pixels).astype(np.uint8)


COMMANDS: Dict[str, Command] = {
    "segment": Command(
        "find stop signs in images, or measure how well (IoU, nIoU)",
        _add_options,
        _segment,
        (
            "--params params/0.9249-stopsign-ASKCFuse-resnet-20-1-fpn-c-1-tiny-best.params --data-dir demo/stop-signs "
            "--base-size 128 -o worst.png",
            "--params my.params --model resnet20_fpn_b1 street.jpg --masks masks -o found.png",
        ),
        computes=True,
        engines=ENGINES,
        about="For each image, the share of its pixels in the mask is printed; with --data-dir, IoU over the pixels of "
        f"all images, and nIoU, the mean over the images, both as in training.\n\n{ENGINE}",
    ),
}
