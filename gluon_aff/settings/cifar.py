"""Settings of `train_cifar.py`: the original's options with the original's defaults, and options that are new here."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from typing import ClassVar, Dict, Optional

from gluon_aff.errors import InputError
from gluon_aff.models import CIFAR_HOSTS, CIFAR_SIZE, INNER_WIDTHS
from gluon_aff.settings.declaration import ASSEMBLED, check_declared, option
from gluon_aff.settings.shared import (
    IDLE,
    ClassifierSettings,
    CurveSettings,
    check_model_settings,
    fusion_flag,
    seed_or_drawn,
    unknown_model,
)

STAGES = 3
FIRST_RELEASE_MODELS = {
    "resnext29_32x4d": 3,
    "resnext38_32x4d": 4,
    "resnext47_32x4d": 5,
}  # name: blocks; 32 groups of 4
HEAD_CLASSES = {"cifar10": 10, "cifar100": 100}


def _ratio(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number. In the original, --r abbreviated --resume-from: write that flag in full"
        ) from None


@dataclass(frozen=True)
class CIFARSettings(ClassifierSettings, CurveSettings):
    """Options of a CIFAR run; see `train_cifar.py --help`.

    They have the original's names, which its log prints. The first release always used mixup and did not shift the
    decay epochs. `--recipe afinets` is the recipe of Section 4.1 of the AFINets paper; where that section says nothing,
    the first paper's defaults remain.
    """

    model: str = option(
        "resnet",
        help="network to train: resnet, resnext or inception (fusion within a layer), assembled from the flags below; "
        "a name of the first release such as resnext38_32x4d; or a complete network that `gluon-aff models` lists, "
        "such as afi_resnet32_cifar100",
    )
    r: Optional[int] = option(
        None,
        help="channel reduction ratio of the attention, C to C/r; fixed in the original (default: the original's 4, or "
        "16 for resnext); an AFINet's default is its paper's",
        new=True,
        parse=_ratio,
    )
    blocks: int = option(
        1,
        "network",
        "blocks per stage; the network has 6*blocks+2 layers (resnet, inception) or 9*blocks+2 (resnext)",
        limits=(1, 1000),
        networks=(ASSEMBLED,),
        after="attention",
    )
    channel_times: int = option(
        4,
        "network",
        "factor on the channels 16, 16, 32, 64 of the stem and the three stages",
        limits=(1, 1000),
        networks=(ASSEMBLED,),
        first_release=lambda said: 4 if str(said.model).lower() in FIRST_RELEASE_MODELS else 1,
        after="attention",
    )
    start_layer: int = option(
        1, help="first stage that uses the fusion, 1 to 3; earlier stages add, and with 4 all stages add"
    )
    shortcut: str = option(
        "pool",
        "network",
        "shortcut where a resnet block halves the image: pool is an average pool and a 1x1 convolution, as in the "
        "original; strided is a strided 1x1 convolution, as in the paper's ablation",
        new=True,
        choices=("pool", "strided"),
        networks=(ASSEMBLED,),
        hosts=("resnet",),
        in_name="-",
        after="start_layer",
    )
    inner: str = option(
        "legacy",
        "network",
        "width of the first convolution of an inception block: legacy is the width of the stage before, as in the "
        "first release; full is the stage's own width",
        new=True,
        choices=INNER_WIDTHS,
        networks=(ASSEMBLED,),
        hosts=("inception",),
        in_name="-",
        after="start_layer",
    )
    deep_stem: bool = option(
        False, "network", "use three 3x3 convolutions as the stem", networks=(ASSEMBLED,), after="start_layer"
    )
    init: str = option(
        "xavier",
        "network",
        "distribution of the initial weights: xavier as in the original, or msraprelu (Kaiming's), which the paper "
        "names for its ablation",
        new=True,
        choices=("xavier", "msraprelu"),
        after="start_layer",
    )
    classes: Optional[int] = option(
        None, help="number of outputs of the network (default: 100 for cifar100, also with 20 labels; 10 for cifar10)"
    )
    resume_from: Optional[str] = option(
        None,
        "network",
        "weights to start from, at epoch 0 and with zero momentum (default: new random weights)",
        metavar="FILE",
    )
    dataset: str = option("cifar100", "data", "data set to train on", choices=sorted(HEAD_CLASSES), after="")
    fine_label: bool = option(
        False,
        "data",
        "train on CIFAR-100's 100 classes instead of its 20 superclasses",
        new=True,
        exclusive="labels",
        afinets=lambda said: said.dataset == "cifar100" and not said.superclass,
        after="",
    )
    superclass: bool = option(
        False,
        "data",
        "train on CIFAR-100's 20 superclasses, as the original does (this is the default)",
        new=True,
        exclusive="labels",
        after="",
    )
    data_dir: Optional[str] = option(
        None,
        help="the official archive cifar-100-binary.tar.gz or cifar-10-binary.tar.gz, or a folder with it or its "
        "content (default: Gluon's folder ~/.mxnet/datasets, to which the archive is downloaded)",
        new=True,
    )
    num_workers: int = option(
        96,
        help="limit on the worker processes for AutoAugment; a machine with fewer cores starts one per core",
        after="data_dir",
    )
    auto_aug: bool = option(False, help="apply AutoAugment, with CIFAR-10's policies for both data sets")
    num_epochs: int = option(640, limits=(0, 10**6), afinets=300)
    lr: float = option(0.2, help="learning rate", afinets=0.1)
    cosine: bool = option(
        False,
        "schedule",
        "raise the rate linearly, then lower it to 0 by half a cosine, instead of in steps",
        after="lr",
    )
    warmup_epochs: int = option(
        10, help="epochs of warm-up with --cosine; without it, they only make all decay epochs come that much earlier"
    )
    lr_decay_epoch: str = option(
        "300,450",
        help="epochs at which the rate is cut, comma-separated; each cut comes --warmup-epochs earlier, as in the "
        "original",
        first_release="40,60",
        afinets="150,225",
    )
    recipe: ClassVar[str] = option(
        "aff",
        help="aff has the original's defaults; afinets those of the AFINets paper, Section 4.1 (SGD, 64 images on one "
        "GPU, 300 epochs, lr 0.1 cut at 150 and 225, 100 classes)",
    )
    mixup: bool = option(False, first_release=True)
    mixup_off_epoch: int = option(40, first_release=20)
    no_wd: bool = option(
        False, help="exempt biases, beta and gamma from weight decay; as in the original, only with --cosine"
    )
    gpus: str = option("0,1,2,3", first_release="0", afinets="0")
    release: ClassVar[str] = option(
        "head",
        help="head has the defaults of the original's last commit; first has those of its first release (32 images per "
        "GPU, lr 0.1, mixup except in the last 20 epochs, decay epochs not shifted, ...), for commands of that time",
    )
    save_period: int = option(
        10,
        "files",
        "0 writes no weights; with any other value, as in the original, those of each best epoch are written",
        may_differ=True,
    )
    drop_rate: float = option(0.0, IDLE, "dropout rate, which no network uses", after="")

    published_side = CIFAR_SIZE

    @property
    def saves(self) -> bool:
        """Return whether the run writes any weights."""
        return super().saves and self.save_period != 0

    @property
    def directories(self) -> Dict[str, str]:
        """Return the directories that the run writes to, by the flag that names each."""
        return {**super().directories, "working directory": ""}  # the file of the best accuracy goes there

    @property
    def depth(self) -> int:
        """Return the number of layers as the original's file names count them."""
        return (9 if self.model == "resnext" else 6) * self.blocks + 2

    @property
    def head_classes(self) -> int:
        """Return the number of outputs of the network."""
        return self.classes or HEAD_CLASSES[self.dataset]


def resolve(settings: CIFARSettings) -> CIFARSettings:
    """Check the settings, fill in fusion and seed if they are not given, and translate the first release's names.

    Raises:
        InputError: the model or the fusion does not exist, the model does not accept a flag, or a value is out of
            range.
    """
    settings = replace(settings, model=settings.model.lower())
    if settings.model in FIRST_RELEASE_MODELS:
        settings = replace(settings, model="resnext", blocks=FIRST_RELEASE_MODELS[settings.model])
    if settings.model not in CIFAR_HOSTS and not settings.named:
        raise unknown_model(settings.model, [*CIFAR_HOSTS, *FIRST_RELEASE_MODELS], CIFAR_SIZE)
    check_model_settings(settings)
    check_declared(settings)
    _check_resume(settings.resume)
    settings = replace(settings, seed=seed_or_drawn(settings.seed))
    return settings if settings.named else replace(settings, askc_type=fusion_flag(settings.askc_type))


def _check_resume(resume: Optional[str]) -> None:
    if resume and (resume.endswith(".params") or os.path.isfile(os.path.expanduser(resume))):
        raise InputError(
            f"--resume {resume} is not the folder of a checkpoint. In the original, --resume abbreviated "
            "--resume-from, which takes a weights file: write that flag in full"
        )
