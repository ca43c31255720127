"""What the options of the training commands share."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar

from gluon_aff.distributed import KVSTORES
from gluon_aff.errors import InputError, unknown_name
from gluon_aff.models import MODELS
from gluon_aff.operators import ATTENTIONS, CONTEXTS, OPERATORS
from gluon_aff.schedule import decay_epochs

Settings = TypeVar("Settings")
# File names have the flags
FUSION_FLAGS = {
    None: "ASKCFuse",
    "AFF": "ASKCFuse",
    "iAFF": "ResGlobLocaforGlobLocaCha",
    "Add": "DirectAdd",
    "Concatenation": "Concat",
}
SMOOTHING = 0.1
AFI_SETTINGS = ("r", "stages", "attention")
# Flags of the training commands that the original's scripts do not have
COMMON_NEW_FLAGS = (
    *("--version", "--release", "--recipe", "--optimizer", "--fusion", "--scale", "--context", "--stages"),
    *("--attention", "--classes", "--num-workers", "--seed", "--kvstore", "--sync-bn", "--keep-one-best"),
    *("--checkpoint-every", "--resume"),
)
# Settings that have no say in what a run comes to
COMMON_MAY_DIFFER = (
    "data_dir",
    "num_workers",
    "save_dir",
    "keep_one_best",
    "summary",
    "checkpoint_every",
    "resume",
    "kvstore",
)
# Where the original takes a number below 0, or a 0, for "none" or the like, so do we
COMMON_LIMITS: Dict[str, Tuple[float, float]] = {
    "batch_size": (1, 10**6),
    "start_layer": (-(10**6), 10**6),
    "num_epochs": (1, 10**6),
    "classes": (1, 10**6),
    "warmup_epochs": (-(10**6), 10**6),
    "mixup_off_epoch": (-(10**6), 10**6),
    "num_workers": (-(10**6), 10**6),
    "checkpoint_every": (0, 10**6),
    "lr_decay_period": (-(10**6), 10**6),
    "seed": (0, 2**31 - 1),
    "lr": (0, 1e30),
    "wd": (0, 1e30),
    "lr_decay": (0, 1e30),
    "scale": (1e-6, 1e6),
    "momentum": (0, 1),
    "mixup_alpha": (1e-3, 1e30),  # NumPy's sampler takes for ever below
}


def flag(name: str) -> str:
    """Flag of the setting called `name`."""
    return f"--{name.replace('_', '-')}"


def is_listed(model: str, input_size: int) -> bool:
    """Whether `gluon-aff models` lists a network of that name and input."""
    return model in MODELS and MODELS[model].input_size == input_size


def check_model_settings(settings: Any, network_settings: Iterable[str]) -> None:
    """Raise InputError for a flag that the model does not take; a named one takes none but AFINets' own."""
    own = AFI_SETTINGS if settings.named and "variant" in MODELS[settings.model].settings else ()
    candidates = (*network_settings, *AFI_SETTINGS) if settings.named else ("stages", "attention")
    defaults = {field.name: field.default for field in fields(settings)}
    refused = [name for name in candidates if name not in own and getattr(settings, name) != defaults[name]]
    why = f"{settings.model} is a network as it is" if settings.named else f"{settings.model} integrates no features"
    if refused:
        raise InputError(f"{', '.join(map(flag, refused))}: --model {why}; leave that out, or name another model")
    stages_in(settings)


def stages_in(settings: Any) -> Optional[List[int]]:
    """What `--stages` says, None if nothing; InputError if that is no list of numbers."""
    if settings.stages is None:
        return None
    try:
        return [int(stage) for stage in settings.stages.split(",")]
    except ValueError:
        raise InputError(f"--stages {settings.stages}: name them by numbers, such as 1 or 1,2") from None


def named_arguments(settings: Any) -> Dict[str, Any]:
    """Arguments of `get_model` that are given for a named network."""
    arguments = {"r": settings.r, "stages": stages_in(settings), "attention": settings.attention}
    return {name: value for name, value in arguments.items() if value is not None}


def named_part(settings: Any) -> str:
    """What the name of a run's files says of a named network behind its name."""
    arguments = named_arguments(settings)
    stages = "+".join(map(str, arguments.get("stages", ())))
    said_if = {
        f"-r-{settings.r}": "r" in arguments,
        f"-stages-{stages}": "stages" in arguments,
        f"-{settings.attention}": "attention" in arguments,
    }
    return "".join(text for text, said in said_if.items() if said)


def unknown_model(model: str, known: Iterable[str], input_size: int) -> InputError:
    """Error for a `--model` that is neither one of the `known` nor listed for images of that side."""
    if model.lower() in MODELS:
        side = MODELS[model.lower()].input_size
        return InputError(f"--model {model}: it is for images of {side} x {side}, not of {input_size} x {input_size}")
    return unknown_name("--model", model, [*known, *(name for name in MODELS if is_listed(name, input_size))])


def add_recipe_option(group: argparse._ArgumentGroup, about: str) -> None:
    """The second paper's defaults."""
    group.add_argument(
        "--recipe",
        choices=("aff", "afinets"),
        default="aff",
        help=f"afinets: defaults of the second paper ({about}) (default: aff)",
    )
    group.add_argument("--optimizer", choices=("nag", "sgd"), help="NAG is SGD with Nesterov's momentum")


def add_release_option(group: argparse._ArgumentGroup, about: str) -> None:
    """The first release's defaults, in place of today's."""
    group.add_argument(
        "--release",
        choices=("head", "first"),
        default="head",
        help=f"first: all defaults of the first release ({about}), for commands of that time (default: head)",
    )


def said_in(argv: List[str], parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What `argv` says of those options of `parser` that change the defaults of others."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # it does not know that --r is another option
    # What lacks its value is for `parser` to complain of
    first.add_argument("--recipe", nargs="?", default="aff")
    first.add_argument("--release", nargs="?", default="head")
    first.add_argument("--dataset", nargs="?", default="cifar100")
    first.add_argument("--model", nargs="?")
    first.add_argument("--superclass", action="store_true")
    return first.parse_known_args([_written_out(argument, parser) for argument in argv])[0]


def _written_out(argument: str, parser: argparse.ArgumentParser) -> str:
    """`argument` with its flag in full if it is abbreviated."""
    name, equals, value = argument.partition("=")
    flags = parser._option_string_actions
    meant = [name] if name in flags else [flag for flag in flags if flag.startswith(name)]
    actions = {id(flags[flag]): flags[flag] for flag in meant}
    if not name.startswith("--") or len(actions) != 1:
        return argument
    (action,) = actions.values()
    return action.option_strings[0] + equals + value


def keep_abbreviations(parser: argparse.ArgumentParser, new_flags: Sequence[str]) -> None:
    """Let an abbreviation mean what it meant in the original, where `new_flags` would make it ambiguous.

    One that is a new flag itself cannot be kept.
    """
    flags = parser._option_string_actions
    originals = [flag for flag in flags if flag.startswith("--") and flag not in new_flags]
    abbreviations = {flag[:length] for flag in originals for length in range(len("--x"), len(flag))}
    for abbreviation in abbreviations.difference(flags):
        meant = [flag for flag in originals if flag.startswith(abbreviation)]
        if len(meant) == 1:
            flags[abbreviation] = flags[meant[0]]


def add_fusion_options(group: argparse._ArgumentGroup) -> None:
    """The fusion and its arguments."""
    names = list(OPERATORS)
    group.add_argument(
        "--askc-type",
        "--fusion",
        dest="askc_type",
        metavar="FUSION",
        help=f"{', '.join(names[:-1])} or {names[-1]}, "
        "or an original flag such as ASKCFuse, which is AFF (default: AFF)",
    )
    group.add_argument(
        "--scale", type=float, help="factor on what AFF, iAFF and SKNet select (default: the original's; the paper: 1)"
    )
    group.add_argument(
        "--context", choices=CONTEXTS, help="layers of a context branch (default: bottleneck; conv: one convolution)"
    )


def add_integration_options(group: argparse._ActionsContainer) -> None:
    """What AFINets have."""
    group.add_argument(
        "--stages", metavar="STAGES", help="of an AFINet: which integrate features, such as 1 or 1,2 (default: all)"
    )
    group.add_argument("--attention", choices=ATTENTIONS, help="of an AFINet: on the integrated feature")


def add_regularisation_options(group: argparse._ArgumentGroup, no_wd_condition: str = "") -> None:
    """Mixup, label smoothing and weight decay; `no_wd_condition` is said of --no-wd."""
    group.add_argument("--mixup", action="store_true", help="mix each batch with its reverse")
    group.add_argument("--mixup-alpha", type=float, help="weights are drawn from Beta(alpha, alpha)")
    group.add_argument("--mixup-off-epoch", type=int, help="no mixup in the last so many epochs; 0 or less: never off")
    group.add_argument("--label-smoothing", action="store_true", help="smooth labels by 0.1")
    group.add_argument("--wd", type=float, help="weight decay")
    group.add_argument(
        "--no-wd", action="store_true", help=f"no weight decay of biases, beta and gamma{no_wd_condition}"
    )


def add_checkpoint_options(group: argparse._ArgumentGroup) -> None:
    """Checkpoints and going on from them."""
    group.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="EPOCHS",
        help="epochs between checkpoints in --save-dir, of which the newest is kept; 0 for none",
    )
    group.add_argument(
        "--resume",
        metavar="auto|DIR",
        help="go on from a checkpoint as if the run had never stopped: the newest of this command line's run (auto; "
        "a new run if there is none), or the one in DIR",
    )


def add_run_options(group: argparse._ArgumentGroup) -> None:
    """How several devices and workers go together, the seed, and a summary instead of a run."""
    group.add_argument(
        "--kvstore",
        choices=KVSTORES,
        help="where gradients are summed: local (CPU) or device (GPUs) for this process alone; dist_sync, "
        "dist_device_sync or horovod for the workers of a launch",
    )
    group.add_argument(
        "--sync-bn",
        action="store_true",
        help="batch statistics over all GPUs of a process, instead of each GPU's own as in the original; float32 only",
    )
    group.add_argument(
        "--seed", type=int, help="same seed, same run, bit for bit on the CPU (default: drawn and logged)"
    )
    group.add_argument("--summary", action="store_true", help="print the layers and stop")


def set_defaults(
    parser: argparse.ArgumentParser, settings: type, changed: Optional[Mapping[str, object]] = None
) -> None:
    """Take the defaults of the dataclass `settings`, or those `changed`, and show them in the help."""
    defaults = {field.name: field.default for field in fields(settings)}
    parser.set_defaults(**{**defaults, **(changed or {})})
    for action in parser._actions:
        if action.dest in defaults and action.nargs != 0 and action.default not in (None, ""):
            action.help = f"{action.help} (default: {action.default})"


def settings_from(kind: Type[Settings], options: Mapping[str, object]) -> Settings:
    """Settings, a dataclass, from parsed options, which may be more."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in options.items() if name in known})


def check_ranges(settings: Any, limits: Mapping[str, Tuple[float, float]]) -> None:
    """Raise InputError for a setting that there is, and that is given and out of its limits."""
    for name, (lowest, highest) in {**COMMON_LIMITS, **limits}.items():
        value = getattr(settings, name, None)
        if value is not None and not lowest <= value <= highest:
            raise InputError(f"{flag(name)} {value}: must be from {lowest} to {highest}")


def check_not_empty(settings: Any, names: Iterable[str]) -> None:
    """Raise InputError for one of those settings that is given as an empty text, an unset variable perhaps."""
    for name in names:
        if getattr(settings, name) == "":
            raise InputError(f"{flag(name)} is empty: give it a value, or leave the flag out")


def fusion_flag(fusion: Optional[str]) -> str:
    """Original flag of `fusion`, AFF's if None, which file names have."""
    return FUSION_FLAGS.get(fusion, str(fusion))


def fusion_part(settings: Any, usual_r: Optional[int]) -> str:
    """What the name of a run's files says of the fusion where it is not as in the original."""
    said_if = {
        f"-r-{settings.r}": settings.r != usual_r,
        f"-scale-{settings.scale}": settings.scale is not None,
        f"-{settings.context}": settings.context is not None,
    }
    return "".join(text for text, said in said_if.items() if said)


def late_cuts(settings: Any, earlier: int) -> str:
    """Those decay epochs, so much earlier than `--lr-decay-epoch` says, that come behind the run's end."""
    cuts = decay_epochs(settings.lr_decay_epoch, settings.lr_decay_period, settings.num_epochs, earlier)
    return ", ".join(str(cut) for cut in cuts if cut >= settings.num_epochs)


def seed_or_drawn(seed: Optional[int]) -> int:
    """`seed`, or one drawn."""
    return int.from_bytes(os.urandom(4), "little") >> 1 if seed is None else seed
