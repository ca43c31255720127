"""The command `doctor`, which checks the machine."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from typing import Dict, Iterator, List, Mapping

from gluon_aff.commands import Command, json_text
from gluon_aff.machine.doctor import examine
from gluon_aff.machine.findings import MEND, NOTE, OK, Finding, note, ok
from gluon_aff.machine.packages import REQUIRED
from gluon_aff.machine.training_steps import STEPS
from gluon_aff.printing import printable, show, show_text

UNHEALTHY = 1
STATE_WIDTH, CHECK_WIDTH = 6, 16
FOR_ALL = ("NumPy", "OpenCV", *(name for name, _, _ in REQUIRED))
COLOURS = {OK: "32", NOTE: "33", MEND: "31;1"}  # green, yellow, bold red


def _add_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON: a list of {check, state, message, remedy}")
    parser.add_argument(
        "--data-dir", nargs="+", action="append", default=[], metavar="DIR",
        help="also look for data sets in these folders or archives; may be repeated (default: the usual folders only)",
    )  # fmt: skip


def _doctor(options: argparse.Namespace) -> int:
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    findings: List[Finding] = []
    for finding in _findings([place for places in options.data_dir for place in places]):
        findings.append(finding)
        if not options.json:
            print(finding_text(finding, coloured), flush=True)  # not show(), which would escape the colours
    if options.json:
        show_text(json_text([asdict(finding) for finding in findings]))
    else:
        show("", summary_text(findings))
    return UNHEALTHY if any(finding.state == MEND for finding in findings) else 0


def _findings(data_dirs: List[str]) -> Iterator[Finding]:
    from gluon_aff.commands.table import COMMANDS as ALL

    found = []
    for finding in examine(data_dirs):
        found.append(finding)
        yield finding
    yield from job_findings(found, ALL)


def job_findings(findings: List[Finding], commands: Mapping[str, Command]) -> List[Finding]:
    """Return which commands work on this machine, for each engine and without one."""
    without = ", ".join(name for name, command in commands.items() if not command.engines)
    broken = [finding.check for finding in findings if finding.state == MEND and finding.check in FOR_ALL]
    works = {finding.check for finding in findings if finding.state == OK}
    return [
        note("no engine for", f"{without}: some may fail", f"see {', '.join(broken)}")
        if broken
        else ok("no engine for", f"{without}: they work"),
        _engine_finding("MXNet", "mxnet", STEPS["mxnet"] in works, commands),
        _engine_finding("PyTorch", "torch", STEPS["torch"] in works, commands),
    ]


def _engine_finding(title: str, engine: str, works: bool, commands: Mapping[str, Command]) -> Finding:
    names = ", ".join(name for name, command in commands.items() if engine in command.engines)
    return ok(f"{title} for", f"{names}: they work") if works else note(f"{title} for", f"{names}: not here")


def finding_text(finding: Finding, coloured: bool = False) -> str:
    """Return state, check and message in columns, and the remedy in the next line."""
    state = finding.state.ljust(STATE_WIDTH)
    if coloured:
        state = f"\033[{COLOURS[finding.state]}m{state}\033[0m"
    line = f"{state}{finding.check.ljust(CHECK_WIDTH)}{printable(finding.message)}"
    return line + (f"\n{' ' * (STATE_WIDTH + CHECK_WIDTH)}-> {printable(finding.remedy)}" if finding.remedy else "")


def summary_text(findings: List[Finding]) -> str:
    """Summarize the findings in one line: what to mend, or on which devices training works."""
    to_mend = list(dict.fromkeys(finding.check for finding in findings if finding.state == MEND))
    if to_mend:
        missing = sum(finding.state == MEND and finding.message.startswith("not installed") for finding in findings)
        hint = " To install everything that is missing: make venv, or pip install ." if missing > 2 else ""
        return f"To mend: {', '.join(to_mend)}.{hint}"
    devices = {
        title: [f.message.split(":")[0] for f in findings if f.check == STEPS[engine] and f.state == OK]
        for title, engine in (("MXNet", "mxnet"), ("PyTorch", "torch"))
    }
    works = [f"{', '.join(those)} ({title})" for title, those in devices.items() if those]
    if not works:
        return "There is nothing to mend, but training needs MXNet or PyTorch, and neither works here."
    return f"Training works here: {'; '.join(works)}."


COMMANDS: Dict[str, Command] = {
    "doctor": Command(
        "check this machine: Python, engines, GPUs, libraries, data, space (exit code 1 if something is to mend)",
        _add_options,
        _doctor,
        ("", "--data-dir cifar-100-binary.tar.gz imagenet", "--json"),
        about="Each line says what was checked, whether it is fine, and what to do if it is not. The last lines say "
        "which commands work with which engine. A tiny network is trained for one step on each engine and device.\n\n"
        "Engine: both are checked; none is needed.",
    )
}
