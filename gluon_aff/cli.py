"""The command line: `gluon-aff COMMAND`, and the original's scripts, each one command under its own name.

Rooms that need MXNet are imported by the commands that use them, so that --help is quick.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Callable, Dict, List, NoReturn, Optional, Sequence

from gluon_aff._version import __version__
from gluon_aff.errors import GluonAFFError, InputError, last_line
from gluon_aff.training.cifar_options import add_options as add_cifar_options
from gluon_aff.training.cifar_options import settings_from

USAGE_ERROR = 2
FAILURE = 1
INTERRUPTED = 130
MISSING_LIBRARY = "cannot open shared object file"  # the dynamic linker's words
LIBRARIES = "Install it: mxnet needs libgomp1; mxnet-cu112 also CUDA 11.2 with NVRTC, cuDNN 8 and NCCL 2"


class OneLineParser(argparse.ArgumentParser):
    """Parser whose errors are one line; the usage of 40 flags helps nobody."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with 2."""
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


@dataclass(frozen=True)
class Command:
    """A subcommand: one line of help, its options, what it does, commands to try."""

    help: str
    add_options: Callable[[argparse.ArgumentParser, List[str]], None]
    run: Callable[[argparse.Namespace], int]
    examples: Sequence[str] = ()


def main(argv: Optional[List[str]] = None, script: Optional[str] = None, command: Optional[str] = None) -> int:
    """Run a command line; return its exit code (0 done, 1 failed, 2 wrong input, 130 interrupted).

    Args:
        argv: arguments, those of the process if None.
        script: name in messages.
        command: subcommand that `argv` are the arguments of, for scripts that are one command.
    """
    argv = sys.argv[1:] if argv is None else argv
    prog = script or "gluon-aff"
    parser = OneLineParser(prog)
    parser.add_argument("--version", action="version", version=f"gluon_aff {__version__}")
    if command:
        fill_parser(parser, COMMANDS[command], argv)
    else:
        _add_commands(parser, argv)
    options = parser.parse_args(argv)
    try:
        return COMMANDS[command or options.command].run(options)
    except GluonAFFError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return USAGE_ERROR if isinstance(error, InputError) else FAILURE
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except (ImportError, OSError) as error:
        if MISSING_LIBRARY not in str(error):
            raise
        print(f"{prog}: error: {error}. {LIBRARIES}", file=sys.stderr)
        return USAGE_ERROR
    except Exception as error:
        if type(error).__name__ != "MXNetError":  # named, since MXNet is imported only where it is used
            raise
        print(f"{prog}: error: MXNet stopped: {last_line(error)}. If that is memory, use less of it", file=sys.stderr)
        return FAILURE
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return INTERRUPTED


def fill_parser(parser: argparse.ArgumentParser, command: Command, argv: List[str]) -> argparse.ArgumentParser:
    """Give `parser` the description and the options of `command`, which may look at `argv` for its defaults."""
    parser.description = command.help[0].upper() + command.help[1:] + "."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    if command.examples:
        parser.epilog = "\n".join(["examples:", *(f"  {parser.prog} {example}" for example in command.examples)])
    command.add_options(parser, argv)
    return parser


def _add_commands(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.description = "Attentional Feature Fusion (WACV 2021) in MXNet/Gluon."
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for name, command in COMMANDS.items():
        fill_parser(subparsers.add_parser(name, help=command.help), command, argv)


def _train_cifar(options: argparse.Namespace) -> int:
    from gluon_aff.training.cifar import summarise_cifar, train_cifar

    settings = settings_from(vars(options))
    if settings.summary:
        print(summarise_cifar(settings))
        return 0
    run = train_cifar(settings)
    print(f"best_val_score:  {run.best_accuracy}")
    for what, path in (("weights", run.params or "none"), ("log", run.log), ("curve", run.curve)):
        print(f"{what + ':':<9}{path}")
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _add_summary_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument("model", metavar="NAME", help="a name that `gluon-aff models` lists")
    parser.add_argument("--classes", type=_positive, help="outputs (default: the published head's)")
    parser.add_argument("--input-size", type=_positive, metavar="PIXELS", help="side of the image (default: 32 or 224)")
    parser.add_argument("--as-original", action="store_true", help="show the FLOPs the original's summary prints")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _summary(options: argparse.Namespace) -> int:
    import mxnet as mx

    from gluon_aff.inspection.summary import count_layers, format_counts
    from gluon_aff.networks import get_model, model_record

    record = model_record(options.model)
    net = get_model(record.name, classes=options.classes, ctx=mx.cpu())
    counts = count_layers(net, options.input_size or record.input_size)
    print(
        json.dumps([asdict(count) for count in counts], indent=1)
        if options.json
        else format_counts(counts, options.as_original)
    )
    return 0


def _add_models_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument("pattern", nargs="?", help="shell wildcard, such as '*cifar*'")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _models(options: argparse.Namespace) -> int:
    from gluon_aff.networks import MODELS, list_models

    records = [MODELS[name] for name in list_models(options.pattern)]
    if not records:
        raise InputError(f"no model is called {options.pattern}: see the list without it")
    if options.json:
        print(json.dumps([asdict(record) for record in records], indent=1))
        return 0
    for record in records:
        errors = ", ".join(f"{error} % ({labels})" for labels, error in record.published_error.items())
        print(f"{record.name:<30} {record.title:<22} {record.trainable:>12,} parameters  top-1 error {errors}")
    return 0


def _add_make_data_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument("kind", choices=("digits", "shapes"), help="digits: scikit-learn's 1,797 handwritten digits in "
        "CIFAR-10's layout; shapes: drawn shapes, 20 coarse and 100 fine kinds, in CIFAR-100's layout")  # fmt: skip
    parser.add_argument("folder", help="folder to make")


def _make_data(options: argparse.Namespace) -> int:
    from gluon_aff.data.sample import write_digits, write_shapes

    {"digits": write_digits, "shapes": write_shapes}[options.kind](options.folder)
    print(f"{options.kind} are in {options.folder}")
    return 0


COMMANDS: Dict[str, Command] = {
    "train-cifar": Command(
        "train a CIFAR network with the original's options",
        add_cifar_options,
        _train_cifar,
        (
            "--model resnet --askc-type ASKCFuse --auto_aug --mixup --label-smoothing --cosine --no-wd --blocks 5",
            "--fine-label --gpus 0,1 --model resnet --auto_aug --mixup --label-smoothing --no-wd --blocks 5",
            "--model resnext --blocks 4 --summary",
        ),
    ),
    "models": Command("list the published networks", _add_models_options, _models, ("", "'*cifar*'")),
    "summary": Command(
        "show layers, parameters and multiply-adds of a network",
        _add_summary_options,
        _summary,
        ("aff_resnet50", "aff_resnext50_32x4d --as-original"),
    ),
    "make-data": Command(
        "write a small data set in CIFAR's binary layout", _add_make_data_options, _make_data, ("digits demo/digits",)
    ),
}
