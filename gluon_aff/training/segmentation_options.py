"""Command line and settings of `train_segmentation.py`; the defaults are the paper's (Table 2, StopSign)."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Tuple

from gluon_aff.errors import InputError
from gluon_aff.models import FUSE_ORDERS, STEMS
from gluon_aff.training.options import (
    COMMON_MAY_DIFFER,
    add_checkpoint_options,
    add_fusion_options,
    add_run_options,
    check_not_empty,
    check_ranges,
    fusion_flag,
    fusion_part,
    seed_or_drawn,
    set_defaults,
)

LR_MODES = ("poly", "constant")
LIMITS: Dict[str, Tuple[float, float]] = {
    "blocks": (1, 1000),
    "channel_times": (1, 1000),
    "r": (1, 10**6),
    "decoder_width": (4, 10**6),  # the head has a quarter
    "base_size": (32, 10**4),
    "crop_size": (32, 10**4),
    "min_area": (0, 10**9),
}
MAY_DIFFER = (*COMMON_MAY_DIFFER, "gpus", "logging_dir", "save_plot_dir")
EXPECTED_IMAGES = (1734, 69)  # of COCO 2017 with a stop sign, to train and to validate
NEARLY = 0.05


@dataclass(frozen=True)
class SegmentationSettings:
    """Options of a run on StopSign; see `train_segmentation.py --help`."""

    askc_type: Optional[str] = None
    r: int = 4
    scale: Optional[float] = None
    context: Optional[str] = None
    blocks: int = 1
    channel_times: int = 1
    decoder_width: Optional[int] = None
    fuse_order: str = "top-down"
    stem: str = "normal"
    data_dir: Optional[str] = None
    min_area: int = 0
    base_size: int = 512
    crop_size: int = 480
    batch_size: int = 32
    num_workers: int = 8
    num_epochs: int = 300
    lr: float = 0.01
    lr_mode: str = "poly"
    wd: float = 1e-4
    gpus: str = "0"
    kvstore: str = "device"
    sync_bn: bool = False
    seed: Optional[int] = None
    summary: bool = False
    save_dir: str = "params"
    keep_one_best: bool = False
    logging_dir: str = "logs"
    save_plot_dir: str = "."
    checkpoint_every: int = 1
    resume: Optional[str] = None


def add_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    """Give `parser` the options of `train_segmentation.py`."""
    parser.usage = "%(prog)s --data-dir DIR [options]"
    _add_network_options(parser.add_argument_group("network"))
    _add_data_options(parser.add_argument_group("data"))
    _add_schedule_options(parser.add_argument_group("schedule"))
    _add_run_options(parser.add_argument_group("run"))
    _add_file_options(parser.add_argument_group("files"))
    add_checkpoint_options(parser.add_argument_group("checkpoints"))
    set_defaults(parser, SegmentationSettings)


def _add_network_options(group: argparse._ArgumentGroup) -> None:
    add_fusion_options(group)
    group.add_argument("--r", type=int, help="channel reduction ratio of the fusions")
    group.add_argument("--blocks", type=int, help="blocks per stage, the paper's b")
    group.add_argument("--channel-times", type=int, help="width multiplier of 8, 16, 32, 64 channels")
    group.add_argument(
        "--decoder-width", type=int, metavar="CHANNELS", help="of every fused map (default: the lower level's)"
    )
    group.add_argument(
        "--fuse-order",
        choices=FUSE_ORDERS,
        help="top-down, from the smallest map to the largest, or bottom-up, the others into the largest",
    )
    group.add_argument(
        "--stem", choices=STEMS, help="normal reduces the image to a quarter; tiny, for small images, does not"
    )


def _add_data_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--data-dir",
        metavar="DIR",
        help="COCO 2017: annotations/instances_train2017.json and instances_val2017.json, train2017/, val2017/",
    )
    group.add_argument(
        "--min-area", type=int, metavar="PIXELS", help="leave out images with fewer pixels of a stop sign"
    )
    group.add_argument(
        "--base-size",
        type=int,
        metavar="PIXELS",
        help="longer side is scaled to 0.5 to 2 times it; validation images are squashed to a square of it",
    )
    group.add_argument("--crop-size", type=int, metavar="PIXELS", help="side of training crops")
    group.add_argument("--batch-size", type=int, help="images per device and step")
    group.add_argument("-j", "--num-workers", type=int, help="worker processes that read images, at most one per core")


def _add_schedule_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--num-epochs", type=int, help="epochs")
    group.add_argument("--lr", type=float, help="learning rate of AdaGrad")
    group.add_argument(
        "--lr-mode",
        choices=LR_MODES,
        help="poly, to 0 by the power 0.9 as in the paper; or constant, which the authors' code came to",
    )
    group.add_argument("--wd", type=float, help="weight decay")


def _add_run_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--gpus", metavar="IDS", help="GPUs to train on, those that exist; the CPU if there is none")
    add_run_options(group)


def _add_file_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--save-dir", metavar="DIR", help="best weights go here, one file per improvement")
    group.add_argument(
        "--keep-one-best", action="store_true", help="remove this run's earlier best file at an improvement"
    )
    group.add_argument("--logging-dir", metavar="DIR", help="the log goes here, appended; none if empty")
    group.add_argument("--save-plot-dir", metavar="DIR", help="the curve goes here")


def resolve(settings: SegmentationSettings) -> SegmentationSettings:
    """Fill in what is not given: fusion and seed.

    Raises:
        InputError: for a value out of range.
    """
    check_ranges(settings, LIMITS)
    check_not_empty(settings, ("data_dir", "resume"))
    return replace(settings, askc_type=fusion_flag(settings.askc_type), seed=seed_or_drawn(settings.seed))


def data_folder(settings: SegmentationSettings) -> str:
    """The folder of the data.

    Raises:
        InputError: it is not given.
    """
    if settings.data_dir is None:
        raise InputError(
            "--data-dir is missing: name COCO 2017's folder, or one that gluon-aff make-data stop-signs FOLDER made"
        )
    return settings.data_dir


def run_name(settings: SegmentationSettings) -> str:
    """Name in the run's files: `stopsign-ASKCFuse-resnet-20-1-fpn-c-1`, and what is not the paper's."""
    more = {
        f"-d-{settings.decoder_width}": settings.decoder_width is not None,
        f"-{settings.fuse_order}": settings.fuse_order != SegmentationSettings.fuse_order,
        f"-{settings.stem}": settings.stem != SegmentationSettings.stem,
    }
    return (
        f"stopsign-{settings.askc_type}-resnet-20-{settings.blocks}-fpn-c-{settings.channel_times}"
        f"{fusion_part(settings, SegmentationSettings.r)}{''.join(text for text, said in more.items() if said)}"
    )


def notes(settings: SegmentationSettings, images: Tuple[int, int], global_batch: int) -> List[str]:
    """What a user of these resolved settings, with so many training and validation images, should know; lines."""
    training, validation = EXPECTED_IMAGES
    unusual = any(abs(found / expected - 1) > NEARLY for found, expected in zip(images, EXPECTED_IMAGES))
    said_if = {
        f"network: ResNet-20-{settings.blocks} + FPN, fusion {settings.askc_type}": True,
        f"data: {images[0]:,} images to train on, {images[1]:,} to validate on": True,
        f"COCO 2017 has about {training:,} and {validation:,}: this is not StopSign as the paper had it": unusual,
        f"batch: {settings.batch_size} images per device, {global_batch} per step; lr is not scaled with it": True,
        "best weights: chosen by IoU on the validation images, as in the original": True,
        "no weights will be written (--save-dir is empty)": not settings.save_dir,
        "no log will be written (--logging-dir is empty)": not settings.logging_dir,
        "with one image per device the global context is all zeros while training (BatchNorm over one value): "
        "take --batch-size 2 or more": settings.batch_size == 1 and settings.askc_type not in ("DirectAdd", "Concat"),
    }
    return [line for line, said in said_if.items() if said]
