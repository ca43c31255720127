"""Put one fault at a time into a copy of the checkout, and see whether a test that covers it fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

from tools.mutants.covering_tests import PASSED, CoveringTests
from tools.mutants.faults import Fault

ROOT = Path(__file__).parents[2]
LONGEST_TRIAL = 120.0  # seconds that the tests of a trial take without a fault


@dataclass(frozen=True)
class Outcome:
    """Result of a trial.

    Attributes:
        fault: the fault.
        noticed: True if a test failed or took far too long.
        tests: number of tests that cover the fault and were chosen to run.
        by: the test that noticed the fault, if one can be named.
    """

    fault: Fault
    noticed: bool
    tests: int
    by: str = ""


def copy_checkout(to: Path) -> None:
    """Copy all files that git tracks or does not ignore to a new folder; compile them with hashes of their content."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink() or source.is_file():
            shutil.copy2(source, target, follow_symlinks=False)
    # A fault may keep a file's size and, within a second, its time, so Python must recognise the change by the content.
    compiling = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "gluon_aff", "tests"]
    subprocess.run([sys.executable, *compiling], cwd=to, check=True)


def environment_for(tree: Path) -> Dict[str, str]:
    """Return environment variables with which tests, and the processes that they start, import the copy at `tree`."""
    return {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}


def choose_tests(fault: Fault, covering: CoveringTests) -> List[str]:
    """Return tests that cover a fault, as many as fit into `LONGEST_TRIAL`; those of its room and short ones first."""
    chosen: List[str] = []
    for test in covering.of(fault):
        if chosen and covering.cost([*chosen, test]) > LONGEST_TRIAL:
            break
        chosen.append(test)
    return chosen


def run_tests(tree: Path, tests: List[str], seconds: float) -> Tuple[int, str]:
    """Run `tests` until one fails; return pytest's exit code and output.

    Raises:
        subprocess.TimeoutExpired: they took longer than `seconds`.
    """
    names = tree / "tests-of-this-trial.txt"
    names.write_text("\n".join(tests))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-rfE", f"@{names}"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=tree, env=environment_for(tree), start_new_session=True, **streams) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also ends processes that the tests started
    return process.returncode, output


def try_fault(fault: Fault, tree: Path, covering: CoveringTests) -> Outcome:
    """Put a fault into a copy of the checkout, run the tests that cover it, and take it out again."""
    tests = choose_tests(fault, covering)
    if not tests:
        return Outcome(fault, False, 0)
    file = tree / fault.path
    source = file.read_text(encoding="utf-8")
    file.write_text(fault.applied_to(source), encoding="utf-8")
    try:
        code, output = run_tests(tree, tests, 60 + 5 * covering.cost(tests))
    except subprocess.TimeoutExpired:
        return Outcome(fault, True, len(tests), "the time limit")
    finally:
        file.write_text(source, encoding="utf-8")
    failed = [line.split(" ", 1)[1] for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    # Tests failed, or could not even be collected.
    return Outcome(fault, code != PASSED, len(tests), failed[0] if failed else f"pytest's exit code {code}")
