"""The command that finds masks in images, and measures them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, List

from gluon_aff.commands import Command, check_suffix, json_text, positive
from gluon_aff.errors import InputError
from gluon_aff.files import replacing
from gluon_aff.training.segmentation_options import SegmentationSettings

if TYPE_CHECKING:
    import numpy as np

    from gluon_aff.evaluation.inference import Infer
    from gluon_aff.evaluation.segment import SegmentedImage

WORST = 6
TINT = (0, 220, 255)  # not a colour of stop signs
OPACITY = 0.6


def _add_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument("--params", required=True, metavar="FILE", help="a .params file of train_segmentation.py")
    parser.add_argument("--model", metavar="NAME", help="such as resnet20_fpn_b1 (default: by the file)")
    parser.add_argument(
        "--data-dir", metavar="DIR", help="COCO's folder, as in training: IoU and nIoU on its validation images with a "
        "stop sign, instead of images"
    )  # fmt: skip
    parser.add_argument(
        "--base-size", type=positive, default=SegmentationSettings.base_size, metavar="PIXELS", help="images are "
        "squashed to a square of it; that of the training (default: %(default)s)"
    )  # fmt: skip
    parser.add_argument("--batch-size", type=positive, default=8, help="images at a time (default: 8)")
    parser.add_argument("--gpus", default="0", metavar="IDS", help="GPUs (default: 0; the CPU without one)")
    parser.add_argument("--masks", metavar="DIR", help="write each image's mask there, a PNG of its size, 0 and 255")
    parser.add_argument(
        "-o", "--output", metavar="PNG", help=f"draw images and masks; with --data-dir, the {WORST} worst ones"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files of any common format")


def _segment(options: argparse.Namespace) -> int:
    _check(options)
    from gluon_aff.evaluation.inference import in_mxnet
    from gluon_aff.evaluation.segment import iou_and_niou
    from gluon_aff.evaluation.weights_file import WeightsRequest, load_network

    loaded = load_network(WeightsRequest(options.params, options.model, gpus=options.gpus), segments=True)
    if loaded.card.outputs != 1:
        raise InputError(f"{options.params} is of a network with {loaded.card.outputs} maps: this command takes one")
    found, overlaps, shown = [], [], []
    for image in _segmented(in_mxnet(loaded.net, loaded.contexts), options):
        if options.masks:
            _write_mask(image, options.masks)
        found.append(_facts(image))
        overlaps.append(image.overlap)
        if options.output:
            shown.append(image)
            shown = sorted(shown, key=lambda image: image.iou)[:WORST] if options.data_dir else shown
    if options.output:
        _draw(shown, options.output)
    measured = dict(zip(("iou", "niou"), iou_and_niou(overlaps))) if options.data_dir else {}
    if options.json:
        print(json_text({"network": loaded.card.network, **measured, "images": found}))
    elif options.data_dir:
        print(f"{loaded.card.network} on {len(found)} validation images, {options.base_size} x {options.base_size}")
        print(f"IoU   {measured['iou']:.6f}\nnIoU  {measured['niou']:.6f}")
    else:
        for facts in found:
            print(f"{facts['share']:.4f}  {facts['image']}")
    return 0


def _check(options: argparse.Namespace) -> None:
    if bool(options.images) == bool(options.data_dir):
        raise InputError("name images, or COCO's folder with --data-dir, and not both")
    images = set(map(os.path.realpath, options.images))
    if options.output:
        check_suffix(options.output, "-o", ".png")
        if os.path.realpath(options.output) in images:
            raise InputError(f"-o {options.output}: this is one of the images; name another file")
    if options.masks:
        masks = {os.path.realpath(_mask_path(options.masks, image)) for image in options.images}
        if len(masks) < len(options.images):
            raise InputError(f"--masks {options.masks}: two images have the same name; segment them apart")
        if masks & images:
            raise InputError(f"--masks {options.masks}: {min(masks & images)} is an image; name another folder")


def _segmented(infer: Infer, options: argparse.Namespace) -> Iterable[SegmentedImage]:
    from gluon_aff.data.stop_signs import load_stop_signs
    from gluon_aff.evaluation.segment import segment_images, segment_stop_signs

    sizes = options.base_size, options.batch_size
    if options.data_dir:
        return segment_stop_signs(infer, load_stop_signs(options.data_dir, train=False).images, *sizes)
    return segment_images(infer, options.images, *sizes)


def _mask_path(folder: str, image: str) -> str:
    return os.path.join(folder, f"{Path(image).stem}.png")


def _write_mask(image: SegmentedImage, folder: str) -> None:
    from PIL import Image

    os.makedirs(folder, exist_ok=True)
    with replacing(_mask_path(folder, image.path)) as partial:
        Image.fromarray(image.own_size_mask()).convert("L").save(partial, format="PNG")


def _facts(image: SegmentedImage) -> Dict[str, Any]:
    measured = {} if image.truth is None else {"iou": image.iou}
    return {"image": image.path, "share": float(image.found.mean()), **measured}


def _draw(segmented: List[SegmentedImage], path: str) -> None:
    from gluon_aff.inspection.picture_grid import Cell, draw_grid
    from gluon_aff.results.plots import save_png

    measured = segmented[0].truth is not None
    rows = []
    for image in segmented:
        found = f"IoU {image.iou:.3f}" if measured else f"{image.found.mean():.2%} of the pixels"
        cells = [Cell(image.pixels, Path(image.path).name), Cell(_tinted(image.pixels, image.found), found)]
        if image.truth is not None:
            cells.insert(1, Cell(_tinted(image.pixels, image.truth)))
        rows.append(cells)
    save_png(draw_grid(["input", *(["true mask"] if measured else []), "found"], rows), path)


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
    ),
}
