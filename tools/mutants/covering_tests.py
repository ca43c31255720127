"""Measure which tests run a line and how long each test takes, once, and again for test files that changed."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Set

from coverage import CoverageData

from tools.mutants.faults import Fault

DURATION = re.compile(r"([\d.]+)s (call|setup|teardown) +(\S+::.+)")
FAILURE = re.compile(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", re.MULTILINE)
PASSED, SOME_FAILED = 0, 1
CONFIG = "[run]\nbranch = true\nrelative_files = true\nsource = gluon_aff\ndata_file = {}\n"


def room_of(path: str) -> str:
    """Return the folder of the module at `path` within the package, which is also that of its tests within tests/."""
    return Path(path).parent.relative_to("gluon_aff").as_posix()


def file_of(test: str) -> str:
    """Return the file of a test, given its node id."""
    return test.split("::")[0]


@dataclass(frozen=True)
class CoveringTests:
    """Holds the coverage and the durations of the fast tests.

    Attributes:
        seconds: duration of each test in seconds, by its node id.
        fixtures: longest setup of a test in each file in seconds: what the fixtures that its tests share take.
        data: lines that each test runs.
    """

    seconds: Dict[str, float]
    fixtures: Dict[str, float]
    data: CoverageData

    def of(self, fault: Fault) -> List[str]:
        """Return the tests that run the statement with the fault.

        Tests of the file's own room come first, and short ones before long ones. Code that runs while the package is
        imported (constants, defaults, functions that are called for them) belongs to no test in particular, though a
        test may happen to import it first; nor does code that runs only in processes that tests start. For such code,
        the tests of the file's room and of the rooms around it, and all tests that run any line of the file, are
        returned.
        """
        by_line = self.data.contexts_by_lineno(fault.path)
        room = f"tests/{room_of(fault.path)}"
        own = {test for test in self.seconds if test.replace("/test_", "/").startswith(room)}
        first, last = fault.lines
        chosen = self._tests(tests for line, tests in by_line.items() if first <= line <= last)
        if fault.at_import or not chosen:
            around = f"tests/{room_of(fault.path).split('/')[0]}/"
            chosen |= own | {test for test in self.seconds if test.startswith(around)} | self._tests(by_line.values())
        return sorted(chosen, key=lambda test: (test not in own, self.seconds[test]))

    def cost(self, tests: Iterable[str]) -> float:
        """Return about how many seconds these tests take, with the fixtures of their files."""
        files = {file_of(test) for test in tests}
        return sum(self.seconds[test] for test in tests) + sum(self.fixtures.get(file, 0.0) for file in files)

    def _tests(self, contexts: Iterable[List[str]]) -> Set[str]:
        """Return the tests of these contexts.

        If a context is a fixture, which several tests may share, all tests of its file are returned.
        """
        found = {tuple(context.rsplit("|", 1)) for of_line in contexts for context in of_line if context}
        tests = {test for test, *_ in found}
        shared = {file_of(test) for test, phase in found if phase == "setup"}
        return (tests | {test for test in self.seconds if file_of(test) in shared}) & self.seconds.keys()


def measure(tree: Path, environment: Dict[str, str], cache: Path, processes: int) -> CoveringTests:
    """Run the fast tests of `tree`: all of them, or those in files that changed since `cache` was written.

    Tests that fail without a fault are printed and left out.

    Args:
        tree: a copy of the checkout.
        environment: environment variables for the tests.
        cache: folder in which the result is stored.
        processes: number of processes that run tests.

    Raises:
        SystemExit: pytest itself failed.
    """
    known, data_file = cache / "tests.json", cache / "coverage.sqlite"
    package = _hash(sorted((tree / "gluon_aff").rglob("*.py")))
    earlier = json.loads(known.read_text()) if known.is_file() else {}
    if earlier.get("package") != package:
        earlier = {"package": package, "files": {}, "seconds": {}, "fixtures": {}}
        data_file.unlink(missing_ok=True)
    files = {str(file.relative_to(tree)): _test_file_hash(tree, file) for file in tree.glob("tests/**/test_*.py")}
    changed = sorted(file for file, digest in files.items() if earlier["files"].get(file) != digest)
    kept = files.keys() - set(changed)
    seconds = {test: each for test, each in earlier["seconds"].items() if file_of(test) in kept}
    fixtures = {file: each for file, each in earlier["fixtures"].items() if file in kept}
    if changed:
        log = _run(tree, environment, changed, data_file, processes)
        read_durations(log, seconds, fixtures)
        known.write_text(json.dumps({"package": package, "files": files, "seconds": seconds, "fixtures": fixtures}))
    data = CoverageData(str(data_file))
    data.read()
    return CoveringTests(seconds, fixtures, data)


def _run(tree: Path, environment: Dict[str, str], files: List[str], data_file: Path, processes: int) -> str:
    """Run the tests in `files` and add their coverage to `data_file`; return what pytest says."""
    log = data_file.with_name("tests.log")
    print(f"running the tests of {len(files)} files to measure what they cover: see {log}", file=sys.stderr)
    config = tree / ".coverage-config"
    config.write_text(CONFIG.format(data_file))
    coverage = ("--cov", "--cov-append", "--cov-context=test", f"--cov-config={config}", "--cov-report=")
    spread = ("-n", str(processes), "--dist", "loadfile")
    durations = ("--durations=0", "--durations-min=0", "-v")
    command = [sys.executable, "-m", "pytest", *spread, *coverage, *durations, *files]
    with open(log, "w") as output:
        code = subprocess.run(command, cwd=tree, env=environment, stdout=output, stderr=output, check=False).returncode
    if code not in (PASSED, SOME_FAILED):
        raise SystemExit(f"mutants: error: pytest ended with {code}: see {log}")
    return log.read_text(errors="replace")


def read_durations(log: str, seconds: Dict[str, float], fixtures: Dict[str, float]) -> None:
    """Read the duration of each test and the longest setup of each file from pytest's output.

    Tests that failed are printed and left out.

    Args:
        log: what pytest printed.
        seconds: durations in seconds by test, to which those in `log` are added.
        fixtures: longest setups in seconds by file, to which those in `log` are added.
    """
    for duration, phase, test in DURATION.findall(log):
        seconds[test] = seconds.get(test, 0.0) + float(duration)
        if phase == "setup":
            fixtures[file_of(test)] = max(fixtures.get(file_of(test), 0.0), float(duration))
    for test in FAILURE.findall(log):
        print(f"left out, because it fails without a fault: {test}", file=sys.stderr)
        seconds.pop(test, None)


def _test_file_hash(tree: Path, file: Path) -> str:
    """Return a hash of a file of tests and of all modules that tests share in its folder and in tests/."""
    shared = {path for folder in (tree / "tests", file.parent) for path in folder.glob("*.py")}
    return _hash([*sorted(path for path in shared if not path.name.startswith("test_")), file])


def _hash(files: List[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
