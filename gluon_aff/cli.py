"""The command line: `gluon-aff COMMAND`, and the original's scripts, each one command under its own name.

Rooms that need MXNet are imported by the commands that use them, so that --help is quick.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
from typing import List, NoReturn, Optional

from gluon_aff._platform import ENGINE_VARIABLE, platform_problem, torch_problem
from gluon_aff._version import __version__
from gluon_aff.commands import USAGE_ERROR, Command
from gluon_aff.commands.table import COMMANDS
from gluon_aff.errors import GluonAFFError, InputError, Stopped, last_line
from gluon_aff.interpreter import python_command
from gluon_aff.printing import printable, show
from gluon_aff.registry import import_registered, load_entry_points

FAILURE = 1
SIGNALLED = 128  # and the signal's number, as shells have it
MISSING_LIBRARY = "cannot open shared object file"  # the dynamic linker's words
LIBRARIES = "gluon-aff doctor names all that is missing and where it comes from"


class OneLineParser(argparse.ArgumentParser):
    """Parser whose errors are one line; the usage of 40 flags helps nobody."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with 2."""
        self.exit(USAGE_ERROR, f"{self.prog}: error: {printable(message)} (see {self.prog} --help)\n")


def main(argv: Optional[List[str]] = None, script: Optional[str] = None, command: Optional[str] = None) -> int:
    """Run a command line; return its exit code (0 done, 1 failed, 2 wrong input, 128 + a signal's number).

    Args:
        argv: arguments, those of the process if None.
        script: name in messages.
        command: subcommand that `argv` are the arguments of, for scripts that are one command.
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
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _silence_stdout()
        return FAILURE
    except (ImportError, OSError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            _silence_stdout()
            show(f"{prog}: error: {error}: make room and try again", file=sys.stderr)
            return FAILURE
        if MISSING_LIBRARY not in str(error):
            raise
        show(f"{prog}: error: {error}. {LIBRARIES}", file=sys.stderr)
        return USAGE_ERROR
    except Exception as error:
        if type(error).__name__ != "MXNetError":  # named, since MXNet is imported only where it is used
            raise
        show(f"{prog}: error: MXNet stopped: {last_line(error)}. If that is memory, use less of it", file=sys.stderr)
        return FAILURE
    except KeyboardInterrupt:
        show(f"{prog}: interrupted", file=sys.stderr)
        return SIGNALLED + signal.SIGINT


def _run(prog: str, argv: List[str], command: Optional[str]) -> int:
    """Do what the arguments say; return the command's exit code."""
    argv = import_registered(argv)
    parser = OneLineParser(prog)
    parser.add_argument("--version", action="version", version=f"gluon_aff {__version__}")
    parser.add_argument("--import", metavar="MODULE", help="one that registers operators or networks of your own")
    if command:
        fill_parser(parser, COMMANDS[command], argv)
    else:
        _add_commands(parser, argv)
    options = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    _check_current_folder()
    again = f"from gluon_aff.cli import main; sys.exit(main(script={prog!r}, command={command!r}))"
    options.process = python_command(again, *argv)
    load_entry_points()  # for what runs; --help does without
    chosen = COMMANDS[command or options.command]
    if chosen.computes:
        from gluon_aff.machine.threads import use_all_cores

        use_all_cores()
    code = chosen.run(options)
    sys.stdout.flush()
    return code


def _with_home(argv: List[str]) -> List[str]:
    """The arguments, with `--flag=~/runs` as shells make `--flag ~/runs`; those after --, of another command, as is."""
    own = argv.index("--") if "--" in argv else len(argv)
    return [_home_in(argument) for argument in argv[:own]] + argv[own:]


def _home_in(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    is_home = flag.startswith("-") and (value == "~" or value.startswith(("~/", f"~{os.sep}")))
    return f"{flag}{equals}{os.path.expanduser(value)}" if is_home else argument


def _check_current_folder() -> None:
    """Raise InputError if it has been deleted, so that no path can be made out."""
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(
            f"the current folder is not there any more ({error.strerror}): change into another one"
        ) from None


def _open_closed_streams() -> None:
    """Python has None for what the caller has closed (`>&-`), which nobody who prints expects."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for as long as the process)


def _silence_stdout() -> None:
    """Let nothing more be written there when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fill_parser(parser: argparse.ArgumentParser, command: Command, argv: List[str]) -> argparse.ArgumentParser:
    """Give `parser` the description and the options of `command`, which may look at `argv` for its defaults."""
    parser.description = command.help[0].upper() + command.help[1:] + "."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    if command.examples:
        parser.epilog = "\n".join(["examples:", *(f"  {parser.prog} {example}" for example in command.examples)])
    command.add_options(parser, argv)
    return parser


def _engines_here() -> str:
    """Which engines this machine has, and which one computes."""
    here = [name for name, problem in (("mxnet", platform_problem()), ("torch", torch_problem())) if problem is None]
    if not here:
        return "Engines here: none, so what computes does not work; `gluon-aff doctor` says what to install."
    chosen = "" if len(here) == 1 else f"; {here[0]} computes, unless --engine or ${ENGINE_VARIABLE} says torch"
    return f"Engines here: {' and '.join(here)}{chosen}."


def _add_commands(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.description = "Attentional Feature Fusion (WACV 2021) in MXNet/Gluon and PyTorch."
    parser.epilog = _engines_here()
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for name, command in COMMANDS.items():
        fill_parser(subparsers.add_parser(name, help=command.help), command, argv)
