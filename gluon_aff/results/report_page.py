"""Write the report as one HTML page.

The page contains its styles, its script and its curves, and loads nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from gluon_aff._version import __version__
from gluon_aff.printing import printable
from gluon_aff.published import PaperTable, PublishedRun, curve
from gluon_aff.results.compare import COLUMN_NAMES, PERCENTAGES, Comparison, Pair, comparable
from gluon_aff.results.logs import LoggedRun
from gluon_aff.results.report_contents import EvaluationsTable, ReportedRun, WeightsFile
from gluon_aff.results.report_curves import curves_html, key_html, with_errors
from gluon_aff.results.text import verdict

# Dates of the original's releases, since the published logs contain no dates
RELEASES = {"first": "September 2020", "head": "October 2020 or later"}
MOST_UNFOLDED = 3  # a table of evaluations with more rows is folded
MARKS = {"reproduced": "\u2713", "worse": "\u2717", "better": "\u25b2", "open": "\u2022"}
HASH_NOTE = "The hash is git's: SHA-1 over the word blob, the size, a zero byte and the file."


def report_page(
    title: str,
    runs: List[ReportedRun],
    left_out: List[str],
    weights: List[WeightsFile],
    evaluations: List[EvaluationsTable],
) -> str:
    """Return the whole page.

    Args:
        title: name of the folder of the report.
        runs: runs in the folder, at least one.
        left_out: logs and tables that cannot be read, each with the reason.
        weights: weights files in the folder.
        evaluations: tables of evaluations in the folder.
    """
    style, script = _packaged("report.css"), _packaged("report.js")
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    body = [f"<h1>Training report: {_escaped(title)}</h1>"]
    body += [f'<p class="bad">Left out: {_escaped(reason)}.</p>' for reason in left_out]
    if len(runs) > 1:
        body.append(_overview(runs))
    body += [_run_section(number, run) for number, run in enumerate(runs, 1)]
    if weights:
        body.append(_weights_section(weights))
    body.append(_evaluations_section(evaluations))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}; base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{_escaped(title)}: training report</title>\n<style>{style}</style>\n'
        "</head>\n<body>\n<main>\n" + "\n".join(body) + f"\n</main>\n"
        f"<footer><p>Written by gluon_aff {__version__}.</p></footer>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _packaged(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the hash of a style or script as it is written in the Content-Security-Policy of the page.

    A browser ignores all other styles and scripts.
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _escaped(text: Any) -> str:
    """Return `text` escaped for HTML and made printable, since the page must be valid UTF-8."""
    return escape(printable(text))


def _overview(runs: List[ReportedRun]) -> str:
    rows = []
    for number, reported in enumerate(runs, 1):
        state, headline = _outcome(reported)
        log = f'<a href="#run-{number}">{_escaped(reported.path)}</a>'
        rows.append(f'<tr><th scope="row">{log}</th><td>{MARKS[state]} {_escaped(headline)}</td></tr>')
    head = '<thead><tr><th scope="col">log</th><th scope="col">outcome</th></tr></thead>'
    return f'<div class="wide"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _run_section(number: int, reported: ReportedRun) -> str:
    parts = [
        f'<section class="run" id="run-{number}">',
        f"<h2>{_escaped(reported.path)}</h2>",
        f'<p class="faint">{_escaped(f"{reported.which}, {reported.engine}, last written {reported.written}")}'
        f"{_earlier_runs(reported)}</p>",
        _verdict(reported),
        _figures(reported),
        _differing_settings(reported),
        _curves(reported),
        _paper_tables(reported),
        _folded(reported),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _earlier_runs(reported: ReportedRun) -> str:
    """Return a note that the earlier runs of the log are not shown; empty if there are none.

    Unless the run is a segmentation run, the note names the command that reads them.
    """
    if not reported.earlier:
        return ""
    several = reported.earlier > 1
    runs = f"{reported.earlier:,} earlier run{'s' * several} in this log {'are' if several else 'is'} not shown"
    if reported.run.segments:
        return f". {runs}."
    return f". {runs}; <code>gluon-aff compare LOG --run N</code> reads {'them' if several else 'it'}."


def _outcome(reported: ReportedRun) -> Tuple[str, str]:
    """Return whether the run reproduces the published one, as a key of `MARKS` and in words."""
    comparison = reported.comparison
    if comparison is None:
        return "open", "Not compared"
    if comparison.differing:
        return "open", "No published run has these settings"
    best = comparison.best
    beside = f"{_apart(best.difference)} than" if _differs(best.difference) else "equal to"
    figures = f"best top-1 error {_percent(100 - best.this)}, {beside} the published {_percent(100 - best.published)}"
    if comparison.unfinished:
        return "open", f"Not finished, {comparison.finished} of {comparison.planned} epochs: {figures} by then"
    if comparison.within:
        return "reproduced", f"Reproduced: {figures}"
    if best.difference > 0:
        return "better", f"Not reproduced, but better: {figures}"
    return "worse", f"Not reproduced: {figures}"


def _verdict(reported: ReportedRun) -> str:
    state, headline = _outcome(reported)
    mark = f'<span class="mark" aria-hidden="true">{MARKS[state]}</span>'
    said = f"{_best_and_last(reported)}<p>{_beside(reported)}</p>"
    return f'<div class="verdict {state}"><p class="headline">{mark} {_escaped(headline)}</p>{said}</div>'


def _beside(reported: ReportedRun) -> str:
    comparison, published = reported.comparison, reported.published
    if comparison is None or published is None:
        return f"{_escaped(reported.reason[:1].upper() + reported.reason[1:])}."
    name = f"<code>{_escaped(published.name)}</code>"
    if comparison.differing:
        count = len(comparison.differing)
        return f"The nearest, {name}, differs in {count} setting{'s' * (count > 1)}."
    kind = "good" if comparison.within else "bad"
    return f'Beside {name}: <span class="{kind}">{_escaped(verdict(comparison))}</span>.'


def _best_and_last(reported: ReportedRun) -> str:
    columns, segments = comparable(reported.run.epochs), reported.run.segments
    score = columns["val_iou" if segments else "top1_accuracy"]
    known = np.isfinite(score)
    score, epochs = score[known], columns["epoch"][known]
    finished = f"{reported.run.finished} epoch{'s' * (reported.run.finished > 1)}"
    if not len(score):
        return f"<p>{finished}, none with an accuracy.</p>"
    best = int(score.argmax())
    words, figure, more = ("IoU", score, "") if segments else ("top-1 error", 100 - score, " (accuracy {})")
    said = [more.format(_percent(score[at])) for at in (best, -1)]
    return (
        f"<p>{finished}; best {words} <strong>{_percent(figure[best])}</strong>{said[0]} at epoch {epochs[best]}, last "
        f"{_percent(figure[-1])}{said[1]}.</p>"
    )


def _percent(figure: float) -> str:
    return f"{figure:.2f}\u00a0%"


def _figures(reported: ReportedRun) -> str:
    """Return a table of the figures of both runs; empty unless both train the same network on the same data."""
    comparison = reported.comparison
    if comparison is None or not reported.same_task:
        return ""

    def row(name: str, pair: Pair) -> Tuple[str, ...]:
        this, other = (
            f"{_percent(100 - accuracy)} (epoch\u00a0{epoch})"
            for accuracy, epoch in ((pair.this, pair.this_epoch), (pair.published, pair.published_epoch))
        )
        return name, this, other, _apart(pair.difference)

    rows = [
        row("best top-1 error", comparison.best),
        row("last top-1 error" if comparison.last == comparison.final else "at the last common epoch", comparison.last),
    ]
    if comparison.epochs_per_hour:
        pace, published_pace = comparison.epochs_per_hour
        ratio = f"\u00d7\u00a0{pace / published_pace:.2f}"
        rows.append(("epochs per hour", f"{pace:.1f}", f"{published_pace:.1f}", ratio))
    other = "nearest published run" if comparison.differing else "published run"
    return _table(("", "this run", other, "difference"), rows, numbers=range(1, 4))


def _differs(difference: float) -> bool:
    """Return whether two figures that differ by `difference` are different in the two decimals that are shown."""
    return abs(difference) >= 0.005


def _apart(difference: float) -> str:
    """Return the difference of two accuracies in words."""
    if not _differs(difference):
        return "none"
    return f"{abs(difference):.2f} points {'better' if difference > 0 else 'worse'}"


def _differing_settings(reported: ReportedRun) -> str:
    comparison = reported.comparison
    if comparison is None:
        return ""
    rows = [(each.setting, each.this, each.published) for each in comparison.differing]
    assumed = ", ".join(comparison.assumed)
    note = f"Taken to be as published, since the log does not say: {assumed}." if assumed else ""
    if not rows:
        return f'<p class="faint">Its settings are those of the published run. {_escaped(note)}</p>'
    return "<h3>Settings that differ</h3>" + _table(("setting", "this run", "nearest published run"), rows, note)


def _curves(reported: ReportedRun) -> str:
    runs = {"this run": with_errors(reported.run.epochs)}
    legend = [f"{key_html('this')}this run: {_escaped(reported.engine)}, {reported.written}"]
    if reported.published and reported.same_task:
        runs["published run"] = with_errors(curve(reported.published))
        legend.append(f"{key_html('published')}{_escaped(_published_legend(reported.published))}")
    items = "".join(f"<li>{item}</li>" for item in legend)
    return f'<h3>Curves</h3><ul class="legend">{items}</ul>{curves_html(runs)}'


def _published_legend(published: PublishedRun) -> str:
    return f"published run {published.name}: MXNet, {RELEASES[published.release]}"


def _paper_tables(reported: ReportedRun) -> str:
    if not reported.tables:
        return ""
    tables = "".join(_paper_table(table, reported) for table in reported.tables)
    return f'<h3>Beside the tables</h3><div class="tables">{tables}</div>'


def _paper_table(table: PaperTable, reported: ReportedRun) -> str:
    accuracy = float(np.nan_to_num(comparable(reported.run.epochs)["top1_accuracy"]).max())
    is_error = "error" in table.columns[0]
    own = ("this run", f"{100 - accuracy if is_error else accuracy:.2f}", *(None for _ in table.columns[1:]))
    rows: List[Sequence[Any]] = [(name, *figures) for name, figures in table.rows.items()]
    rows = sorted([*rows, own], key=lambda row: float(row[1]), reverse=not is_error)
    header = ("network", *(column.replace("_", " ") for column in table.columns))
    return _table(header, rows, table.source, range(1, len(header)), rows.index(own))


def _folded(reported: ReportedRun) -> str:
    parts = []
    if reported.comparison and reported.same_task:
        parts.append(("Differences at equal epochs", _equal_epochs(reported.comparison)))
    parts.append(("Environment", _environment(reported.run)))
    settings = [(name, repr(value)) for name, value in sorted((reported.run.settings or {}).items())]
    parts.append((f"All {len(settings)} settings", _table(("setting", "value"), settings)))
    return "".join(f"<details><summary>{summary}</summary>{content}</details>" for summary, content in parts)


def _environment(run: LoggedRun) -> str:
    """Return a table of the versions and devices in the log, with a further column for each continuation of the run."""
    columns = [("value", run.header)] if run.header or not run.continuations else []
    columns += [(f"from epoch {epoch} on", parts) for epoch, parts in run.continuations]
    names = sorted({name for _, parts in columns for name in parts})
    if not names:
        return "<p>The log does not say.</p>"
    rows = [(name, *(parts.get(name) for _, parts in columns)) for name in names]
    return _table(("name", *(title for title, _ in columns)), rows)


def _equal_epochs(comparison: Comparison) -> str:
    rows = []
    for column in comparison.columns:
        digits = 2 if column.column in PERCENTAGES else 6
        figures = f"{column.mean:.{digits}f}", f"{column.largest:+.{digits}f}"
        rows.append((COLUMN_NAMES[column.column], *figures, column.epoch))
    return _table(("quantity", "mean |difference|", "largest", "at epoch"), rows, numbers=range(1, 4))


def _weights_section(weights: List[WeightsFile]) -> str:
    real = [file for file in weights if file.is_params_file]
    best = [file for file in real if file.best]
    others = [file for file in real if not file.best]
    wrong = [file for file in weights if not file.is_params_file]
    parts = ["<section><h2>Weights</h2>"]
    parts.append(
        _weights_table(best, "Best weights") if best else "<p>No file has the name of a run's best weights.</p>"
    )
    if others:
        count = f"{len(others):,} other weights file{'s' * (len(others) > 1)}"
        parts.append(f"<details><summary>{count}</summary>{_weights_table(others, 'Other weights')}</details>")
    if wrong:
        summary = f"{len(wrong):,} without weights: called .params, but not in that format"
        parts.append(f"<details><summary>{summary}</summary>{_weights_table(wrong, 'No weights')}</details>")
    return "".join([*parts, "</section>"])


def _weights_table(files: List[WeightsFile], title: str) -> str:
    header = ("file", "bytes", "git blob SHA-1", "published")
    rows = [
        (
            file.path,
            f"{file.size:,}",
            file.git_blob_sha1,
            f"{file.published.model}, {file.published.labels}" if file.published else "no",
        )
        for file in files
    ]
    return _table(header, rows, f"{title}. {HASH_NOTE}", numbers=(1,))


def _evaluations_section(tables: List[EvaluationsTable]) -> str:
    parts = []
    for table in tables:
        count = len(table.rows)
        rows = _evaluations_table(table)
        if count > MOST_UNFOLDED:
            rows = f"<details><summary>{count:,} evaluations in {_escaped(table.path)}</summary>{rows}</details>"
        parts += [rows] if count else []
    return f"<section><h2>Evaluations</h2>{''.join(parts)}</section>" if parts else ""


def _evaluations_table(table: EvaluationsTable) -> str:
    header = ("date", "network", "data", "top-1 accuracy", "top-5 accuracy", "loss", "engine")
    rows = [
        (
            row["date"],
            row["network"],
            _evaluated_data(row),
            _number(row["top1"], lambda share: _percent(100 * share)),
            _number(row["top5"], lambda share: _percent(100 * share)),
            _number(row["loss"], "{:.4f}".format),
            _evaluating_engine(row["versions"]),
        )
        for row in table.rows
    ]
    return _table(header, rows, table.path, numbers=range(3, 6))


def _evaluated_data(row: Dict[str, str]) -> str:
    labels = f", {row['labels']} labels" if row["labels"] not in ("", row["dataset"]) else ""
    return f"{row['dataset']}{labels}{', other images' if row['official_data'].lower() == 'false' else ''}"


def _number(cell: str, shown: Callable[[float], str]) -> str:
    """Return the number in a cell as `shown` formats it, or the cell itself if it contains no number."""
    try:
        return shown(float(cell))
    except ValueError:
        return cell


def _evaluating_engine(versions: str) -> str:
    """Return the engine among the versions, such as `MXNet 1.9.1` for `gluon_aff 0.1.0, MXNet 1.9.1, NumPy 1.23.5`."""
    parts = versions.split(", ")
    return parts[1] if len(parts) > 1 else versions


def _table(
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    caption: str = "",
    numbers: Sequence[int] = (),
    own: Optional[int] = None,
) -> str:
    """Return an HTML table in which the first cell of each row is its heading.

    Args:
        header: titles of the columns.
        rows: rows of cells; the cell of a None is empty.
        caption: caption of the table, if any.
        numbers: indices of the columns that contain numbers, which are aligned to the right.
        own: index of the row to mark, if any.
    """
    kinds = [' class="number"' if i in numbers else "" for i in range(len(header))]
    caption = f"<caption>{_escaped(caption)}</caption>" if caption else ""
    head = "".join(
        f'<th scope="col"{kind}>{_escaped(cell)}</th>' if cell else "<td></td>" for kind, cell in zip(kinds, header)
    )
    lines = []
    for index, row in enumerate(rows):
        first, *others = ("" if cell is None else _escaped(cell) for cell in row)
        cells = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds[1:], others))
        lines.append(f'<tr{" class=own" if index == own else ""}><th scope="row">{first}</th>{cells}</tr>')
    table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="wide">{table}</div>'
