"""Draw small faults, put them into the package one at a time, and report those that no test notices: `make mutants`."""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import sys
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Dict, Iterator, List, Set, Tuple

from tqdm import tqdm

from tools.mutants.covering_tests import CoveringTests, measure, room_of
from tools.mutants.faults import Fault, find_faults
from tools.mutants.trial import ROOT, Outcome, copy_checkout, environment_for, run_tests, try_fault

CACHE = ROOT / "build" / "mutants"
EXPLAINED = Path(__file__).with_name("explained.csv")
ROOMS = (
    *("gluon", "gluon/fusion", "gluon/networks", "pytorch", "pytorch/fusion", "pytorch/networks"),
    *("data", "settings", "training", "weights", "results"),
)
CONTROLS = 20  # tests that must pass without a fault before any trial


def parse_arguments() -> argparse.Namespace:
    """Parse the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutants",
        description="Put small faults into a copy of the package, one at a time, and run the fast tests that cover the "
        "changed line. The first run takes as long as `make coverage`, because it measures which tests cover which "
        "lines; after that, 50 faults take minutes. Faults that change nothing that matters are listed in "
        "explained.csv with the reason. The exit code is 1 if tests noticed fewer than --goal percent of the others.",
    )
    parser.add_argument("-n", "--number", type=int, default=50, help="number of faults (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choice of faults (default: 0)")
    parser.add_argument(
        "--rooms",
        nargs="+",
        default=ROOMS,
        metavar="ROOM",
        help=f"folders of gluon_aff to choose faults from (default: {' '.join(ROOMS)})",
    )
    parser.add_argument("--goal", type=float, default=95.0, help="percentage of faults to be noticed (default: 95)")
    parser.add_argument("--list", action="store_true", help="print the chosen faults without trying them")
    options = parser.parse_args()
    unknown = [room for room in options.rooms if not (ROOT / "gluon_aff" / room).is_dir()]
    if unknown or options.number < 1:
        parser.error(f"gluon_aff has no folder {', '.join(unknown)}" if unknown else "-n must be at least 1")
    return options


def draw(rooms: List[str], number: int, seed: int) -> List[Fault]:
    """Draw `number` faults at random.

    Each draw chooses a room, then a kind of fault in it, then a place, so that long tables do not dominate.
    """
    rng = random.Random(seed)
    sources: Dict[str, str] = {}
    places: Dict[str, Dict[str, List[Fault]]] = {room: defaultdict(list) for room in rooms}
    for room in rooms:
        within = [other for other in rooms if other.startswith(f"{room}/")]
        for file in sorted((ROOT / "gluon_aff" / room).rglob("*.py")):
            path = str(file.relative_to(ROOT))
            if any(path.startswith(f"gluon_aff/{other}/") for other in within):
                continue
            sources[path] = file.read_text(encoding="utf-8")
            for fault in find_faults(path, sources[path]):
                places[room][fault.kind].append(fault)
    drawn: List[Fault] = []
    while len(drawn) < number and any(kind for room in places.values() for kind in room.values()):
        room = rng.choice([room for room in rooms if any(places[room].values())])
        kind = rng.choice(sorted(kind for kind, faults in places[room].items() if faults))
        faults = places[room][kind]
        fault = faults.pop(rng.randrange(len(faults)))
        if fault.is_python(sources[fault.path]):
            drawn.append(fault)
    return drawn


def try_all(faults: List[Fault], trees: List[Path], covering: CoveringTests) -> Iterator[Outcome]:
    """Try the faults in parallel, one in each copy of the checkout; yield the outcomes in the order of the faults."""
    free: Queue[Path] = Queue()
    for tree in trees:
        free.put(tree)

    def try_one(fault: Fault) -> Outcome:
        tree = free.get()
        try:
            return try_fault(fault, tree, covering)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        yield from tqdm(pool.map(try_one, faults), total=len(faults), unit="fault", disable=None)


def check_without_fault(tree: Path, covering: CoveringTests) -> None:
    """Raise SystemExit if tests fail in a copy of the checkout that has no fault."""
    chosen = random.Random(0).sample(sorted(covering.seconds), min(CONTROLS, len(covering.seconds)))
    code, output = run_tests(tree, chosen, 600)
    if code:
        raise SystemExit(f"mutants: error: tests fail without a fault:\n{output[-4000:]}")


def read_explained() -> Set[Tuple[str, str, str]]:
    """Read file, line of code and change of the faults that may go unnoticed."""
    with EXPLAINED.open(newline="", encoding="utf-8") as file:
        return {(row["file"], row["code"], row["change"]) for row in csv.DictReader(file)}


def report(outcomes: List[Outcome], seed: int) -> float:
    """Print which faults were noticed; return the percentage noticed of those that are not explained."""
    explained = read_explained()
    unexplained = [each for each in outcomes if each.noticed or each.fault.identity not in explained]
    rooms = Counter(room_of(outcome.fault.path) for outcome in unexplained)
    noticed = Counter(room_of(outcome.fault.path) for outcome in unexplained if outcome.noticed)
    for room, tried in sorted(rooms.items()):
        print(f"{room:14} {noticed[room]:3} of {tried:3} noticed")
    percent = 100 * sum(noticed.values()) / max(len(unexplained), 1)
    print(
        f"seed {seed}: {sum(noticed.values())} of {len(unexplained)} noticed, {percent:.1f} %; "
        f"{len(outcomes) - len(unexplained)} more are explained in {EXPLAINED.relative_to(ROOT)}"
    )
    for outcome in unexplained:
        if not outcome.noticed:
            fault = outcome.fault
            tests = f"{outcome.tests} tests ran it" if outcome.tests else "no test runs it"
            print(f"not noticed: {fault.path}:{fault.line}: {fault.kind}: {fault.what} ({tests})")
    return percent


def write_json(outcomes: List[Outcome], path: Path) -> None:
    """Write the outcome of each fault to a JSON file."""
    rows = [
        {
            "file": outcome.fault.path,
            "line": outcome.fault.line,
            "code": outcome.fault.code,
            "kind": outcome.fault.kind,
            "change": outcome.fault.what,
            "noticed": outcome.noticed,
            "by": outcome.by,
            "tests": outcome.tests,
        }
        for outcome in outcomes
    ]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Run the command; return its exit code."""
    options = parse_arguments()
    faults = draw(options.rooms, options.number, options.seed)
    if options.list:
        for fault in faults:
            print(f"{fault.path}:{fault.line}: {fault.kind}: {fault.what}")
        return 0
    CACHE.mkdir(parents=True, exist_ok=True)
    processes = min(len(os.sched_getaffinity(0)), 4)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees = [Path(folder) / str(number) for number in range(processes)]
        for tree in trees:
            copy_checkout(tree)
        covering = measure(trees[0], environment_for(trees[0]), CACHE, processes)
        check_without_fault(trees[0], covering)
        outcomes = list(try_all(faults, trees, covering))
    percent = report(outcomes, options.seed)
    write_json(outcomes, CACHE / f"seed-{options.seed}.json")
    return int(percent < options.goal)


if __name__ == "__main__":
    sys.exit(main())
