"""Measure which tests run a line and how long each test takes, once, and again for test files that changed."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Set, Tuple

from coverage import CoverageData

DURATION = re.compile(r"([\d.]+)s (?:call|setup|teardown) +(\S+::.+)")
FAILURE = re.compile(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", re.MULTILINE)
PASSED, SOME_FAILED = 0, 1
CONFIG = "[run]\nbranch = true\nrelative_files = true\nsource = gluon_aff\ndata_file = {}\n"


def room_of(path: str) -> str:
    """Return the folder of the module at `path` within the package, which is also that of its tests within tests/."""
    return Path(path).parent.relative_to("gluon_aff").as_posix()


@dataclass(frozen=True)
class CoveringTests:
    """Holds the coverage and the durations of the fast tests.

    Attributes:
        seconds: duration of each test in seconds, by its node id.
        data: lines that each test runs.
    """

    seconds: Dict[str, float]
    data: CoverageData

    def of(self, path: str, lines: Tuple[int, int]) -> List[str]:
        """Return the tests that run a line from `lines[0]` to `lines[1]` of a file.

        Tests of the file's own room come first, and short ones before long ones. Code that runs while the package is
        imported (constants, defaults, decorators) belongs to no test in particular. For such lines, the tests of the
        file's room and all tests that run any line of the file are returned.
        """
        by_line = self.data.contexts_by_lineno(path)
        room = f"tests/{room_of(path)}/"
        chosen = self._tests(tests for line, tests in by_line.items() if lines[0] <= line <= lines[1])
        if not chosen:
            chosen = self._tests(by_line.values()) | {test for test in self.seconds if test.startswith(room)}
        return sorted(chosen, key=lambda test: (not test.startswith(room), self.seconds[test]))

    def _tests(self, contexts: Iterable[List[str]]) -> Set[str]:
        """Return the tests of these contexts.

        If a context is a fixture, which several tests may share, all tests of its file are returned.
        """
        found = {tuple(context.rsplit("|", 1)) for of_line in contexts for context in of_line if context}
        tests = {test for test, *_ in found}
        shared = {test.split("::")[0] for test, phase in found if phase == "setup"}
        return (tests | {test for test in self.seconds if test.split("::")[0] in shared}) & self.seconds.keys()


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
        earlier = {"package": package, "files": {}, "seconds": {}}
        data_file.unlink(missing_ok=True)
    files = {str(file.relative_to(tree)): _test_file_hash(tree, file) for file in tree.glob("tests/**/test_*.py")}
    changed = sorted(file for file, digest in files.items() if earlier["files"].get(file) != digest)
    seconds = {t: s for t, s in earlier["seconds"].items() if t.split("::")[0] in files.keys() - set(changed)}
    if changed:
        seconds.update(_run(tree, environment, changed, data_file, processes))
        known.write_text(json.dumps({"package": package, "files": files, "seconds": seconds}))
    data = CoverageData(str(data_file))
    data.read()
    return CoveringTests(seconds, data)


def _run(
    tree: Path, environment: Dict[str, str], files: List[str], data_file: Path, processes: int
) -> Dict[str, float]:
    """Run the tests in `files` and add their coverage to `data_file`; return the duration of each in seconds."""
    log = data_file.with_name("tests.log")
    print(f"running the tests of {len(files)} files to measure what they cover: see {log}", file=sys.stderr)
    config = tree / ".coverage-config"
    config.write_text(CONFIG.format(data_file))
    coverage = ("--cov", "--cov-append", "--cov-context=test", f"--cov-config={config}", "--cov-report=")
    spread = ("-n", str(processes), "--dist", "loadfile")
    command = [sys.executable, "-m", "pytest", "-q", *spread, *coverage, "--durations=0", "-vv", *files]
    with open(log, "w") as output:
        code = subprocess.run(command, cwd=tree, env=environment, stdout=output, stderr=output, check=False).returncode
    said = log.read_text(errors="replace")
    if code not in (PASSED, SOME_FAILED):
        raise SystemExit(f"mutants: error: pytest ended with {code}: see {log}")
    seconds: Dict[str, float] = {}
    for duration, test in DURATION.findall(said):
        seconds[test] = seconds.get(test, 0.0) + float(duration)
    for test in FAILURE.findall(said):
        print(f"left out, because it fails without a fault: {test}", file=sys.stderr)
        seconds.pop(test, None)
    return seconds


def _test_file_hash(tree: Path, file: Path) -> str:
    """Return a hash of a file of tests and of all modules that tests share in its folder and in tests/."""
    shared = {path for folder in (tree / "tests", file.parent) for path in folder.glob("*.py")}
    return _hash([*sorted(path for path in shared if not path.name.startswith("test_")), file])


def _hash(files: List[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
