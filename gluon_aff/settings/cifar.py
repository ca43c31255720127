"""Settings of `train_cifar.py`, its options: the original's flags and defaults, and then ours."""

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
            f"{text!r} is no whole number. In the original, --r was short for --resume-from: write that out"
        ) from None


@dataclass(frozen=True)
class CIFARSettings(ClassifierSettings, CurveSettings):
    """Options of a CIFAR run, named as the original's, whose log prints them; see `train_cifar.py --help`.

    The first release always mixed up, and did not shift the decay epochs. The recipe of AFINets is that of Section 4.1;
    what it does not say is as for the first paper.
    """

    model: str = option(
        "resnet",
        help="resnet, resnext, inception (fusion within layers), a first release's name such as resnext38_32x4d, or a "
        "network of `gluon-aff models` as it is, such as afi_resnet32_cifar100",
    )
    r: Optional[int] = option(
        None,
        help="channel reduction ratio (default: 4; resnext: 16, as in the original); AFINets' default is their paper's",
        new=True,
        parse=_ratio,
    )
    blocks: int = option(
        1,
        "network",
        "blocks per stage; depth is 6*blocks+2 (resnet, inception) or 9*blocks+2 (resnext)",
        limits=(1, 1000),
        networks=(ASSEMBLED,),
        after="attention",
    )
    channel_times: int = option(
        4,
        "network",
        "width multiplier of 16, 16, 32, 64 channels",
        limits=(1, 1000),
        networks=(ASSEMBLED,),
        first_release=lambda said: 4 if str(said.model).lower() in FIRST_RELEASE_MODELS else 1,
        after="attention",
    )
    start_layer: int = option(1, help="first stage with the fusion; earlier ones add, 4 means none fuses")
    shortcut: str = option(
        "pool",
        "network",
        "of resnet blocks that shrink: average pool and 1x1, or strided 1x1 as in the paper's ablation",
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
        "width of inception's first convolution in a block: of the stage before as in the first release, or full",
        new=True,
        choices=INNER_WIDTHS,
        networks=(ASSEMBLED,),
        hosts=("inception",),
        in_name="-",
        after="start_layer",
    )
    deep_stem: bool = option(
        False, "network", "three 3x3 convolutions as stem", networks=(ASSEMBLED,), after="start_layer"
    )
    init: str = option(
        "xavier",
        "network",
        "initial weights; msraprelu is Kaiming's, which the paper's ablation names",
        new=True,
        choices=("xavier", "msraprelu"),
        after="start_layer",
    )
    classes: Optional[int] = option(None, help="outputs of the network (default: 100 for cifar100, 10 for cifar10)")
    resume_from: Optional[str] = option(
        None, "network", "start from these weights, at epoch 0 and without momentum", metavar="FILE"
    )
    dataset: str = option("cifar100", "data", "data set", choices=sorted(HEAD_CLASSES), after="")
    fine_label: bool = option(
        False,
        "data",
        "CIFAR-100's 100 classes",
        new=True,
        exclusive="labels",
        afinets=lambda said: said.dataset == "cifar100" and not said.superclass,
        after="",
    )
    superclass: bool = option(
        False, "data", "CIFAR-100's 20 superclasses, the original's default", new=True, exclusive="labels", after=""
    )
    data_dir: Optional[str] = option(
        None,
        help="official cifar-100-binary.tar.gz or cifar-10-binary.tar.gz, or their folder (default: Gluon's own "
        "folder, ~/.mxnet/datasets)",
        new=True,
    )
    num_workers: int = option(96, help="worker processes for AutoAugment, at most one per core", after="data_dir")
    auto_aug: bool = option(False, help="AutoAugment with the CIFAR-10 policies")
    num_epochs: int = option(640, limits=(0, 10**6), afinets=300)
    lr: float = option(0.2, help="learning rate", afinets=0.1)
    cosine: bool = option(False, "schedule", "linear warm-up, then a half cosine to 0, instead of steps", after="lr")
    warmup_epochs: int = option(10, help="epochs of warm-up with --cosine; also shift the decay epochs")
    lr_decay_epoch: str = option(
        "300,450", help="decay epochs; each comes --warmup-epochs earlier", first_release="40,60", afinets="150,225"
    )
    recipe: ClassVar[str] = option(
        "aff",
        help="afinets: defaults of the second paper (SGD, 64 images on one GPU, 300 epochs, lr 0.1 cut at 150 and 225, "
        "100 classes)",
    )
    mixup: bool = option(False, first_release=True)
    mixup_off_epoch: int = option(40, first_release=20)
    no_wd: bool = option(False, help="no weight decay of biases, beta and gamma; only with --cosine")
    gpus: str = option("0,1,2,3", first_release="0", afinets="0")
    release: ClassVar[str] = option(
        "head",
        help="first: all defaults of the first release (32 images per GPU, lr 0.1, mixup on but in the last 20 epochs, "
        "decay epochs not shifted, ...), for commands of that time",
    )
    save_period: int = option(
        10, "files", "0 writes no weights; otherwise without effect, as in the original", may_differ=True
    )
    drop_rate: float = option(0.0, IDLE, "dropout the networks do not have", after="")

    published_side = CIFAR_SIZE

    @property
    def saves(self) -> bool:
        """Whether any weights are written."""
        return super().saves and self.save_period != 0

    @property
    def directories(self) -> Dict[str, str]:
        """Where files of the run are written, by flag."""
        return {**super().directories, "working directory": ""}  # for the best accuracy

    @property
    def depth(self) -> int:
        """Layers by the original's count."""
        return (9 if self.model == "resnext" else 6) * self.blocks + 2

    @property
    def head_classes(self) -> int:
        """Outputs of the network."""
        return self.classes or HEAD_CLASSES[self.dataset]


def resolve(settings: CIFARSettings) -> CIFARSettings:
    """Fill in what is not given (fusion, seed) and translate the first release's model names.

    Raises:
        InputError: for a model that does not exist or a value out of range.
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
            f"--resume {resume} is no checkpoint's folder. In the original, --resume was short for --resume-from, "
            "which takes weights: write that out"
        )
