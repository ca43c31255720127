"""Asking a child process, so that whatever a native library does there, the asking one lives on."""

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
    """What came back: `value`, which JSON can carry, or why there is none."""

    value: Any = None
    problem: str = ""


def ask(probe: str, *arguments: Any, seconds: float = SECONDS) -> Answer:
    """Run `gluon_aff.machine.probes.{probe}(*arguments)` in a child process that imports what this one would.

    Args:
        probe: name of the function.
        arguments: what JSON can carry.
        seconds: patience; the child is killed after that.
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
    """Ours, but for the role in a cluster, by which importing MXNet would become serving."""
    return {**{name: value for name, value in os.environ.items() if name != "DMLC_ROLE"}, SKIP_CHECK: "1"}


def _how_it_ended(code: int, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    number = -code if code < 0 else _handled_signal(last)
    if number:
        return f"crashed with {signal.Signals(number).name} ({signal.strsignal(number)})"
    return last or f"ended with code {code}"


def _handled_signal(last: str) -> int:
    """Number of the signal that MXNet's handler, which then exits with 255, has named last; 0 if it has not."""
    said = re.fullmatch(r"(.+): (\d+)", last)
    valid = said and int(said[2]) in set(signal.Signals) and signal.strsignal(int(said[2])) == said[1]
    return int(said[2]) if said and valid else 0
