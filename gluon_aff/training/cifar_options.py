"""Command line and settings of `train_cifar.py`: the original's flags and defaults, and ours behind them."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Tuple

from gluon_aff.errors import InputError
from gluon_aff.models import CIFAR_HOSTS, CIFAR_SIZE, cifar_cardinality
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
    fusion_flag,
    fusion_part,
    is_listed,
    keep_abbreviations,
    late_cuts,
    named_part,
    said_in,
    seed_or_drawn,
    set_defaults,
    unknown_model,
)

STAGES = 3
FIRST_RELEASE_MODELS = {"resnext29_32x4d": 3, "resnext38_32x4d": 4, "resnext47_32x4d": 5}  # name: blocks
FIRST_RELEASE_CHANNEL_TIMES = 4  # of these, whatever the flag says: 32 groups of 4
# Where the first release's defaults, or what it always did (mixup, and no shift of the decay epochs), are not today's
FIRST_RELEASE_DEFAULTS: Dict[str, object] = {
    "batch_size": 32,
    "channel_times": 1,
    "gpus": "0",
    "num_workers": 4,
    "num_epochs": 3,
    "lr": 0.1,
    "lr_decay_epoch": "40,60",
    "mode": "imperative",
    "mixup": True,
    "mixup_off_epoch": 20,
    "warmup_epochs": 0,
}
# AFINets, Section 4.1; what it does not say is as for the first paper
AFINETS_RECIPE: Dict[str, object] = {
    "optimizer": "sgd",
    "batch_size": 64,
    "gpus": "0",
    "num_epochs": 300,
    "lr": 0.1,
    "lr_decay_epoch": "150,225",
    "warmup_epochs": 0,
}
LIMITS: Dict[str, Tuple[float, float]] = {
    "blocks": (1, 1000),
    "channel_times": (1, 1000),
    "r": (1, 10**6),
    "num_epochs": (0, 10**6),
}
MODES = ("hybrid", "imperative", "symbolic")
MAY_DIFFER = (*COMMON_MAY_DIFFER, "gpus", "logging_dir", "save_plot_dir", "save_period")
NETWORK_SETTINGS = (
    *("askc_type", "scale", "context", "blocks", "channel_times", "start_layer"),
    *("shortcut", "inner", "deep_stem"),
)
NEW_FLAGS = (
    *COMMON_NEW_FLAGS,
    *("--r", "--shortcut", "--inner", "--init", "--fine-label", "--superclass", "--data-dir"),
)
HEAD_CLASSES = {"cifar10": 10, "cifar100": 100}


@dataclass(frozen=True)
class CIFARSettings:
    """Options of a CIFAR run, named as the original's, whose log prints them; see `train_cifar.py --help`."""

    dataset: str = "cifar100"
    batch_size: int = 128
    askc_type: Optional[str] = None
    channel_times: int = 4
    blocks: int = 1
    start_layer: int = 1
    summary: bool = False
    gpus: str = "0,1,2,3"
    model: str = "resnet"
    num_workers: int = 96
    num_epochs: int = 640
    lr: float = 0.2
    momentum: float = 0.9
    wd: float = 1e-4
    lr_decay: float = 0.1
    lr_decay_period: int = 0
    lr_decay_epoch: str = "300,450"
    drop_rate: float = 0.0
    mode: str = "hybrid"
    save_period: int = 10
    save_dir: str = "params"
    logging_dir: str = "logs"
    resume_from: Optional[str] = None
    save_plot_dir: str = "."
    mixup: bool = False
    mixup_alpha: float = 1
    mixup_off_epoch: int = 40
    auto_aug: bool = False
    label_smoothing: bool = False
    cosine: bool = False
    no_wd: bool = False
    warmup_lr: float = 0.0
    warmup_epochs: int = 10
    deep_stem: bool = False
    fine_label: bool = False
    superclass: bool = False
    classes: Optional[int] = None
    init: str = "xavier"
    data_dir: Optional[str] = None
    seed: Optional[int] = None
    keep_one_best: bool = False
    checkpoint_every: int = 1
    resume: Optional[str] = None
    kvstore: str = "device"
    sync_bn: bool = False
    r: Optional[int] = None
    scale: Optional[float] = None
    context: Optional[str] = None
    shortcut: str = "pool"
    inner: str = "legacy"
    optimizer: str = "nag"
    stages: Optional[str] = None
    attention: Optional[str] = None

    @property
    def depth(self) -> int:
        """Layers by the original's count."""
        return (9 if self.model == "resnext" else 6) * self.blocks + 2

    @property
    def named(self) -> bool:
        """Whether the model is one of `gluon-aff models`, not put together from flags."""
        return is_listed(self.model, CIFAR_SIZE)

    @property
    def head_classes(self) -> int:
        """Outputs of the network."""
        return self.classes or HEAD_CLASSES[self.dataset]


def add_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    """Give `parser` the options of `train_cifar.py`; `--release` and `--recipe` in `argv` change their defaults."""
    parser.usage = "%(prog)s [options]"
    _add_network_options(parser.add_argument_group("network"))
    _add_data_options(parser.add_argument_group("data"))
    _add_schedule_options(parser.add_argument_group("schedule"))
    add_regularisation_options(parser.add_argument_group("regularisation"), "; only with --cosine")
    _add_run_options(parser.add_argument_group("run"))
    _add_file_options(parser.add_argument_group("files"))
    add_checkpoint_options(parser.add_argument_group("checkpoints"))
    _add_idle_options(parser.add_argument_group("accepted without effect, as in the original"))
    keep_abbreviations(parser, NEW_FLAGS)
    set_defaults(parser, CIFARSettings, _changed_defaults(said_in(argv, parser)))


def _add_network_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model",
        help="resnet, resnext, inception (fusion within layers), a first release's name such as resnext38_32x4d, or a "
        "network of `gluon-aff models` as it is, such as afi_resnet32_cifar100",
    )
    add_fusion_options(group)
    group.add_argument(
        "--r",
        type=_ratio,
        help="channel reduction ratio (default: 4; resnext: 16, as in the original); AFINets' default is their paper's",
    )
    add_integration_options(group)
    group.add_argument(
        "--blocks", type=int, help="blocks per stage; depth is 6*blocks+2 (resnet, inception) or 9*blocks+2 (resnext)"
    )
    group.add_argument("--channel-times", type=int, help="width multiplier of 16, 16, 32, 64 channels")
    group.add_argument(
        "--start-layer", type=int, help="first stage with the fusion; earlier ones add, 4 means none fuses"
    )
    group.add_argument(
        "--shortcut",
        choices=("pool", "strided"),
        help="of resnet blocks that shrink: average pool and 1x1, or strided 1x1 as in the paper's ablation",
    )
    group.add_argument(
        "--inner",
        choices=("legacy", "full"),
        help="width of inception's first convolution in a block: of the stage before as in the first release, or full",
    )
    group.add_argument("--deep-stem", action="store_true", help="three 3x3 convolutions as stem")
    group.add_argument(
        "--init",
        choices=("xavier", "msraprelu"),
        help="initial weights; msraprelu is Kaiming's, which the paper's ablation names",
    )
    group.add_argument("--classes", type=int, help="outputs of the network (default: 100 for cifar100, 10 for cifar10)")
    group.add_argument(
        "--resume-from", metavar="FILE", help="start from these weights, at epoch 0 and without momentum"
    )


def _ratio(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no whole number. In the original, --r was short for --resume-from: write that out"
        ) from None


def _add_data_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dataset", choices=sorted(HEAD_CLASSES), help="data set")
    labels = group.add_mutually_exclusive_group()
    labels.add_argument("--fine-label", action="store_true", help="CIFAR-100's 100 classes")
    labels.add_argument("--superclass", action="store_true", help="CIFAR-100's 20 superclasses, the original's default")
    group.add_argument(
        "--data-dir",
        metavar="DIR",
        help="official cifar-100-binary.tar.gz or cifar-10-binary.tar.gz, or their "
        "folder (default: Gluon's own folder, ~/.mxnet/datasets)",
    )
    group.add_argument(
        "-j",
        "--num-data-workers",
        "--num-workers",
        dest="num_workers",
        type=int,
        help="worker processes for AutoAugment, at most one per core",
    )
    group.add_argument("--batch-size", type=int, help="images per device and step")
    group.add_argument("--auto_aug", action="store_true", help="AutoAugment with the CIFAR-10 policies")


def _add_schedule_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--num-epochs", type=int, help="epochs")
    group.add_argument("--lr", type=float, help="learning rate")
    group.add_argument(
        "--cosine", action="store_true", help="linear warm-up, then a half cosine to 0, instead of steps"
    )
    group.add_argument("--warmup-epochs", type=int, help="epochs of warm-up with --cosine; also shift the decay epochs")
    group.add_argument("--lr-decay", type=float, help="factor at each decay epoch")
    group.add_argument("--lr-decay-epoch", metavar="EPOCHS", help="decay epochs; each comes --warmup-epochs earlier")
    group.add_argument("--lr-decay-period", type=int, help="decay every so many epochs instead, if not 0")
    add_recipe_option(group, "SGD, 64 images on one GPU, 300 epochs, lr 0.1 cut at 150 and 225, 100 classes")
    group.add_argument("--momentum", type=float, help="of the optimizer")


def _add_run_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--gpus", metavar="IDS", help="GPUs to train on, those that exist; the CPU if there is none")
    group.add_argument("--mode", choices=MODES, help="hybrid compiles the network; symbolic does not either")
    add_release_option(
        group, "32 images per GPU, lr 0.1, mixup on but in the last 20 epochs, decay epochs not shifted, ..."
    )
    add_run_options(group)


def _add_file_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--save-dir", metavar="DIR", help="best weights go here, one file per improvement")
    group.add_argument(
        "--keep-one-best", action="store_true", help="remove this run's earlier best file at an improvement"
    )
    group.add_argument("--logging-dir", metavar="DIR", help="the log goes here, appended; none if empty")
    group.add_argument("--save-plot-dir", metavar="DIR", help="the curve goes here")
    group.add_argument(
        "--save-period", type=int, help="0 writes no weights; otherwise without effect, as in the original"
    )


def _add_idle_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--drop-rate", type=float, help="dropout the networks do not have")
    group.add_argument("--warmup-lr", type=float, help="warm-up starts at 0 whatever this says")


def _changed_defaults(said: argparse.Namespace) -> Dict[str, object]:
    """What `--release first` and `--recipe afinets` change of the defaults; flags given still overrule it."""
    changed = dict(FIRST_RELEASE_DEFAULTS) if said.release == "first" else {}
    if changed and str(said.model).lower() in FIRST_RELEASE_MODELS:
        changed["channel_times"] = FIRST_RELEASE_CHANNEL_TIMES
    if said.recipe == "afinets":
        changed.update(AFINETS_RECIPE, fine_label=said.dataset == "cifar100" and not said.superclass)
    return changed


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
    check_model_settings(settings, NETWORK_SETTINGS)
    check_ranges(settings, LIMITS)
    check_not_empty(settings, ("data_dir", "resume"))
    _check_resume(settings.resume)
    decay_epochs(settings.lr_decay_epoch, settings.lr_decay_period, settings.num_epochs, settings.warmup_epochs)
    settings = replace(settings, seed=seed_or_drawn(settings.seed))
    return settings if settings.named else replace(settings, askc_type=fusion_flag(settings.askc_type))


def _check_resume(resume: Optional[str]) -> None:
    if resume and (resume.endswith(".params") or os.path.isfile(os.path.expanduser(resume))):
        raise InputError(
            f"--resume {resume} is no checkpoint's folder. In the original, --resume was short for --resume-from, "
            "which takes weights: write that out"
        )


def run_name(settings: CIFARSettings) -> str:
    """Name in the original's files: `cifar100-ASKCFuse-resnet-32-c-4-s-1`, and what the original has not."""
    if settings.named:
        return f"{settings.dataset}-{settings.model}{named_part(settings)}"
    host = "resneXt" if settings.model == "resnext" else settings.model
    groups = f"-{cifar_cardinality(settings.channel_times)}x4" if settings.model == "resnext" else ""
    strided = "-strided" if settings.shortcut == "strided" and settings.model == "resnet" else ""
    full = "-full" if settings.inner == "full" and settings.model == "inception" else ""
    return (
        f"{settings.dataset}-{settings.askc_type}-{host}-{settings.depth}{groups}"
        f"-c-{settings.channel_times}-s-{settings.start_layer}{fusion_part(settings, None)}{strided}{full}"
    )


def first_release_notes(given: CIFARSettings) -> List[str]:
    """What to say at the start of a run whose settings, before `resolve`, have a model name of the first release."""
    if given.model.lower() not in FIRST_RELEASE_MODELS:
        return []
    today = given.mixup_off_epoch == CIFARSettings.mixup_off_epoch
    defaults = (
        "; --release first has that release's defaults, such as mixup, off for the last "
        f"{FIRST_RELEASE_DEFAULTS['mixup_off_epoch']} epochs, and decay epochs that are not shifted"
    )
    return [
        f"the command line means the first release's {given.model}: today's resnext is trained, whose shortcuts differ"
        f"{defaults if today else ''}"
    ]


def notes(settings: CIFARSettings, global_batch: int) -> List[str]:
    """What a user of these resolved settings should know at the start of a run, a line each."""
    fuses = settings.start_layer <= STAGES or settings.model == "inception"
    fusion = f"{settings.askc_type} from stage {settings.start_layer} on" if fuses else "addition in all stages"
    late = late_cuts(settings, settings.warmup_epochs)
    head = f"under a {settings.head_classes}-way head"
    said_if = {
        f"network: {settings.model}{named_part(settings)}": settings.named,
        f"network: {settings.model} of {settings.depth} layers, fusion {fusion}": not settings.named,
        f"batch: {settings.batch_size} images per device, {global_batch} per step; lr is not scaled with it": True,
        "best weights: chosen by accuracy on the test images, as in the original": True,
        f"labels: CIFAR-100's 100 classes, {head}": settings.dataset == "cifar100" and settings.fine_label,
        f"labels: CIFAR-100's 20 superclasses, the original's default (--fine-label for the 100 classes), {head}": (
            settings.dataset == "cifar100" and not settings.fine_label
        ),
        "--fine-label and --superclass have no effect on CIFAR-10": (
            settings.dataset == "cifar10" and (settings.fine_label or settings.superclass)
        ),
        "--no-wd has no effect without --cosine, as in the original": settings.no_wd and not settings.cosine,
        f"decay epochs come {abs(settings.warmup_epochs)} {'earlier' if settings.warmup_epochs > 0 else 'later'} "
        "than --lr-decay-epoch says, as in the original": not settings.cosine and settings.warmup_epochs != 0,
        "--mode symbolic is not supported: this run is imperative, as in the original": settings.mode == "symbolic",
        "--resume-from is empty: this run begins with new weights": settings.resume_from == "",
        "no log will be written (--logging-dir is empty)": not settings.logging_dir,
        f"decay epochs behind the end, {settings.num_epochs}: {late}": bool(late) and not settings.cosine,
        f"warm-up lasts to the end: --warmup-epochs {settings.warmup_epochs}, --num-epochs {settings.num_epochs}": (
            settings.cosine and settings.warmup_epochs >= settings.num_epochs
        ),
        f"--mixup has no effect: it is off for the last {settings.mixup_off_epoch} epochs (--mixup-off-epoch)": (
            settings.mixup and settings.mixup_off_epoch >= settings.num_epochs
        ),
        "ResNeXt widths other than --channel-times 4 are not 4 wide per group, whatever the file name says": (
            settings.model == "resnext" and settings.channel_times != 4
        ),
        "--drop-rate has no effect, as in the original": settings.drop_rate != 0,
        "--warmup-lr has no effect, as in the original": settings.warmup_lr != 0,
        "no weights will be written (--save-dir is empty or --save-period 0)": (
            not (settings.save_dir and settings.save_period)
        ),
        "--start-layer has no effect on inception, which fuses in every layer": (
            settings.model == "inception" and settings.start_layer != 1
        ),
        "with one image per device the global context is all zeros while training (BatchNorm over one value): "
        "take --batch-size 2 or more": (
            settings.batch_size == 1 and fuses and settings.askc_type != "DirectAdd" and not settings.named
        ),
    }
    return [line for line, said in said_if.items() if said]
