"""Options that the training commands share, and what follows from them."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Iterable, List, Optional

from gluon_aff._platform import ENGINE_CHOICES
from gluon_aff.distributed import KVSTORES
from gluon_aff.errors import InputError, unknown_name
from gluon_aff.models import MODELS
from gluon_aff.operators import ATTENTIONS, CONTEXTS, OPERATORS, fusion_operator
from gluon_aff.schedule import decay_epochs
from gluon_aff.settings.declaration import AFINET, ASSEMBLED, declared, flag, option

GOING_ON, IDLE = "continuing a run as the original does", "accepted without effect, as in the original"
# Groups of options, in the order of --help
GROUPS = (
    *("network", "data", "schedule", "regularisation", "distillation", "run", "files", "checkpoints", GOING_ON, IDLE),
)
# ANY_COUNT is for options in which the original gives 0 or a negative number a meaning, such as "none"
COUNT, ANY_COUNT, RATE = (1, 10**6), (-(10**6), 10**6), (0, 1e30)
FLAGS_IN_NAMES = ("AFF", "iAFF", "Add", "Concatenation")  # operators that file names call by the original's flag
SMOOTHING = 0.1
OWN: Any = None  # default of an option of which every command declares its own


@dataclass(frozen=True)
class RunSettings:
    """Options of all training commands; they have the original's names, which its log prints."""

    r: Optional[int] = option(
        None, "network", limits=COUNT, networks=(ASSEMBLED, AFINET), in_name="-r-", after="context"
    )
    askc_type: Optional[str] = option(
        None,
        "network",
        lambda: (
            f"fusion operator: {', '.join([*OPERATORS][:-1])} or {[*OPERATORS][-1]}, or a flag of the original such as "
            "ASKCFuse for AFF (default: AFF)"
        ),
        synonyms=("--fusion",),
        metavar="FUSION",
        networks=(ASSEMBLED,),
    )
    scale: Optional[float] = option(
        None,
        "network",
        "factor on the output of AFF, iAFF and SKNet; the paper's equations have none (default: as in the original, 2 "
        "for AFF and SKNet in shortcuts and pyramids, otherwise 1)",
        new=True,
        limits=(1e-6, 1e6),
        networks=(ASSEMBLED,),
        in_name="-scale-",
    )
    context: Optional[str] = option(
        None,
        "network",
        "layers in a branch of the attention: bottleneck is two 1x1 convolutions with C/r channels between, conv is "
        "one 1x1 convolution (default: bottleneck, or what an original flag in --askc-type means)",
        new=True,
        choices=CONTEXTS,
        networks=(ASSEMBLED,),
        in_name="-",
    )
    data_dir: Optional[str] = option(None, "data", metavar="DIR", not_empty=True, may_differ=True)
    batch_size: int = option(
        128, "data", "number of images per device and step", limits=COUNT, first_release=32, afinets=64
    )
    num_workers: int = option(
        OWN,
        "data",
        flags=("-j", "--num-data-workers"),
        synonyms=("--num-workers",),
        limits=ANY_COUNT,
        may_differ=True,
        first_release=4,
    )
    num_epochs: int = option(OWN, "schedule", "number of epochs", limits=COUNT, first_release=3)
    lr: float = option(OWN, "schedule", limits=RATE, first_release=0.1)
    wd: float = option(OWN, "regularisation", "weight decay", limits=RATE)
    engine: Optional[str] = option(
        None,
        "run",
        "framework that trains; auto takes mxnet where it works and torch otherwise (default: $GLUON_AFF_ENGINE, or "
        "auto)",
        new=True,
        choices=ENGINE_CHOICES,
        may_differ=True,
    )
    amp: Optional[str] = option(
        None,
        "run",
        "mixed precision: convolutions and dense layers compute in this format, and the weights stay float32; float16 "
        "needs PyTorch and a GPU, bfloat16 a processor that supports it (default: none)",
        new=True,
        choices=("float16", "bfloat16"),
    )
    kvstore: str = option(
        "device",
        "run",
        "where gradients are summed: local (on the CPU) or device (on the GPUs) in one process; dist_sync, "
        "dist_device_sync or horovod among the workers of `gluon-aff launch`",
        new=True,
        choices=KVSTORES,
        may_differ=True,
    )
    sync_bn: bool = option(
        False,
        "run",
        "compute batch statistics over all GPUs of a process, where in the original each GPU has its own; float32 only",
        new=True,
    )
    seed: Optional[int] = option(
        None,
        "run",
        "seed of all random numbers; on the CPU, a run with the same seed repeats to the bit (default: drawn at random "
        "and logged)",
        new=True,
        limits=(0, 2**31 - 1),
    )
    summary: bool = option(
        False, "run", "print the network's layers and parameters, and exit without training", may_differ=True
    )
    save_dir: str = option(
        "params",
        "files",
        "directory of the best weights, one file per improvement; empty writes none",
        metavar="DIR",
        may_differ=True,
    )
    keep_one_best: bool = option(
        False,
        "files",
        "delete the best weights so far of this run when better ones are written; the original keeps all",
        new=True,
        may_differ=True,
    )
    tensorboard: Optional[str] = option(
        None,
        "files",
        "directory to which the log's figures are also written, for TensorBoard (default: none)",
        new=True,
        metavar="DIR",
        not_empty=True,
        may_differ=True,
    )
    checkpoint_every: int = option(
        1,
        "checkpoints",
        "epochs from one checkpoint to the next; --save-dir keeps the newest; 0 writes none",
        new=True,
        metavar="EPOCHS",
        limits=(0, 10**6),
        may_differ=True,
    )
    resume: Optional[str] = option(
        None,
        "checkpoints",
        "continue from a checkpoint as if the run had never stopped: auto takes the newest of this command line's run, "
        "and starts a new run if there is none; DIR names one (default: a new run)",
        new=True,
        metavar="auto|DIR",
        not_empty=True,
        may_differ=True,
    )

    usage = "%(prog)s [options]"
    log_format = logging.BASIC_FORMAT

    @property
    def saves(self) -> bool:
        """Return whether the run writes any weights."""
        return bool(self.save_dir)

    @property
    def directories(self) -> Dict[str, str]:
        """Return the directories that the run writes to, by the flag that names each."""
        return {"--save-dir": self.save_dir}

    @property
    def named(self) -> bool:
        """Return whether the model is one that `gluon-aff models` lists, instead of one assembled from flags."""
        return False

    @property
    def gpu_ids(self) -> str:
        """Return the numbers of the GPUs to train on, comma-separated; empty for the CPU."""
        raise NotImplementedError

    @property
    def drawn_seed(self) -> int:
        """Return the seed of resolved settings, which is never None."""
        assert self.seed is not None
        return self.seed


@dataclass(frozen=True)
class CurveSettings(RunSettings):
    """Options of the commands that draw an error curve: CIFAR's and segmentation's."""

    gpus: str = option(
        "0",
        "run",
        "numbers of the GPUs to train on, comma-separated; those that do not exist are left out, and without any the "
        "CPU trains",
        metavar="IDS",
        may_differ=True,
        after="",
    )
    logging_dir: str = option(
        "logs",
        "files",
        "directory of the log, to which the run's lines are appended; empty writes none",
        metavar="DIR",
        may_differ=True,
    )
    save_plot_dir: str = option(
        ".", "files", "directory of the error curve, a PNG file that is replaced", metavar="DIR", may_differ=True
    )

    @property
    def directories(self) -> Dict[str, str]:
        """Return the directories that the run writes to, by the flag that names each."""
        own = {"--logging-dir": self.logging_dir, "--save-plot-dir": self.save_plot_dir}
        return {**super().directories, **own}

    @property
    def gpu_ids(self) -> str:
        """Return the numbers of the GPUs to train on, comma-separated; empty for the CPU."""
        return self.gpus


@dataclass(frozen=True)
class ClassifierSettings(RunSettings):
    """Options of the commands that train classifiers: CIFAR's and ImageNet's."""

    model: Optional[str] = option(None, "network", after="")
    stages: Optional[str] = option(
        None,
        "network",
        "stages of an AFINet that integrate features, such as 1 or 1,2 (default: all)",
        new=True,
        metavar="STAGES",
        networks=(AFINET,),
        in_name="-stages-",
    )
    attention: Optional[str] = option(
        None,
        "network",
        "channel attention that an AFINet applies to the integrated feature (default: none)",
        new=True,
        choices=ATTENTIONS,
        networks=(AFINET,),
        in_name="-",
    )
    start_layer: int = option(OWN, "network", limits=ANY_COUNT, networks=(ASSEMBLED,))
    classes: Optional[int] = option(None, "network", "number of outputs of the network", new=True, limits=COUNT)
    auto_aug: bool = option(OWN, "data", flags=("--auto_aug",))
    warmup_epochs: int = option(OWN, "schedule", limits=ANY_COUNT, first_release=0, afinets=0)
    lr_decay: float = option(0.1, "schedule", "factor on the learning rate at each decay epoch", limits=RATE)
    lr_decay_epoch: str = option(OWN, "schedule", metavar="EPOCHS")
    lr_decay_period: int = option(
        0,
        "schedule",
        "epochs between cuts, in place of --lr-decay-epoch; 0 or less leaves that list in force",
        limits=ANY_COUNT,
    )
    # These two only change the defaults of other options: the run does not have them among its settings
    recipe: ClassVar[str] = option("aff", "schedule", new=True, choices=("aff", "afinets"))
    release: ClassVar[str] = option("head", "run", new=True, choices=("head", "first"), after="mode")
    optimizer: str = option(
        "nag",
        "schedule",
        "optimizer: nag is SGD with Nesterov's momentum, as in the original; sgd has plain momentum",
        new=True,
        choices=("nag", "sgd"),
        afinets="sgd",
    )
    momentum: float = option(0.9, "schedule", "momentum of the optimizer, 0 to 1", limits=(0, 1))
    mixup: bool = option(False, "regularisation", "mix each batch, images and labels, with its reverse")
    mixup_alpha: float = option(
        1,
        "regularisation",
        "alpha of the distribution Beta(alpha, alpha) from which each batch's mixup weight is drawn",
        limits=(1e-3, 1e30),  # below that, NumPy's sampler does not end
    )
    mixup_off_epoch: int = option(
        OWN,
        "regularisation",
        "number of last epochs that train without mixup; 0 or less never turns it off",
        limits=ANY_COUNT,
    )
    label_smoothing: bool = option(False, "regularisation", f"smooth the labels by {SMOOTHING}")
    wd: float = option(1e-4, after="label_smoothing")
    no_wd: bool = option(False, "regularisation", "exempt biases, beta and gamma from weight decay")
    mode: str = option(
        "hybrid",
        "run",
        "hybrid compiles the network, imperative does not; symbolic means imperative, as in the original",
        choices=("hybrid", "imperative", "symbolic"),
        first_release="imperative",
        after="",
    )
    warmup_lr: float = option(0.0, IDLE, "learning rate at the start of the warm-up, which is always 0")

    @property
    def published_side(self) -> int:
        """Return the side in pixels of the images that the listed networks take."""
        raise NotImplementedError

    @property
    def cuts(self) -> List[int]:
        """Return the epochs at which the rate is cut, each `warmup_epochs` earlier than its option says.

        The original shifts them in this way.

        Raises:
            InputError: `--lr-decay-epoch` is not a list of integers.
        """
        return decay_epochs(self.lr_decay_epoch, self.lr_decay_period, self.num_epochs, self.warmup_epochs)

    @property
    def smoothing(self) -> float:
        """Return the label smoothing, 0 for none."""
        return SMOOTHING if self.label_smoothing else 0.0

    @property
    def named(self) -> bool:
        """Return whether the model is one that `gluon-aff models` lists, instead of one assembled from flags."""
        return self.model is not None and is_listed(self.model, self.published_side)


def is_listed(model: str, input_size: int) -> bool:
    """Return whether `gluon-aff models` lists a network of this name for images of `input_size` pixels a side."""
    return model in MODELS and MODELS[model].input_size == input_size


def check_model_settings(settings: ClassifierSettings) -> None:
    """Check that the model accepts the given flags, and that lists of stages and epochs can be read.

    A listed network accepts none of the flags that describe a network, except that an AFINet accepts its own.

    Raises:
        InputError: a flag or a list is not accepted.
    """
    integrates = settings.named and "variant" in MODELS[str(settings.model)].settings
    kind = ASSEMBLED if not settings.named else AFINET if integrates else None
    refused = [
        name
        for name, each in declared(type(settings)).items()
        if each.networks and kind not in each.networks and getattr(settings, name) != each.default
    ]
    why = f"{settings.model} is a complete network" if settings.named else f"{settings.model} is not an AFINet"
    if refused:
        flags = ", ".join(map(flag, refused))
        raise InputError(f"{flags} cannot be used: --model {why}; leave that out, or name another model")
    _ = stages_in(settings.stages), settings.cuts  # both raise InputError if the list cannot be read


def stages_in(stages: Optional[str]) -> Optional[List[int]]:
    """Return the numbers in the value of `--stages`, or None if it is not given.

    Raises:
        InputError: the value is not a comma-separated list of numbers.
    """
    if stages is None:
        return None
    try:
        return [int(stage) for stage in stages.split(",")]
    except ValueError:
        raise InputError(f"--stages {stages}: give the numbers of stages, such as 1 or 1,2") from None


def named_arguments(r: Optional[int], stages: Optional[str], attention: Optional[str]) -> Dict[str, Any]:
    """Return `r`, `stages` and `attention`, where given, as arguments of `get_model` for a listed network."""
    arguments = {"r": r, "stages": stages_in(stages), "attention": attention}
    return {name: value for name, value in arguments.items() if value is not None}


def unknown_model(model: str, known: Iterable[str], input_size: int) -> InputError:
    """Return the error for a `--model` that is neither among the `known` ones nor listed for images of this side."""
    if model.lower() in MODELS:
        side = MODELS[model.lower()].input_size
        return InputError(f"--model {model} takes images of {side} x {side} pixels, not of {input_size} x {input_size}")
    return unknown_name("--model", model, [*known, *(name for name in MODELS if is_listed(name, input_size))])


def fusion_flag(fusion: Optional[str]) -> str:
    """Return the name of `fusion` for file names: the original's flag where there is one; None stands for AFF.

    Raises:
        InputError: there is no such fusion.
    """
    name = "AFF" if fusion is None else fusion
    operator = fusion_operator(name)
    return operator.flags[0] if name in FLAGS_IN_NAMES else name


def seed_or_drawn(seed: Optional[int]) -> int:
    """Return `seed`, or a random one of 0 to 2**31 - 1 if it is None."""
    return int.from_bytes(os.urandom(4), "little") >> 1 if seed is None else seed
