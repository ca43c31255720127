"""Run checks in a child process, so that this process survives if a native library crashes there."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Dict

from gluon_aff._platform import SKIP_CHECK
from gluon_aff.interpreter import python_command

SECONDS = 120.0


@dataclass(frozen=True)
class Answer:
    """Answer of a child process: a `value` of types that JSON has, or the `problem` that prevented one."""

    value: Any = None
    problem: str = ""


def ask(probe: str, *arguments: Any, seconds: float = SECONDS) -> Answer:
    """Run `gluon_aff.machine.probes.{probe}(*arguments)` in a child process that imports the same modules as this one.

    Args:
        probe: name of the function.
        arguments: arguments of types that JSON has.
        seconds: time limit, after which the child is killed.
    """
    code = "from gluon_aff.machine import probes; probes.main()"
    try:
        child = subprocess.run(
            python_command(code, json.dumps([probe, arguments])),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            env=_environment(),
        )
    except subprocess.TimeoutExpired:
        return Answer(problem=f"no answer within {seconds:g} s")
    except OSError as error:
        return Answer(problem=f"{sys.executable} does not start: {error.strerror}")
    if child.returncode:
        return Answer(problem=_how_it_ended(child.returncode, child.stderr.decode(errors="replace")))
    return Answer(**json.loads(child.stdout))


def _environment() -> Dict[str, str]:
    """Return this process's environment without DMLC_ROLE, since MXNet would start to serve when it is imported."""
    return {**{name: value for name, value in os.environ.items() if name != "DMLC_ROLE"}, SKIP_CHECK: "1"}


def _how_it_ended(code: int, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    number = -code if code < 0 else _handled_signal(last)
    if number:
        return f"crashed with {signal.Signals(number).name} ({signal.strsignal(number)})"
    return last or f"ended with code {code}"


def _handled_signal(last: str) -> int:
    """Return the number of the signal in the last line of stderr, 0 if there is none.

    MXNet's handler prints such a line and then exits with code 255.
    """
    said = re.fullmatch(r"(.+): (\d+)", last)
    valid = said and int(said[2]) in set(signal.Signals) and signal.strsignal(int(said[2])) == said[1]
    return int(said[2]) if said and valid else 0
