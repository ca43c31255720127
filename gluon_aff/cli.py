"""Run the command line `gluon-aff COMMAND`, and the scripts, each of which is one command under its own name.

Modules that need an engine are imported by the functions of the commands, so that --help is quick.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
import textwrap
from typing import Any, Iterable, List, NoReturn, Optional, Tuple

from gluon_aff._platform import ENGINE_VARIABLE, platform_problem, torch_problem
from gluon_aff._version import __version__
from gluon_aff.citation import CITATION
from gluon_aff.commands import USAGE_ERROR, Command
from gluon_aff.commands.table import COMMANDS
from gluon_aff.errors import GluonAFFError, InputError, Stopped, last_line, nearest
from gluon_aff.interpreter import python_command
from gluon_aff.printing import printable, show
from gluon_aff.registry import import_registered, load_entry_points

FAILURE = 1
SIGNALLED = 128  # plus the signal's number, as in a shell
MISSING_LIBRARY = "cannot open shared object file"  # part of the dynamic linker's message
LIBRARIES = "gluon-aff doctor lists all missing libraries and where to get them"
HELP_WIDTH = 95  # characters in a line of the longer texts in --help

FIRST_STEPS = """\
first steps:
  gluon-aff doctor                                  check this machine, and see which commands work here
  gluon-aff models                                  list the networks and their published errors
  gluon-aff predict --model aff_resnet50 cat.jpg    classify an image with published weights
  gluon-aff make-data digits demo/digits            write a small data set to train on
  gluon-aff COMMAND --help                          explain a command and its options, with examples"""


class OneLineParser(argparse.ArgumentParser):
    """Parses arguments, and reports an error in one line, without the usage of up to 40 flags.

    For an unknown option, or an unknown choice such as a command, the error names the most similar one.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Tuple[Any, List[str]]:
        """Parse arguments, all of which have to be known: a command's own parser knows which options are similar."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            word = next((word.partition("=")[0] for word in unknown if word.startswith("--")), "")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_did_you_mean(word, flags)}")
        return options, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            meant = _did_you_mean(str(value), map(str, action.choices or ()))
            error.message = error.message.replace(" (choose from", f"{meant} (choose from", 1)
            raise

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and exit with code 2."""
        self.exit(USAGE_ERROR, f"{self.prog}: error: {printable(message)} (see {self.prog} --help)\n")


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question for the known word that is most similar to `word`; empty if none is."""
    names = {each.lstrip("-"): each for each in known}  # the dashes would make all flags similar
    return "".join(f": did you mean {names[name]}?" for name in nearest(word.lstrip("-"), names, 1, cutoff=0.6))


def main(argv: Optional[List[str]] = None, script: Optional[str] = None, command: Optional[str] = None) -> int:
    """Run a command line and return its exit code.

    The exit code is 0 for success, 1 for a failure, 2 for wrong input, and 128 plus the signal's number if a signal
    ended the command. Some commands give 1 and 2 a meaning of their own, which their --help states.

    Args:
        argv: arguments; those of the process if None.
        script: name of the program in messages; gluon-aff if None.
        command: subcommand that takes the arguments, for scripts that run only one; if None, `argv` names it.
    """
    _open_closed_streams()
    prog = script or "gluon-aff"
    try:
        return _run(prog, _with_home(sys.argv[1:] if argv is None else argv), command)
    except Stopped as stop:
        show(f"{prog}: {stop}", file=sys.stderr)
        return SIGNALLED + stop.signal
    except GluonAFFError as error:
        show(f"{prog}: error: {error}", file=sys.stderr)
        return USAGE_ERROR if isinstance(error, InputError) else FAILURE
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        _silence_stdout()
        return FAILURE
    except (ImportError, OSError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            _silence_stdout()
            show(f"{prog}: error: {error}: free some space and try again", file=sys.stderr)
            return FAILURE
        if MISSING_LIBRARY not in str(error):
            raise
        show(f"{prog}: error: {error}. {LIBRARIES}", file=sys.stderr)
        return USAGE_ERROR
    except Exception as error:
        if type(error).__name__ != "MXNetError":  # compared by name, because MXNet may not be imported
            raise
        show(
            f"{prog}: error: MXNet stopped: {last_line(error)}. If it ran out of memory, lower --batch-size",
            file=sys.stderr,
        )
        return FAILURE
    except KeyboardInterrupt:
        show(f"{prog}: interrupted", file=sys.stderr)
        return SIGNALLED + signal.SIGINT


def _run(prog: str, argv: List[str], command: Optional[str]) -> int:
    """Parse the arguments and run the command; return its exit code."""
    argv = import_registered(argv)
    parser = OneLineParser(prog)
    parser.add_argument(
        "--version", action="version", version=f"gluon_aff {__version__}", help="print the version and exit"
    )
    parser.add_argument(
        "--import", metavar="MODULE", help="import this module first; it registers operators or networks of your own"
    )
    if command:
        fill_parser(parser, COMMANDS[command], argv)
    else:
        _add_commands(parser, argv)
    options = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may contain bytes that are not text
    _check_current_folder()
    again = f"from gluon_aff.cli import main; sys.exit(main(script={prog!r}, command={command!r}))"
    options.process = python_command(again, *argv)
    load_entry_points()  # after parsing, so that --help does not need them
    chosen = COMMANDS[command or options.command]
    if chosen.computes:
        from gluon_aff.machine.threads import use_all_cores

        use_all_cores()
    code = chosen.run(options)
    sys.stdout.flush()
    return code


def _with_home(argv: List[str]) -> List[str]:
    """Replace ~ in arguments such as `--flag=~/runs`, as shells do in `--flag ~/runs`.

    Arguments after --, which belong to another command, stay as they are.
    """
    own = argv.index("--") if "--" in argv else len(argv)
    return [_home_in(argument) for argument in argv[:own]] + argv[own:]


def _home_in(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    is_home = flag.startswith("-") and (value == "~" or value.startswith(("~/", f"~{os.sep}")))
    return f"{flag}{equals}{os.path.expanduser(value)}" if is_home else argument


def _check_current_folder() -> None:
    """Raise InputError if the current folder has been deleted, so that no relative path can be resolved."""
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(
            f"the current folder does not exist any more ({error.strerror}): change into another one"
        ) from None


def _open_closed_streams() -> None:
    """Replace standard streams that the caller has closed (`>&-`), which are None in Python, by the null device."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open until the process ends)


def _silence_stdout() -> None:
    """Redirect standard output to the null device, so that flushing it at the end of the process cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fill_parser(parser: argparse.ArgumentParser, command: Command, argv: List[str]) -> argparse.ArgumentParser:
    """Give `parser` the description and the options of `command`, whose defaults may depend on `argv`."""
    paragraphs = [command.help[0].upper() + command.help[1:] + ".", *command.about.split("\n\n")]
    parser.description = "\n\n".join(map(_wrapped, paragraphs))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    if command.examples:
        examples = (f"  {parser.prog} {example}".rstrip() for example in command.examples)
        parser.epilog = "\n".join(["examples:", *examples])
    command.add_options(parser, argv)
    return parser


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, HELP_WIDTH, break_long_words=False, break_on_hyphens=False)


def _engines_here() -> str:
    """Say which engines work on this machine, and which one computes."""
    here = [name for name, problem in (("mxnet", platform_problem()), ("torch", torch_problem())) if problem is None]
    if not here:
        return "Engines here: none, so commands that compute do not work; `gluon-aff doctor` says what to install."
    chosen = "" if len(here) == 1 else f"; {here[0]} computes, unless --engine or ${ENGINE_VARIABLE} names torch"
    return f"Engines here: {' and '.join(here)}{chosen}."


def _add_commands(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = _wrapped(
        "Attentional Feature Fusion (WACV 2021) in MXNet/Gluon and PyTorch: train the networks of the paper, use "
        "published or your own weights, and compare runs with published ones."
    )
    parser.epilog = f"{FIRST_STEPS}\n\n{_engines_here()}"
    parser.add_argument(
        "--cite", action="version", version=CITATION, help="print the BibTeX of the paper and of this package and exit"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for name, command in COMMANDS.items():
        fill_parser(subparsers.add_parser(name, help=command.help), command, argv)
