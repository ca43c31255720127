"""Command line and settings of `train_imagenet.py`: the original's flags and defaults, and ours behind them."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Tuple

from gluon_aff.errors import InputError, unknown_name
from gluon_aff.models import BASIC_BLOCKS, BLOCKS, EXACT_BLOCKS, IMAGENET_HOSTS
from gluon_aff.schedule import decay_epochs
from gluon_aff.training.options import (
    COMMON_MAY_DIFFER,
    COMMON_NEW_FLAGS,
    add_checkpoint_options,
    add_fusion_options,
    add_integration_options,
    add_recipe_option,
    add_regularisation_options,
    add_release_option,
    add_run_options,
    check_model_settings,
    check_not_empty,
    check_ranges,
    flag,
    fusion_flag,
    fusion_part,
    is_listed,
    keep_abbreviations,
    named_part,
    said_in,
    seed_or_drawn,
    set_defaults,
    unknown_model,
)

STAGES = 4
FIRST_RELEASE_MODELS = {"resnext50_32x4d_askc": "resnext"}
# Where the first release's defaults are not today's. Its --r was 4 and idle: its fusions had today's 16
FIRST_RELEASE_DEFAULTS: Dict[str, object] = {
    "batch_size": 32,
    "dtype": "float32",
    "num_gpus": 0,
    "num_workers": 4,
    "num_epochs": 3,
    "lr": 0.1,
    "lr_mode": "step",
    "warmup_epochs": 0,
    "mode": "imperative",
    "mixup_off_epoch": 0,
}
# AFINets, Section 4.2: lr 0.1 * 64 / 256
AFINETS_RECIPE: Dict[str, object] = {
    "optimizer": "sgd",
    "batch_size": 64,
    "num_gpus": 1,
    "num_epochs": 90,
    "lr": 0.025,
    "lr_mode": "step",
    "lr_decay_epoch": "30,60,80",
    "warmup_epochs": 0,
}
RECORD_FOLDER = "~/.mxnet/datasets/imagenet/rec"
RECORD_FILES = ("rec_train", "rec_train_idx", "rec_val", "rec_val_idx")
MAY_DIFFER = (
    *COMMON_MAY_DIFFER,
    *RECORD_FILES,
    "num_gpus",
    "strict_devices",
    "save_frequency",
    "logging_file",
    "log_interval",
    "teacher_params",
)
NETWORK_SETTINGS = (
    *("askc_type", "scale", "context", "start_layer", "num_layer", "exact_layers"),
    *("last_gamma", "use_se"),
)
NEW_FLAGS = (*COMMON_NEW_FLAGS, "--scenario", "--exact-layers", "--teacher-params", "--strict-devices")
ORIGINAL_R = 16
MODES = ("hybrid", "symbolic", "imperative")
LR_MODES = ("cosine", "step", "poly", "linear", "constant")
DTYPES = ("float16", "float32", "float64", "bfloat16")
LIMITS: Dict[str, Tuple[float, float]] = {
    "r": (1, 10**6),
    "input_size": (1, 10**4),
    "num_gpus": (-1000, 1000),
    "resume_epoch": (0, 10**6),
    "save_frequency": (0, 10**6),
    "log_interval": (0, 10**9),
    "hard_weight": (0, 1),
    "temperature": (1e-3, 1e30),
    "crop_ratio": (1e-2, 1),
}


@dataclass(frozen=True)
class ImageNetSettings:
    """Options of an ImageNet run, named as the original's, whose log prints them; see `train_imagenet.py --help`."""

    data_dir: str = "~/.mxnet/datasets/imagenet"
    rec_train: str = f"{RECORD_FOLDER}/train.rec"
    rec_train_idx: str = f"{RECORD_FOLDER}/train.idx"
    rec_val: str = f"{RECORD_FOLDER}/val.rec"
    rec_val_idx: str = f"{RECORD_FOLDER}/val.idx"
    use_rec: bool = False
    summary: bool = False
    batch_size: int = 128
    r: Optional[int] = None
    dtype: str = "float16"
    model: Optional[str] = None
    askc_type: Optional[str] = None
    num_gpus: int = 4
    num_workers: int = 96
    num_epochs: int = 240
    lr: float = 0.075
    momentum: float = 0.9
    wd: float = 1e-4
    lr_mode: str = "cosine"
    lr_decay: float = 0.1
    lr_decay_period: int = 0
    lr_decay_epoch: str = "40,60"
    warmup_lr: float = 0.0
    warmup_epochs: int = 5
    last_gamma: bool = False
    mode: str = "hybrid"
    input_size: int = 224
    crop_ratio: float = 0.875
    use_pretrained: bool = False
    use_se: bool = False
    mixup: bool = False
    mixup_alpha: float = 0.2
    mixup_off_epoch: int = 5
    label_smoothing: bool = False
    no_wd: bool = False
    teacher: Optional[str] = None
    temperature: float = 20
    hard_weight: float = 0.5
    batch_norm: bool = False
    save_frequency: int = 10
    save_dir: str = "params"
    resume_epoch: int = 0
    resume_params: str = ""
    resume_states: str = ""
    log_interval: int = 50
    logging_file: str = "train_imagenet.log"
    use_gn: bool = False
    auto_aug: bool = False
    start_layer: int = 3
    num_layer: int = 50
    scenario: Optional[str] = None
    exact_layers: bool = False
    classes: int = 1000
    teacher_params: Optional[str] = None
    seed: Optional[int] = None
    strict_devices: bool = False
    keep_one_best: bool = False
    checkpoint_every: int = 1
    resume: Optional[str] = None
    kvstore: str = "device"
    sync_bn: bool = False
    scale: Optional[float] = None
    context: Optional[str] = None
    optimizer: str = "nag"
    stages: Optional[str] = None
    attention: Optional[str] = None

    @property
    def named(self) -> bool:
        """Whether the model is one of `gluon-aff models`, not put together from flags."""
        return self.model is not None and is_listed(self.model, ImageNetSettings.input_size)

    @property
    def basic(self) -> bool:
        """Whether the network has basic blocks, of two convolutions, instead of bottlenecks of three."""
        return self.num_layer in BASIC_BLOCKS

    @property
    def blocks(self) -> Tuple[int, ...]:
        """Blocks of the four stages."""
        return (EXACT_BLOCKS if self.exact_layers else BLOCKS)[self.num_layer]

    @property
    def hybrid(self) -> bool:
        """Whether the network is compiled."""
        return self.mode == "hybrid"

    @property
    def used_crop_ratio(self) -> float:
        """The `crop_ratio`, or its default if that is not above 0."""
        return self.crop_ratio if self.crop_ratio > 0 else ImageNetSettings.crop_ratio


def add_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    """Give `parser` the options of `train_imagenet.py`; `--release` and `--recipe` in `argv` change their defaults."""
    parser.usage = "%(prog)s [options]"
    _add_network_options(parser.add_argument_group("network"))
    _add_data_options(parser.add_argument_group("data"))
    _add_schedule_options(parser.add_argument_group("schedule"))
    add_regularisation_options(parser.add_argument_group("regularisation"))
    _add_distillation_options(parser.add_argument_group("distillation"))
    _add_run_options(parser.add_argument_group("run"))
    _add_file_options(parser.add_argument_group("files"))
    add_checkpoint_options(parser.add_argument_group("checkpoints"))
    _add_resume_options(parser.add_argument_group("going on with a run, as the original does"))
    _add_idle_options(parser.add_argument_group("accepted without effect, as in the original"))
    keep_abbreviations(parser, NEW_FLAGS)
    set_defaults(parser, ImageNetSettings, _changed_defaults(said_in(argv, parser)))


def _add_network_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model",
        help="resnet or resnext, the first release's resnext50_32x4d_askc, or a network of `gluon-aff models` as it "
        "is, such as afi_resnet50 (default: resnet)",
    )
    group.add_argument("--scenario", metavar="HOST", help="ResNet or ResNeXt, the first release's name of --model")
    add_fusion_options(group)
    group.add_argument(
        "--num-layer", type=int, choices=sorted(BLOCKS), help="depth; 152 is 140 in the original; 18, 34: resnet"
    )
    group.add_argument(
        "--exact-layers",
        action="store_true",
        help="152 layers in blocks of 3, 8, 36, 3, not the original's 3, 4, 36, 3",
    )
    group.add_argument(
        "--start-layer", type=int, help="first stage with the fusion; earlier ones add, 5 means none of the four fuses"
    )
    group.add_argument(
        "--r",
        type=int,
        help="channels of a fusion over those of its bottleneck; idle in the original "
        f"(default: {ORIGINAL_R}); AFINets' default is their paper's",
    )
    add_integration_options(group)
    group.add_argument(
        "--last-gamma", action="store_true", help="ResNet starts each block as its shortcut; ResNeXt always does"
    )
    group.add_argument(
        "--use-se", action="store_true", help="squeeze-and-excitation in ResNeXt blocks; idle in the original"
    )
    group.add_argument("--classes", type=int, help="outputs of the network")


def _add_data_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data-dir", metavar="DIR", help="folder of train and val, each with a folder per class")
    group.add_argument("--use-rec", action="store_true", help="read record files instead, those named next")
    group.add_argument("--rec-train", metavar="FILE", help="training images")
    group.add_argument("--rec-train-idx", metavar="FILE", help="their index")
    group.add_argument("--rec-val", metavar="FILE", help="validation images")
    group.add_argument("--rec-val-idx", metavar="FILE", help="their index")
    group.add_argument("--batch-size", type=int, help="images per device and step")
    group.add_argument("--input-size", type=int, help="side of the square crop in pixels")
    group.add_argument(
        "--crop-ratio", type=float, help="crop's side over the image's shorter side in validation, in 0.01..1; 0: 0.875"
    )
    group.add_argument(
        "--auto_aug", action="store_true", help="AutoAugment with the ImageNet policies; no effect with --use-rec"
    )
    group.add_argument(
        "-j",
        "--num-data-workers",
        "--num-workers",
        dest="num_workers",
        type=int,
        help="that many load and augment images, at most one per core",
    )


def _add_schedule_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--num-epochs", type=int, help="epochs")
    group.add_argument("--lr", type=float, help="learning rate, not scaled with the devices")
    group.add_argument(
        "--lr-mode",
        choices=LR_MODES,
        help="course after the warm-up: half cosine, poly or straight to 0, steps, or none",
    )
    group.add_argument("--warmup-epochs", type=int, help="epochs in which the rate rises from 0 to --lr")
    group.add_argument("--lr-decay", type=float, help="factor at each decay epoch, with --lr-mode step")
    group.add_argument("--lr-decay-epoch", metavar="EPOCHS", help="decay epochs, with --lr-mode step")
    group.add_argument("--lr-decay-period", type=int, help="decay every so many epochs instead, if not 0")
    add_recipe_option(group, "SGD, 64 images on one GPU, 90 epochs, lr 0.025 cut at 30, 60, 80")
    group.add_argument("--momentum", type=float, help="of the optimizer, in 0..1")


def _add_distillation_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--teacher", metavar="MODEL", help="network to learn from, of GluonCV or of this package")
    group.add_argument("--teacher-params", metavar="FILE", help="its weights")
    group.add_argument("--temperature", type=float, help="divides the logits of both in the distillation loss")
    group.add_argument(
        "--hard-weight", type=float, help="share of the labels' loss, in 0..1; the rest is the teacher's"
    )


def _add_run_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--num-gpus", type=int, help="GPUs to train on, or as many as there are; 0 or less is the CPU")
    group.add_argument("--strict-devices", action="store_true", help="stop if there are fewer GPUs than --num-gpus")
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        help="number format: float16 keeps float32 weights besides and needs a GPU (a CPU takes float32); "
        "bfloat16 is mixed precision on a CPU",
    )
    group.add_argument("--mode", choices=MODES, help="hybrid compiles the network; symbolic does not either")
    add_release_option(group, "32 images per GPU, lr 0.1 in steps, float32, mixup to the last epoch, ...")
    add_run_options(group)


def _add_file_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--save-dir", metavar="DIR", help="weights and optimizer states go here, best and periodic ones")
    group.add_argument("--save-frequency", type=int, help="epochs between periodic files; 0 writes no weights at all")
    group.add_argument(
        "--keep-one-best", action="store_true", help="remove this run's earlier best files at an improvement"
    )
    group.add_argument("--logging-file", metavar="FILE", help="the log, appended")
    group.add_argument("--log-interval", type=int, help="steps between lines of speed and learning rate; 0 for none")


def _add_resume_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--resume-epoch", type=int, help="epoch to start at, counted from 0")
    group.add_argument("--resume-params", metavar="FILE", help="weights to start from")
    group.add_argument(
        "--resume-states",
        metavar="FILE",
        help="optimizer states to start from: momentum and float32 weights; the schedule is this command line's",
    )


def _add_idle_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--warmup-lr", type=float, help="warm-up starts at 0 whatever this says")
    group.add_argument("--batch-norm", action="store_true", help="batch normalisation the networks have anyway")
    group.add_argument("--use-gn", action="store_true", help="group normalisation the networks do not have")
    group.add_argument("--use-pretrained", action="store_true", help="start from weights: --resume-params does")


def _changed_defaults(said: argparse.Namespace) -> Dict[str, object]:
    """What `--release first` and `--recipe afinets` change of the defaults; flags given still overrule it."""
    changed = dict(FIRST_RELEASE_DEFAULTS) if said.release == "first" else {}
    if said.recipe == "afinets":
        changed.update(AFINETS_RECIPE)
    return changed


def resolve(settings: ImageNetSettings) -> ImageNetSettings:
    """Fill in what is not given (host, fusion, seed) and translate the first release's names.

    Afterwards `model` is one of `IMAGENET_HOSTS`, and `scenario` is what the first release called it, None if the
    command line has today's name.

    Raises:
        InputError: for a model that does not exist, a value out of range, or flags that contradict each other.
    """
    model, scenario = _host(settings.model, settings.scenario)
    settings = replace(settings, model=model, scenario=scenario)
    check_model_settings(settings, NETWORK_SETTINGS)
    check_ranges(replace(settings, crop_ratio=settings.used_crop_ratio), LIMITS)
    _check_choices(settings)
    if settings.basic and model != "resnet":
        raise InputError(f"--num-layer {settings.num_layer} is a ResNet's: take --model resnet")
    files = (
        "data_dir",
        "logging_file",
        "resume",
        "teacher",
        "teacher_params",
        *(RECORD_FILES if settings.use_rec else ()),
    )
    check_not_empty(settings, files)
    decay_epochs(settings.lr_decay_epoch, settings.lr_decay_period, settings.num_epochs, 0)
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
        raise unknown_model(model, [*IMAGENET_HOSTS, *FIRST_RELEASE_MODELS], ImageNetSettings.input_size)
    if scenario is not None and meant != host:
        raise InputError(f"--model {model} and --scenario {scenario} contradict each other: leave one out")
    return host, scenario if model == host else model


def _host_called(name: str) -> Optional[str]:
    name = name.lower()
    there = name in IMAGENET_HOSTS or is_listed(name, ImageNetSettings.input_size)
    return FIRST_RELEASE_MODELS.get(name, name if there else None)


def _check_choices(settings: ImageNetSettings) -> None:
    """Values that the parser has checked already, unless the settings do not come from one."""
    for name, choices in (("mode", MODES), ("lr_mode", LR_MODES), ("dtype", DTYPES), ("num_layer", tuple(BLOCKS))):
        value = getattr(settings, name)
        if value not in choices:
            raise InputError(f"{flag(name)} {value}: there are {', '.join(map(str, choices))}")


def used_dtype(settings: ImageNetSettings, on_gpu: bool) -> str:
    """Number format that a run on GPUs, or on a CPU, has: float16 becomes float32 on a CPU.

    Raises:
        InputError: for bfloat16 on a GPU.
    """
    if on_gpu and settings.dtype == "bfloat16":
        raise InputError("--dtype bfloat16 is for CPUs: take --dtype float16 on a GPU, or --num-gpus 0")
    return "float32" if settings.dtype == "float16" and not on_gpu else settings.dtype


def run_name(settings: ImageNetSettings) -> str:
    """Name in the original's files, `ImageNet-ASKCFuse-resnet--50-s-3` with its two dashes, and what is not its."""
    if settings.named:
        return f"ImageNet-{settings.model}{named_part(settings)}"
    return (
        f"ImageNet-{settings.askc_type}-{settings.model}--{settings.num_layer}-s-{settings.start_layer}"
        f"{fusion_part(settings, ORIGINAL_R)}"
    )


def best_stem(settings: ImageNetSettings, error: float, epoch: int) -> str:
    """Path, but for its suffix, of the files of the best epoch so far; `error` is its top-1 error in 0..1."""
    return os.path.join(settings.save_dir, f"{error:.4f}-imagenet-{run_name(settings)}-{epoch}-best")


def periodic_stem(settings: ImageNetSettings, epoch: int) -> str:
    """Path, but for its suffix, of the files of every `save_frequency` epochs."""
    return os.path.join(settings.save_dir, f"imagenet-{run_name(settings)}-{epoch}")
