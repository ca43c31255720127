"""Collect the results of an ablation's rows, and compare them with the paper's scores."""

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
    """Holds the result of a trained row.

    Attributes:
        fusion, r, blocks, seed, paper: values of the `Row`.
        parameters: number of trainable parameters.
        score: best score of the run, 0..1.
        best_epoch: first epoch with this score.
        epochs: number of finished epochs.
        data: 'official' if the run used the images of the paper, else 'other'.
        log: name of the run's log file.
        command: arguments of `gluon-aff` that trained the row.
        libraries: engine and NumPy with their versions; empty if an older version of this package trained the row.
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
    """Return the result of a finished run from its log.

    Args:
        row: the row that the run trained.
        parameters: number of trainable parameters.
        log: path of the run's log.
        score: column of the log whose best value counts.
        command: arguments of `gluon-aff` that trained the row.

    Raises:
        GluonAFFError: the log has no epoch with the score.
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
    """Write the result into `folder`, which marks the row as finished."""
    with replacing(os.path.join(folder, RESULT)) as partial, open(partial, "w", encoding="utf-8") as file:
        json.dump(asdict(result), file, indent=1)


def _result_in(content: Dict[str, Any]) -> RowResult:
    """Return the result in the `content` of a file.

    Raises:
        TypeError: a value is missing or has another type.
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
        raise TypeError(f"{wrong[0] if wrong else 'command'} has the wrong type")
    if not all(0 <= score <= 1 for score in (result.score, result.paper) if score is not None):
        raise ValueError("a score is not between 0 and 1")
    return result


def finished_result(folder: str, command: Sequence[str]) -> Optional[RowResult]:
    """Return the result of a row that was trained before; None if there is no result in `folder`.

    Raises:
        InputError: the result cannot be read, or the row was trained by another command.
    """
    path = os.path.join(folder, RESULT)
    try:
        result = _result_in(json.loads(read_text(path)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not the result of a row ({error}): remove it to train the row again") from None
    if result.command != list(command):
        raise InputError(
            f"{folder} was trained by another command ({' '.join(result.command)}): choose another --out, or remove it"
        )
    return result


@dataclass(frozen=True)
class Summary:
    """Summarizes the scores of a network over its seeds.

    Attributes:
        fusion, r, blocks, parameters, paper: values of the network's rows.
        seeds: number of seeds.
        mean: mean score, 0..1.
        spread: sample standard deviation of the score; None for a single seed.
    """

    fusion: str
    r: int
    blocks: int
    parameters: int
    seeds: int
    mean: float
    spread: Optional[float]
    paper: Optional[float]


def summaries(results: Sequence[RowResult]) -> List[Summary]:
    """Summarize the results of each network, in the order of the results."""
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
    """Return a table with a line for each network and the paper's score; scores are fractions, as in the paper.

    Args:
        found: the summaries.
        names: printed name of each fusion.
        score: title of the score's column.
    """
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
    """Write the results as CSV, a line for each row, to `path`, a temporary file of `gluon_aff.files`."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([each.name for each in fields(RowResult)])
        writer.writerows({**asdict(r), "command": " ".join(r.command)}.values() for r in results)


def draw_summaries(found: Sequence[Summary], names: Mapping[str, str], score: str) -> Any:
    """Return a Matplotlib figure of scores over parameters: ours with their spread, the paper's as dashed lines.

    Args:
        found: the summaries.
        names: printed name of each fusion.
        score: label of the score's axis.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
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
