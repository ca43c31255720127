"""Settings of `train_segmentation.py`; the defaults are the paper's (Table 2, StopSign)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from gluon_aff.errors import InputError
from gluon_aff.models import FUSE_ORDERS, STEMS
from gluon_aff.settings.declaration import ASSEMBLED, check_declared, option
from gluon_aff.settings.shared import CurveSettings, fusion_flag, seed_or_drawn


@dataclass(frozen=True)
class SegmentationSettings(CurveSettings):
    """Options of a segmentation run on StopSign; see `train_segmentation.py --help`."""

    r: int = option(4, help="channel reduction ratio of the attention, C to C/r")
    blocks: int = option(1, "network", "blocks per stage, called b in the paper", limits=(1, 1000))
    channel_times: int = option(
        1, "network", "factor on the channels 8, 16, 32, 64 of the stem and the three stages", limits=(1, 1000)
    )
    decoder_width: Optional[int] = option(
        None,
        "network",
        "channels of every fused feature map (default: as many as the lower level has)",
        metavar="CHANNELS",
        limits=(4, 10**6),  # the head has a quarter
        networks=(ASSEMBLED,),
        in_name="-d-",
    )
    fuse_order: str = option(
        "top-down",
        "network",
        "top-down fuses from the smallest feature map to the largest; bottom-up fuses the other maps into the largest",
        choices=FUSE_ORDERS,
        networks=(ASSEMBLED,),
        in_name="-",
    )
    stem: str = option(
        "normal",
        "network",
        "normal reduces height and width to a quarter; tiny keeps them, for small images",
        choices=STEMS,
        networks=(ASSEMBLED,),
        in_name="-",
    )
    data_dir: Optional[str] = option(
        None,
        help="folder of COCO 2017 with annotations/instances_train2017.json, annotations/instances_val2017.json, "
        "train2017/ and val2017/ (required)",
    )
    min_area: int = option(
        0,
        "data",
        "leave out images whose stop signs have fewer pixels than this",
        metavar="PIXELS",
        limits=(0, 10**9),
        after="data_dir",
    )
    base_size: int = option(
        512,
        "data",
        "size to scale images to: the longer side of a training image becomes 0.5 to 2 times this, a validation image "
        "becomes a square of this side",
        metavar="PIXELS",
        limits=(32, 10**4),
        after="data_dir",
    )
    crop_size: int = option(
        480, "data", "side of the square training crops", metavar="PIXELS", limits=(32, 10**4), after="data_dir"
    )
    batch_size: int = option(32)
    num_workers: int = option(
        8,
        help="limit on the worker processes that read images; a machine with fewer cores starts one per core",
        flags=("-j", "--num-workers"),
        synonyms=(),
    )
    num_epochs: int = option(300)
    lr: float = option(0.01, help="learning rate of AdaGrad")
    lr_mode: str = option(
        "poly",
        "schedule",
        "poly lowers the rate to 0 by the power 0.9, as the paper says; constant keeps it, as the authors' code does",
        choices=("poly", "constant"),
        after="lr",
    )
    wd: float = option(1e-4, "schedule")

    usage = "%(prog)s --data-dir DIR [options]"


def resolve(settings: SegmentationSettings) -> SegmentationSettings:
    """Check the settings, and fill in the fusion and the seed if they are not given.

    Raises:
        InputError: the fusion does not exist, or a value is out of range.
    """
    check_declared(settings)
    return replace(settings, askc_type=fusion_flag(settings.askc_type), seed=seed_or_drawn(settings.seed))


def data_folder(settings: SegmentationSettings) -> str:
    """Return the folder of the data set.

    Raises:
        InputError: `--data-dir` is not given.
    """
    if settings.data_dir is None:
        raise InputError(
            "--data-dir is missing: name COCO 2017's folder, or one that gluon-aff make-data stop-signs FOLDER made"
        )
    return settings.data_dir
