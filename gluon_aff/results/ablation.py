"""What came of the rows of an ablation, beside the paper's scores."""

from __future__ import annotations

import csv
import json
import os
import statistics
from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.files import read_text, replacing
from gluon_aff.results.ablation_rows import Row
from gluon_aff.results.logs import read_log
from gluon_aff.results.text import columns_text

RESULT = "result.json"


@dataclass(frozen=True)
class RowResult:
    """What came of a row.

    Attributes:
        fusion, r, blocks, seed, paper: the row's.
        parameters: trainable ones.
        score: best of the run, 0..1.
        best_epoch: the first that has it.
        epochs: finished.
        data: 'official', or 'other' where the paper's score is of other images.
        log: file of the run.
        command: that trained it.
        libraries: engine that trained it and NumPy, with versions; empty where an older version did not say.
    """

    fusion: str
    r: int
    blocks: int
    seed: int
    parameters: int
    score: float
    paper: Optional[float]
    best_epoch: int
    epochs: int
    data: str
    log: str
    command: List[str]
    libraries: str = ""


def result_of(row: Row, parameters: int, log: str, score: str, command: Sequence[str]) -> RowResult:
    """Result of a finished run from its log.

    Raises:
        GluonAFFError: if the log has no epoch with the score.
    """
    runs = [run for run in read_log(log) if score in run.epochs]
    if not runs:
        raise GluonAFFError(f"{log} has no epoch with a score: remove its folder and start again")
    figures, numbers = runs[-1].epochs[score], runs[-1].epochs["epoch"]
    best = int(np.nanargmax(figures))
    return RowResult(
        row.fusion,
        row.r,
        row.blocks,
        row.seed,
        parameters,
        float(figures[best]),
        row.paper,
        int(numbers[best]),
        len(figures),
        runs[-1].header.get("data", "other"),
        os.path.basename(log),
        list(command),
        runs[-1].header.get("libraries", ""),
    )


def write_result(result: RowResult, folder: str) -> None:
    """Mark the row in `folder` as done."""
    with replacing(os.path.join(folder, RESULT)) as partial, open(partial, "w", encoding="utf-8") as file:
        json.dump(asdict(result), file, indent=1)


def _result_in(content: Dict[str, Any]) -> RowResult:
    """The result that a file holds.

    Raises:
        TypeError: it holds something else; names the value.
    """
    result = RowResult(**content)
    number = (int, float)
    kinds: Dict[str, Any] = {
        **dict.fromkeys(("fusion", "data", "log", "libraries"), str),
        **dict.fromkeys(("r", "blocks", "seed", "parameters", "best_epoch", "epochs"), int),
        **{"score": number, "paper": (*number, type(None)), "command": list},
    }
    wrong = [name for name, kind in kinds.items() if not isinstance(getattr(result, name), kind)]
    if wrong or not all(isinstance(word, str) for word in result.command):
        raise TypeError(f"{wrong[0] if wrong else 'command'} is of another type")
    return result


def finished_result(folder: str, command: Sequence[str]) -> Optional[RowResult]:
    """The row's result if it was trained before.

    Raises:
        InputError: if what is there cannot be read, or was trained by another command.
    """
    path = os.path.join(folder, RESULT)
    try:
        result = _result_in(json.loads(read_text(path)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not a row's result ({error}): remove it to train the row again") from None
    if result.command != list(command):
        raise InputError(
            f"{folder} was trained by another command ({' '.join(result.command)}): take another --out, or remove it"
        )
    return result


@dataclass(frozen=True)
class Summary:
    """Scores of a network over its seeds: mean, and sample standard deviation from two seeds on."""

    fusion: str
    r: int
    blocks: int
    parameters: int
    seeds: int
    mean: float
    spread: Optional[float]
    paper: Optional[float]


def summaries(results: Sequence[RowResult]) -> List[Summary]:
    """A summary for each network, in the order of the results."""
    groups: Dict[Tuple[str, int], List[RowResult]] = {}
    for result in results:
        groups.setdefault((result.fusion, result.blocks), []).append(result)
    return [_summary(group) for group in groups.values()]


def _summary(group: Sequence[RowResult]) -> Summary:
    scores, one = [result.score for result in group], group[0]
    spread = statistics.stdev(scores) if len(scores) > 1 else None
    return Summary(
        one.fusion, one.r, one.blocks, one.parameters, len(scores), statistics.mean(scores), spread, one.paper
    )


def summary_text(found: Sequence[Summary], names: Mapping[str, str], score: str) -> str:
    """A line for each network beside the paper's figure, the scores as fractions as the paper has them."""
    rows: List[Sequence[Optional[str]]] = [
        ("fusion", "b", "r", "parameters", score, "spread", "seeds", "paper", "ours - paper")
    ]
    for s in found:
        rows.append(
            (
                names[s.fusion],
                str(s.blocks),
                str(s.r),
                f"{s.parameters:,}",
                f"{s.mean:.4f}",
                None if s.spread is None else f"{s.spread:.4f}",
                str(s.seeds),
                None if s.paper is None else f"{s.paper:.3f}",
                None if s.paper is None else f"{s.mean - s.paper:+.4f}",
            )
        )
    return columns_text(rows, right=range(1, len(rows[0])))


def write_csv(results: Sequence[RowResult], path: str) -> None:
    """Write a line for each trained row into a file that one of those in `gluon_aff.files` gave."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([each.name for each in fields(RowResult)])
        writer.writerows({**asdict(r), "command": " ".join(r.command)}.values() for r in results)


def draw_summaries(found: Sequence[Summary], names: Mapping[str, str], score: str) -> Any:
    """Matplotlib figure of scores over parameters: ours with their spread, the paper's beside them, dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for fusion in dict.fromkeys(s.fusion for s in found):
        of_it = [s for s in found if s.fusion == fusion]
        sizes = [s.parameters / 1000 for s in of_it]
        line = axes.errorbar(
            sizes,
            [s.mean for s in of_it],
            [s.spread or 0 for s in of_it],
            label=names[fusion],
            marker="o",
            lw=1.2,
            ms=4,
        )
        papers = [np.nan if s.paper is None else s.paper for s in of_it]
        axes.plot(sizes, papers, "--x", color=line[0].get_color(), lw=0.8, ms=5)
    axes.set(xlabel="trainable parameters in thousands (crosses: the paper's scores)", ylabel=score)
    axes.grid(alpha=0.25)
    axes.legend(framealpha=0, fontsize="small")
    return figure
