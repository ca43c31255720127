"""The options that the training commands share, and what is made of them."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Iterable, List, Optional

from gluon_aff._platform import ENGINE_CHOICES
from gluon_aff.distributed import KVSTORES
from gluon_aff.errors import InputError, unknown_name
from gluon_aff.models import MODELS
from gluon_aff.operators import ATTENTIONS, CONTEXTS, OPERATORS
from gluon_aff.schedule import decay_epochs
from gluon_aff.settings.declaration import AFINET, ASSEMBLED, declared, flag, option

GOING_ON, IDLE = "going on with a run, as the original does", "accepted without effect, as in the original"
# Groups of --help, in its order
GROUPS = (
    *("network", "data", "schedule", "regularisation", "distillation", "run", "files", "checkpoints", GOING_ON, IDLE),
)
# Where the original takes a number below 0, or a 0, for "none" or the like, so do we
COUNT, ANY_COUNT, RATE = (1, 10**6), (-(10**6), 10**6), (0, 1e30)
FLAGS_IN_NAMES = ("AFF", "iAFF", "Add", "Concatenation")  # operators whose original flag names of files have
SMOOTHING = 0.1


@dataclass(frozen=True)
class RunSettings:
    """Options of all training commands, named as the original's, whose log prints them."""

    r: Optional[int] = option(
        None, "network", limits=COUNT, networks=(ASSEMBLED, AFINET), in_name="-r-", after="context"
    )
    askc_type: Optional[str] = option(
        None,
        "network",
        lambda: (
            f"{', '.join([*OPERATORS][:-1])} or {[*OPERATORS][-1]}, or an original flag such as ASKCFuse, which is "
            "AFF (default: AFF)"
        ),
        synonyms=("--fusion",),
        metavar="FUSION",
        networks=(ASSEMBLED,),
    )
    scale: Optional[float] = option(
        None,
        "network",
        "factor on what AFF, iAFF and SKNet select (default: the original's; the paper: 1)",
        new=True,
        limits=(1e-6, 1e6),
        networks=(ASSEMBLED,),
        in_name="-scale-",
    )
    context: Optional[str] = option(
        None,
        "network",
        "layers of a context branch (default: bottleneck; conv: one convolution)",
        new=True,
        choices=CONTEXTS,
        networks=(ASSEMBLED,),
        in_name="-",
    )
    data_dir: Optional[str] = option(None, "data", metavar="DIR", not_empty=True, may_differ=True)
    batch_size: int = option(128, "data", "images per device and step", limits=COUNT, first_release=32, afinets=64)
    num_workers: int = option(
        96,
        "data",
        flags=("-j", "--num-data-workers"),
        synonyms=("--num-workers",),
        limits=ANY_COUNT,
        may_differ=True,
        first_release=4,
    )
    num_epochs: int = option(640, "schedule", "epochs", limits=COUNT, first_release=3)
    lr: float = option(0.2, "schedule", limits=RATE, first_release=0.1)
    wd: float = option(1e-4, "regularisation", "weight decay", limits=RATE)
    engine: Optional[str] = option(
        None,
        "run",
        "what trains (default: $GLUON_AFF_ENGINE, or auto: mxnet where it works, else torch)",
        new=True,
        choices=ENGINE_CHOICES,
        may_differ=True,
    )
    amp: Optional[str] = option(
        None,
        "run",
        "mixed precision: convolutions and dense layers compute in it, weights stay float32; float16 needs a GPU "
        "and PyTorch, bfloat16 a processor that has it",
        new=True,
        choices=("float16", "bfloat16"),
    )
    kvstore: str = option(
        "device",
        "run",
        "where gradients are summed: local (CPU) or device (GPUs) for this process alone; dist_sync, "
        "dist_device_sync or horovod for the workers of a launch",
        new=True,
        choices=KVSTORES,
        may_differ=True,
    )
    sync_bn: bool = option(
        False,
        "run",
        "batch statistics over all GPUs of a process, instead of each GPU's own as in the original; float32 only",
        new=True,
    )
    seed: Optional[int] = option(
        None,
        "run",
        "same seed, same run, bit for bit on the CPU (default: drawn and logged)",
        new=True,
        limits=(0, 2**31 - 1),
    )
    summary: bool = option(False, "run", "print the layers and stop", may_differ=True)
    save_dir: str = option(
        "params", "files", "best weights go here, one file per improvement", metavar="DIR", may_differ=True
    )
    keep_one_best: bool = option(
        False, "files", "remove this run's earlier best file at an improvement", new=True, may_differ=True
    )
    tensorboard: Optional[str] = option(
        None,
        "files",
        "the log's figures go here too, for TensorBoard",
        new=True,
        metavar="DIR",
        not_empty=True,
        may_differ=True,
    )
    checkpoint_every: int = option(
        1,
        "checkpoints",
        "epochs between checkpoints in --save-dir, of which the newest is kept; 0 for none",
        new=True,
        metavar="EPOCHS",
        limits=(0, 10**6),
        may_differ=True,
    )
    resume: Optional[str] = option(
        None,
        "checkpoints",
        "go on from a checkpoint as if the run had never stopped: the newest of this command line's run (auto; "
        "a new run if there is none), or the one in DIR",
        new=True,
        metavar="auto|DIR",
        not_empty=True,
        may_differ=True,
    )

    usage = "%(prog)s [options]"
    log_format = logging.BASIC_FORMAT

    @property
    def saves(self) -> bool:
        """Whether any weights are written."""
        return bool(self.save_dir)

    @property
    def directories(self) -> Dict[str, str]:
        """Where files of the run are written, by flag."""
        return {"--save-dir": self.save_dir}

    @property
    def named(self) -> bool:
        """Whether the model is one of `gluon-aff models`, not put together from flags."""
        return False

    @property
    def gpu_ids(self) -> str:
        """Numbers of the GPUs to train on, comma-separated; empty for the CPU."""
        raise NotImplementedError

    @property
    def drawn_seed(self) -> int:
        """The seed of resolved settings."""
        assert self.seed is not None
        return self.seed


@dataclass(frozen=True)
class CurveSettings(RunSettings):
    """Options of the commands that draw a curve: CIFAR's and segmentation's."""

    gpus: str = option(
        "0",
        "run",
        "GPUs to train on, those that exist; the CPU if there is none",
        metavar="IDS",
        may_differ=True,
        after="",
    )
    logging_dir: str = option(
        "logs", "files", "the log goes here, appended; none if empty", metavar="DIR", may_differ=True
    )
    save_plot_dir: str = option(".", "files", "the curve goes here", metavar="DIR", may_differ=True)

    @property
    def directories(self) -> Dict[str, str]:
        """Where files of the run are written, by flag."""
        own = {"--logging-dir": self.logging_dir, "--save-plot-dir": self.save_plot_dir}
        return {**super().directories, **own}

    @property
    def gpu_ids(self) -> str:
        """Numbers of the GPUs to train on, comma-separated; empty for the CPU."""
        return self.gpus


@dataclass(frozen=True)
class ClassifierSettings(RunSettings):
    """Options of the commands that train classifiers: CIFAR's and ImageNet's."""

    model: Optional[str] = option(None, "network", after="")
    stages: Optional[str] = option(
        None,
        "network",
        "of an AFINet: which integrate features, such as 1 or 1,2 (default: all)",
        new=True,
        metavar="STAGES",
        networks=(AFINET,),
        in_name="-stages-",
    )
    attention: Optional[str] = option(
        None,
        "network",
        "of an AFINet: on the integrated feature",
        new=True,
        choices=ATTENTIONS,
        networks=(AFINET,),
        in_name="-",
    )
    start_layer: int = option(1, "network", limits=ANY_COUNT, networks=(ASSEMBLED,))
    classes: Optional[int] = option(None, "network", "outputs of the network", new=True, limits=COUNT)
    auto_aug: bool = option(False, "data", flags=("--auto_aug",))
    warmup_epochs: int = option(10, "schedule", limits=ANY_COUNT, first_release=0, afinets=0)
    lr_decay: float = option(0.1, "schedule", "factor at each decay epoch", limits=RATE)
    lr_decay_epoch: str = option("300,450", "schedule", metavar="EPOCHS")
    lr_decay_period: int = option(0, "schedule", "decay every so many epochs instead, if not 0", limits=ANY_COUNT)
    # These two change defaults; the run has no such settings
    recipe: ClassVar[str] = option("aff", "schedule", new=True, choices=("aff", "afinets"))
    release: ClassVar[str] = option("head", "run", new=True, choices=("head", "first"), after="mode")
    optimizer: str = option(
        "nag", "schedule", "NAG is SGD with Nesterov's momentum", new=True, choices=("nag", "sgd"), afinets="sgd"
    )
    momentum: float = option(0.9, "schedule", "of the optimizer", limits=(0, 1))
    mixup: bool = option(False, "regularisation", "mix each batch with its reverse")
    mixup_alpha: float = option(
        1,
        "regularisation",
        "weights are drawn from Beta(alpha, alpha)",
        limits=(1e-3, 1e30),  # NumPy's sampler takes for ever below
    )
    mixup_off_epoch: int = option(
        40, "regularisation", "no mixup in the last so many epochs; 0 or less: never off", limits=ANY_COUNT
    )
    label_smoothing: bool = option(False, "regularisation", f"smooth labels by {SMOOTHING}")
    wd: float = option(1e-4, after="label_smoothing")
    no_wd: bool = option(False, "regularisation", "no weight decay of biases, beta and gamma")
    mode: str = option(
        "hybrid",
        "run",
        "hybrid compiles the network; symbolic does not either",
        choices=("hybrid", "imperative", "symbolic"),
        first_release="imperative",
        after="",
    )
    warmup_lr: float = option(0.0, IDLE, "warm-up starts at 0 whatever this says")

    published_side = 0  # of the images of the listed networks, in pixels

    @property
    def cuts(self) -> List[int]:
        """Epochs at which the rate is cut, each `warmup_epochs` earlier than the options say, as in the original.

        Raises:
            InputError: the options list none.
        """
        return decay_epochs(self.lr_decay_epoch, self.lr_decay_period, self.num_epochs, self.warmup_epochs)

    @property
    def smoothing(self) -> float:
        """By how much labels are smoothed."""
        return SMOOTHING if self.label_smoothing else 0.0

    @property
    def named(self) -> bool:
        """Whether the model is one of `gluon-aff models`, not put together from flags."""
        return self.model is not None and is_listed(self.model, self.published_side)


def is_listed(model: str, input_size: int) -> bool:
    """Whether `gluon-aff models` lists a network of that name and input."""
    return model in MODELS and MODELS[model].input_size == input_size


def check_model_settings(settings: ClassifierSettings) -> None:
    """Raise InputError for a flag that the model does not take, or a list that is none.

    A named model takes none of the network's flags but AFINets' own.
    """
    integrates = settings.named and "variant" in MODELS[str(settings.model)].settings
    kind = ASSEMBLED if not settings.named else AFINET if integrates else None
    refused = [
        name
        for name, each in declared(type(settings)).items()
        if each.networks and kind not in each.networks and getattr(settings, name) != each.default
    ]
    why = f"{settings.model} is a network as it is" if settings.named else f"{settings.model} integrates no features"
    if refused:
        raise InputError(f"{', '.join(map(flag, refused))}: --model {why}; leave that out, or name another model")
    _ = stages_in(settings.stages), settings.cuts  # which raise it


def stages_in(stages: Optional[str]) -> Optional[List[int]]:
    """What `--stages` says, None if nothing; InputError if that is no list of numbers."""
    if stages is None:
        return None
    try:
        return [int(stage) for stage in stages.split(",")]
    except ValueError:
        raise InputError(f"--stages {stages}: name them by numbers, such as 1 or 1,2") from None


def named_arguments(r: Optional[int], stages: Optional[str], attention: Optional[str]) -> Dict[str, Any]:
    """Arguments of `get_model` that are given for a named network."""
    arguments = {"r": r, "stages": stages_in(stages), "attention": attention}
    return {name: value for name, value in arguments.items() if value is not None}


def unknown_model(model: str, known: Iterable[str], input_size: int) -> InputError:
    """Error for a `--model` that is neither one of the `known` nor listed for images of that side."""
    if model.lower() in MODELS:
        side = MODELS[model.lower()].input_size
        return InputError(f"--model {model}: it is for images of {side} x {side}, not of {input_size} x {input_size}")
    return unknown_name("--model", model, [*known, *(name for name in MODELS if is_listed(name, input_size))])


def fusion_flag(fusion: Optional[str]) -> str:
    """Original flag of `fusion`, AFF's if None, which file names have."""
    name = "AFF" if fusion is None else fusion
    return OPERATORS[name].flags[0] if name in FLAGS_IN_NAMES else name


def seed_or_drawn(seed: Optional[int]) -> int:
    """`seed`, or one drawn."""
    return int.from_bytes(os.urandom(4), "little") >> 1 if seed is None else seed
