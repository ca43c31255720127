"""Settings of `train_imagenet.py`: the original's options with its defaults, and options that are new here."""

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
    """Options of an ImageNet run; see `train_imagenet.py --help`.

    They have the original's names, which its log prints. The first release had --r 4 without effect: its fusions
    reduced by 16, as today's do. `--recipe afinets` is the recipe of Section 4.2 of the AFINets paper, whose learning
    rate is 0.1 * 64 / 256.
    """

    model: Optional[str] = option(
        None,
        help="network to train: resnet or resnext, assembled from the flags below; the first release's "
        "resnext50_32x4d_askc; or a complete network that `gluon-aff models` lists, such as afi_resnet50 (default: "
        "resnet)",
    )
    scenario: Optional[str] = option(
        None,
        "network",
        "ResNet or ResNeXt; the first release's flag in place of --model",
        new=True,
        metavar="HOST",
        after="model",
    )
    num_layer: int = option(
        50,
        "network",
        "number of layers; 152 builds 140, as in the original; 18 and 34 exist for resnet only",
        choices=sorted(BLOCKS),
        networks=(ASSEMBLED,),
        after="context",
    )
    exact_layers: bool = option(
        False,
        "network",
        "build --num-layer 152 from 3, 8, 36 and 3 blocks, which makes 152 layers, instead of the original's 3, 4, 36 "
        "and 3",
        new=True,
        networks=(ASSEMBLED,),
        after="context",
    )
    start_layer: int = option(
        3,
        help="first stage that uses the fusion, 1 to 4; earlier stages add, and with 5 all stages add (the original's "
        "help says 4)",
        after="exact_layers",
    )
    r: Optional[int] = option(
        None,
        help=f"channel reduction ratio of the attention, C to C/r; the original ignores it and takes {ORIGINAL_R} "
        f"(default: {ORIGINAL_R}); an AFINet's default is its paper's",
        after="start_layer",
    )
    last_gamma: bool = option(
        False,
        "network",
        "start the last gamma of each resnet block at 0, so that the block begins as its shortcut; resnext always "
        "does, as in the original",
        networks=(ASSEMBLED,),
        after="attention",
    )
    use_se: bool = option(
        False,
        "network",
        "put squeeze-and-excitation into resnext blocks; without effect in the original",
        networks=(ASSEMBLED,),
        after="attention",
    )
    classes: int = option(1000)
    data_dir: str = option(
        "~/.mxnet/datasets/imagenet", help="folder that holds train and val, each with a folder for every class"
    )
    use_rec: bool = option(
        False, "data", "read the four record files named next instead of the folders", after="data_dir"
    )
    rec_train: str = _record_file("train.rec", "record file of the training images")
    rec_train_idx: str = _record_file("train.idx", "index of --rec-train")
    rec_val: str = _record_file("val.rec", "record file of the validation images")
    rec_val_idx: str = _record_file("val.idx", "index of --rec-val")
    input_size: int = option(
        IMAGENET_SIZE,
        "data",
        "side of the square images that the network sees, in pixels",
        limits=(1, 10**4),
        after="batch_size",
    )
    crop_ratio: float = option(
        0.875,
        "data",
        "side of the validation crop divided by the shorter side of the image, 0.01 to 1; 0 or less stands for 0.875",
        limits=(1e-2, 1),
        after="batch_size",
    )
    auto_aug: bool = option(
        False, help="apply AutoAugment, with ImageNet's policies; without effect with --use-rec, as in the original"
    )
    num_workers: int = option(
        96,
        help="limit on the processes that load and augment images; a machine with fewer cores starts one per core",
        after="auto_aug",
    )
    num_epochs: int = option(240, afinets=90)
    lr: float = option(
        0.075, help="learning rate after the warm-up; it is not scaled with the number of devices", afinets=0.025
    )
    lr_mode: str = option(
        "cosine",
        "schedule",
        "course of the learning rate after the warm-up: to 0 by half a cosine (cosine), a square (poly) or a straight "
        "line (linear), in steps (step), or constant",
        choices=("cosine", "step", "poly", "linear", "constant"),
        first_release="step",
        afinets="step",
        after="lr",
    )
    warmup_epochs: int = option(5, help="epochs in which the learning rate rises linearly from 0 to --lr")
    lr_decay: float = option(0.1, help="factor on the learning rate at each decay epoch, with --lr-mode step")
    lr_decay_epoch: str = option(
        "40,60", help="epochs at which the rate is cut, comma-separated, with --lr-mode step", afinets="30,60,80"
    )
    recipe: ClassVar[str] = option(
        "aff",
        help="aff has the original's defaults; afinets those of the AFINets paper, Section 4.2 (SGD, 64 images on one "
        "GPU, 90 epochs, lr 0.025 cut at 30, 60, 80)",
    )
    momentum: float = option(0.9)
    mixup_alpha: float = option(0.2)
    mixup_off_epoch: int = option(5, first_release=0)
    teacher: Optional[str] = option(
        None,
        "distillation",
        "network of GluonCV or of this package whose outputs are learned, too (default: no distillation)",
        metavar="MODEL",
        not_empty=True,
    )
    teacher_params: Optional[str] = option(
        None,
        "distillation",
        "weights file of --teacher, which the original lets GluonCV download",
        new=True,
        metavar="FILE",
        not_empty=True,
        may_differ=True,
    )
    temperature: float = option(
        20, "distillation", "divisor of teacher's and student's logits in the distillation loss", limits=(1e-3, 1e30)
    )
    hard_weight: float = option(
        0.5, "distillation", "weight of the labels' loss, 0 to 1; the teacher's loss has the rest", limits=(0, 1)
    )
    num_gpus: int = option(
        4,
        "run",
        "number of GPUs to train on, at most as many as there are; 0 or less trains on the CPU",
        limits=(-1000, 1000),
        may_differ=True,
        first_release=0,
        afinets=1,
        after="",
    )
    strict_devices: bool = option(
        False, "run", "stop with an error if --num-gpus is more than there are", new=True, may_differ=True, after=""
    )
    dtype: str = option(
        "float16",
        "run",
        "number format: float16 needs a GPU, keeps a float32 copy of the weights, and becomes float32 on a CPU; "
        "bfloat16 is mixed precision on a CPU",
        choices=("float16", "float32", "float64", "bfloat16"),
        first_release="float32",
        after="",
    )
    mode: str = option("hybrid", choices=("hybrid", "symbolic", "imperative"), after="dtype")
    release: ClassVar[str] = option(
        "head",
        help="head has the defaults of the original's last commit; first has those of its first release (32 images per "
        "GPU, lr 0.1 in steps, float32, mixup up to the last epoch, ...), for commands of that time",
    )
    save_dir: str = option(
        "params", help="directory of the best and the periodic weights and optimizer states; empty writes none"
    )
    save_frequency: int = option(
        10,
        "files",
        "epochs from one periodic weights file to the next; 0 writes no weights at all, not even the best",
        limits=(0, 10**6),
        may_differ=True,
        after="save_dir",
    )
    keep_one_best: bool = option(
        False, help="delete the best weights and states so far of this run when better ones are written"
    )
    logging_file: str = option(
        "train_imagenet.log",
        "files",
        "log file, to which the run's lines are appended",
        metavar="FILE",
        not_empty=True,
        may_differ=True,
    )
    log_interval: int = option(
        50,
        "files",
        "steps between log lines of speed and learning rate; 0 writes none",
        limits=(0, 10**9),
        may_differ=True,
    )
    resume_epoch: int = option(0, GOING_ON, "number of the epoch to start at, counted from 0", limits=(0, 10**6))
    resume_params: str = option("", GOING_ON, "weights to start from (default: new random weights)", metavar="FILE")
    resume_states: str = option(
        "",
        GOING_ON,
        "optimizer states to start from: momentum and float32 weights. The learning rate follows this command line, "
        "where the original takes it from the file (default: zero momentum)",
        metavar="FILE",
    )
    batch_norm: bool = option(False, IDLE, "use batch normalisation, which the networks always have")
    use_gn: bool = option(False, IDLE, "use group normalisation, which no network has")
    use_pretrained: bool = option(False, IDLE, "start from published weights; --resume-params does that")

    published_side = IMAGENET_SIZE
    log_format = "%(message)s"

    @property
    def saves(self) -> bool:
        """Return whether the run writes any weights."""
        return super().saves and self.save_frequency != 0

    @property
    def directories(self) -> Dict[str, str]:
        """Return the directories that the run writes to, by the flag that names each."""
        return {**super().directories, "--logging-file": os.path.dirname(self.logging_file)}

    @property
    def basic(self) -> bool:
        """Return whether the network has basic blocks of two convolutions instead of bottlenecks of three."""
        return self.num_layer in BASIC_BLOCKS

    @property
    def blocks(self) -> Tuple[int, ...]:
        """Return the number of blocks in each of the four stages."""
        return (EXACT_BLOCKS if self.exact_layers else BLOCKS)[self.num_layer]

    @property
    def gpu_ids(self) -> str:
        """Return the numbers of the GPUs to train on, comma-separated; empty for the CPU."""
        return ",".join(map(str, range(self.num_gpus)))

    @property
    def hybrid(self) -> bool:
        """Return whether the network is compiled."""
        return self.mode == "hybrid"

    @property
    def used_crop_ratio(self) -> float:
        """Return the crop ratio, which is the default 0.875 where `crop_ratio` is 0 or less, as in the original."""
        return self.crop_ratio if self.crop_ratio > 0 else ImageNetSettings.crop_ratio


def resolve(settings: ImageNetSettings) -> ImageNetSettings:
    """Check the settings, fill in host, fusion and seed if they are not given, and translate the first release's names.

    In the result, `model` is one of `IMAGENET_HOSTS` or a listed network, and `scenario` is the first release's name of
    it, or None if the command line has today's name.

    Raises:
        InputError: the model or the fusion does not exist, the model does not accept a flag, a value is out of range,
            or flags contradict each other.
    """
    model, scenario = _host(settings.model, settings.scenario)
    settings = replace(settings, model=model, scenario=scenario)
    check_model_settings(settings)
    check_declared(replace(settings, crop_ratio=settings.used_crop_ratio))
    if settings.basic and model != "resnet":
        raise InputError(f"--num-layer {settings.num_layer} exists for ResNets only: take --model resnet")
    if settings.resume_epoch >= settings.num_epochs:
        raise InputError(
            f"--resume-epoch {settings.resume_epoch} leaves nothing to train: raise --num-epochs {settings.num_epochs}"
        )
    settings = replace(settings, seed=seed_or_drawn(settings.seed))
    if settings.named:
        return settings
    return replace(settings, r=settings.r or ORIGINAL_R, askc_type=fusion_flag(settings.askc_type))


def _host(model: Optional[str], scenario: Optional[str]) -> Tuple[str, Optional[str]]:
    """Return the host that `--model` and `--scenario` name, and the first release's name of it if that was given."""
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
    """Return the number format of the run: float16 becomes float32 on a CPU, and with --amp every format does."""
    return "float32" if settings.amp or (settings.dtype == "float16" and not on_gpu) else settings.dtype
