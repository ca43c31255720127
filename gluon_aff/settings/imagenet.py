"""Settings of `train_imagenet.py`, its options: the original's flags and defaults, and then ours."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Dict, Optional, Tuple

from gluon_aff.errors import InputError, unknown_name
from gluon_aff.models import BASIC_BLOCKS, BLOCKS, EXACT_BLOCKS, IMAGENET_HOSTS, IMAGENET_SIZE
from gluon_aff.settings.declaration import ASSEMBLED, check_declared, option
from gluon_aff.settings.shared import (
    GOING_ON,
    IDLE,
    ClassifierSettings,
    check_model_settings,
    fusion_flag,
    is_listed,
    seed_or_drawn,
    unknown_model,
)

STAGES = 4
FIRST_RELEASE_MODELS = {"resnext50_32x4d_askc": "resnext"}
RECORD_FOLDER = "~/.mxnet/datasets/imagenet/rec"
ORIGINAL_R = 16


def _record_file(name: str, help: str) -> Any:
    return option(
        f"{RECORD_FOLDER}/{name}",
        "data",
        help,
        metavar="FILE",
        not_empty=True,
        only_with="use_rec",
        may_differ=True,
        after="data_dir",
    )


@dataclass(frozen=True)
class ImageNetSettings(ClassifierSettings):
    """Options of an ImageNet run, named as the original's, whose log prints them; see `train_imagenet.py --help`.

    The first release's --r was 4 and idle: its fusions had today's 16. The recipe of AFINets is that of Section 4.2,
    whose learning rate is 0.1 * 64 / 256.
    """

    model: Optional[str] = option(
        None,
        help="resnet or resnext, the first release's resnext50_32x4d_askc, or a network of `gluon-aff models` as it "
        "is, such as afi_resnet50 (default: resnet)",
    )
    scenario: Optional[str] = option(
        None,
        "network",
        "ResNet or ResNeXt, the first release's name of --model",
        new=True,
        metavar="HOST",
        after="model",
    )
    num_layer: int = option(
        50,
        "network",
        "depth; 152 is 140 in the original; 18, 34: resnet",
        choices=sorted(BLOCKS),
        networks=(ASSEMBLED,),
        after="context",
    )
    exact_layers: bool = option(
        False,
        "network",
        "152 layers in blocks of 3, 8, 36, 3, not the original's 3, 4, 36, 3",
        new=True,
        networks=(ASSEMBLED,),
        after="context",
    )
    start_layer: int = option(
        3, help="first stage with the fusion; earlier ones add, 5 means none of the four fuses", after="exact_layers"
    )
    r: Optional[int] = option(
        None,
        help="channels of a fusion over those of its bottleneck; idle in the original "
        f"(default: {ORIGINAL_R}); AFINets' default is their paper's",
        after="start_layer",
    )
    last_gamma: bool = option(
        False,
        "network",
        "ResNet starts each block as its shortcut; ResNeXt always does",
        networks=(ASSEMBLED,),
        after="attention",
    )
    use_se: bool = option(
        False,
        "network",
        "squeeze-and-excitation in ResNeXt blocks; idle in the original",
        networks=(ASSEMBLED,),
        after="attention",
    )
    classes: int = option(1000)
    data_dir: str = option("~/.mxnet/datasets/imagenet", help="folder of train and val, each with a folder per class")
    use_rec: bool = option(False, "data", "read record files instead, those named next", after="data_dir")
    rec_train: str = _record_file("train.rec", "training images")
    rec_train_idx: str = _record_file("train.idx", "their index")
    rec_val: str = _record_file("val.rec", "validation images")
    rec_val_idx: str = _record_file("val.idx", "their index")
    input_size: int = option(
        IMAGENET_SIZE, "data", "side of the square crop in pixels", limits=(1, 10**4), after="batch_size"
    )
    crop_ratio: float = option(
        0.875,
        "data",
        "crop's side over the image's shorter side in validation, in 0.01..1; 0: 0.875",
        limits=(1e-2, 1),
        after="batch_size",
    )
    auto_aug: bool = option(False, help="AutoAugment with the ImageNet policies; no effect with --use-rec")
    num_workers: int = option(96, help="that many load and augment images, at most one per core", after="auto_aug")
    num_epochs: int = option(240, afinets=90)
    lr: float = option(0.075, help="learning rate, not scaled with the devices", afinets=0.025)
    lr_mode: str = option(
        "cosine",
        "schedule",
        "course after the warm-up: half cosine, poly or straight to 0, steps, or none",
        choices=("cosine", "step", "poly", "linear", "constant"),
        first_release="step",
        afinets="step",
        after="lr",
    )
    warmup_epochs: int = option(5, help="epochs in which the rate rises from 0 to --lr")
    lr_decay: float = option(0.1, help="factor at each decay epoch, with --lr-mode step")
    lr_decay_epoch: str = option("40,60", help="decay epochs, with --lr-mode step", afinets="30,60,80")
    recipe: ClassVar[str] = option(
        "aff",
        help="afinets: defaults of the second paper (SGD, 64 images on one GPU, 90 epochs, lr 0.025 cut at 30, 60, 80)",
    )
    momentum: float = option(0.9, help="of the optimizer, in 0..1")
    mixup_alpha: float = option(0.2)
    mixup_off_epoch: int = option(5, first_release=0)
    teacher: Optional[str] = option(
        None, "distillation", "network to learn from, of GluonCV or of this package", metavar="MODEL", not_empty=True
    )
    teacher_params: Optional[str] = option(
        None, "distillation", "its weights", new=True, metavar="FILE", not_empty=True, may_differ=True
    )
    temperature: float = option(
        20, "distillation", "divides the logits of both in the distillation loss", limits=(1e-3, 1e30)
    )
    hard_weight: float = option(
        0.5, "distillation", "share of the labels' loss, in 0..1; the rest is the teacher's", limits=(0, 1)
    )
    num_gpus: int = option(
        4,
        "run",
        "GPUs to train on, or as many as there are; 0 or less is the CPU",
        limits=(-1000, 1000),
        may_differ=True,
        first_release=0,
        afinets=1,
        after="",
    )
    strict_devices: bool = option(
        False, "run", "stop if there are fewer GPUs than --num-gpus", new=True, may_differ=True, after=""
    )
    dtype: str = option(
        "float16",
        "run",
        "number format: float16 keeps float32 weights besides and needs a GPU (a CPU takes float32); "
        "bfloat16 is mixed precision on a CPU",
        choices=("float16", "float32", "float64", "bfloat16"),
        first_release="float32",
        after="",
    )
    mode: str = option("hybrid", choices=("hybrid", "symbolic", "imperative"), after="dtype")
    release: ClassVar[str] = option(
        "head",
        help="first: all defaults of the first release (32 images per GPU, lr 0.1 in steps, float32, mixup to the last "
        "epoch, ...), for commands of that time",
    )
    save_dir: str = option("params", help="weights and optimizer states go here, best and periodic ones")
    save_frequency: int = option(
        10,
        "files",
        "epochs between periodic files; 0 writes no weights at all",
        limits=(0, 10**6),
        may_differ=True,
        after="save_dir",
    )
    keep_one_best: bool = option(False, help="remove this run's earlier best files at an improvement")
    logging_file: str = option(
        "train_imagenet.log", "files", "the log, appended", metavar="FILE", not_empty=True, may_differ=True
    )
    log_interval: int = option(
        50, "files", "steps between lines of speed and learning rate; 0 for none", limits=(0, 10**9), may_differ=True
    )
    resume_epoch: int = option(0, GOING_ON, "epoch to start at, counted from 0", limits=(0, 10**6))
    resume_params: str = option("", GOING_ON, "weights to start from", metavar="FILE")
    resume_states: str = option(
        "",
        GOING_ON,
        "optimizer states to start from: momentum and float32 weights; the schedule is this command line's",
        metavar="FILE",
    )
    batch_norm: bool = option(False, IDLE, "batch normalisation the networks have anyway")
    use_gn: bool = option(False, IDLE, "group normalisation the networks do not have")
    use_pretrained: bool = option(False, IDLE, "start from weights: --resume-params does")

    published_side = IMAGENET_SIZE
    log_format = "%(message)s"

    @property
    def saves(self) -> bool:
        """Whether any weights are written."""
        return super().saves and self.save_frequency != 0

    @property
    def directories(self) -> Dict[str, str]:
        """Where files of the run are written, by flag."""
        return {**super().directories, "--logging-file": os.path.dirname(self.logging_file)}

    @property
    def basic(self) -> bool:
        """Whether the network has basic blocks, of two convolutions, instead of bottlenecks of three."""
        return self.num_layer in BASIC_BLOCKS

    @property
    def blocks(self) -> Tuple[int, ...]:
        """Blocks of the four stages."""
        return (EXACT_BLOCKS if self.exact_layers else BLOCKS)[self.num_layer]

    @property
    def gpu_ids(self) -> str:
        """Numbers of the GPUs to train on, comma-separated; empty for the CPU."""
        return ",".join(map(str, range(self.num_gpus)))

    @property
    def hybrid(self) -> bool:
        """Whether the network is compiled."""
        return self.mode == "hybrid"

    @property
    def used_crop_ratio(self) -> float:
        """The `crop_ratio`, or its default if that is not above 0."""
        return self.crop_ratio if self.crop_ratio > 0 else ImageNetSettings.crop_ratio


def resolve(settings: ImageNetSettings) -> ImageNetSettings:
    """Fill in what is not given (host, fusion, seed) and translate the first release's names.

    Afterwards `model` is one of `IMAGENET_HOSTS`, and `scenario` is what the first release called it, None if the
    command line has today's name.

    Raises:
        InputError: for a model that does not exist, a value out of range, or flags that contradict each other.
    """
    model, scenario = _host(settings.model, settings.scenario)
    settings = replace(settings, model=model, scenario=scenario)
    check_model_settings(settings)
    check_declared(replace(settings, crop_ratio=settings.used_crop_ratio))
    if settings.basic and model != "resnet":
        raise InputError(f"--num-layer {settings.num_layer} is a ResNet's: take --model resnet")
    if settings.resume_epoch >= settings.num_epochs:
        raise InputError(
            f"--resume-epoch {settings.resume_epoch} leaves nothing to train: raise --num-epochs {settings.num_epochs}"
        )
    settings = replace(settings, seed=seed_or_drawn(settings.seed))
    if settings.named:
        return settings
    return replace(settings, r=settings.r or ORIGINAL_R, askc_type=fusion_flag(settings.askc_type))


def _host(model: Optional[str], scenario: Optional[str]) -> Tuple[str, Optional[str]]:
    """Host that `--model` and `--scenario` mean, and the first release's name of it if they have that."""
    meant = "resnet" if scenario is None else _host_called(scenario)
    if meant is None:
        raise unknown_name("--scenario", str(scenario), ["ResNet", "ResNeXt"])
    if model is None:
        return meant, scenario or "ResNet"
    host = _host_called(model)
    if host is None:
        raise unknown_model(model, [*IMAGENET_HOSTS, *FIRST_RELEASE_MODELS], IMAGENET_SIZE)
    if scenario is not None and meant != host:
        raise InputError(f"--model {model} and --scenario {scenario} contradict each other: leave one out")
    return host, scenario if model == host else model


def _host_called(name: str) -> Optional[str]:
    name = name.lower()
    there = name in IMAGENET_HOSTS or is_listed(name, IMAGENET_SIZE)
    return FIRST_RELEASE_MODELS.get(name, name if there else None)


def used_dtype(settings: ImageNetSettings, on_gpu: bool) -> str:
    """Number format that a run on GPUs, or on a CPU, has: float16 becomes float32 on a CPU, and with --amp."""
    return "float32" if settings.amp or (settings.dtype == "float16" and not on_gpu) else settings.dtype
