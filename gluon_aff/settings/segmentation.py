"""Settings of `train_segmentation.py`, its options; the defaults are the paper's (Table 2, StopSign)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from gluon_aff.errors import InputError
from gluon_aff.models import FUSE_ORDERS, STEMS
from gluon_aff.settings.declaration import ASSEMBLED, check_declared, option
from gluon_aff.settings.shared import CurveSettings, fusion_flag, seed_or_drawn


@dataclass(frozen=True)
class SegmentationSettings(CurveSettings):
    """Options of a run on StopSign; see `train_segmentation.py --help`."""

    r: int = option(4, help="channel reduction ratio of the fusions")
    blocks: int = option(1, "network", "blocks per stage, the paper's b", limits=(1, 1000))
    channel_times: int = option(1, "network", "width multiplier of 8, 16, 32, 64 channels", limits=(1, 1000))
    decoder_width: Optional[int] = option(
        None,
        "network",
        "of every fused map (default: the lower level's)",
        metavar="CHANNELS",
        limits=(4, 10**6),  # the head has a quarter
        networks=(ASSEMBLED,),
        in_name="-d-",
    )
    fuse_order: str = option(
        "top-down",
        "network",
        "top-down, from the smallest map to the largest, or bottom-up, the others into the largest",
        choices=FUSE_ORDERS,
        networks=(ASSEMBLED,),
        in_name="-",
    )
    stem: str = option(
        "normal",
        "network",
        "normal reduces the image to a quarter; tiny, for small images, does not",
        choices=STEMS,
        networks=(ASSEMBLED,),
        in_name="-",
    )
    data_dir: Optional[str] = option(
        None, help="COCO 2017: annotations/instances_train2017.json and instances_val2017.json, train2017/, val2017/"
    )
    min_area: int = option(
        0,
        "data",
        "leave out images with fewer pixels of a stop sign",
        metavar="PIXELS",
        limits=(0, 10**9),
        after="data_dir",
    )
    base_size: int = option(
        512,
        "data",
        "longer side is scaled to 0.5 to 2 times it; validation images are squashed to a square of it",
        metavar="PIXELS",
        limits=(32, 10**4),
        after="data_dir",
    )
    crop_size: int = option(
        480, "data", "side of training crops", metavar="PIXELS", limits=(32, 10**4), after="data_dir"
    )
    batch_size: int = option(32)
    num_workers: int = option(
        8, help="worker processes that read images, at most one per core", flags=("-j", "--num-workers"), synonyms=()
    )
    num_epochs: int = option(300)
    lr: float = option(0.01, help="learning rate of AdaGrad")
    lr_mode: str = option(
        "poly",
        "schedule",
        "poly, to 0 by the power 0.9 as in the paper; or constant, which the authors' code came to",
        choices=("poly", "constant"),
        after="lr",
    )
    wd: float = option(1e-4, "schedule")

    usage = "%(prog)s --data-dir DIR [options]"


def resolve(settings: SegmentationSettings) -> SegmentationSettings:
    """Fill in what is not given: fusion and seed.

    Raises:
        InputError: for a value out of range.
    """
    check_declared(settings)
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
