"""One self-contained HTML page about the runs in a directory: no script, nothing fetched."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from gluon_aff._version import __version__
from gluon_aff.errors import InputError
from gluon_aff.files import replacing
from gluon_aff.printing import printable
from gluon_aff.published import PaperTable, PublishedRun, curve, paper_tables, weights_with_hash
from gluon_aff.results.compare import (
    COLUMN_NAMES,
    PERCENTAGES,
    Comparison,
    Pair,
    chosen_run,
    comparable,
    compare,
    describe,
    nearest_runs,
)
from gluon_aff.results.logs import LoggedRun, UnreadLinesError, read_log
from gluon_aff.results.plots import inline_svg
from gluon_aff.results.recipe import logged_recipe
from gluon_aff.results.text import verdict, which_run
from gluon_aff.weights.params_format import git_blob_sha1

LOG_PATTERNS = ("*.log", "*.log.gz")
# Tables that a run's row belongs to, by data set and labels; the row's unit is that of their first column
TABLES = {
    ("cifar100", "superclass"): ("readme_cifar100_superclass_withdrawn", "readme_first_release_cifar100"),
    ("imagenet", "imagenet"): ("readme_imagenet", "aff_table5_imagenet"),
}
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --ground: #ffffff; --faint: #57606a; --line: #d0d7de; --own: #fff4d6;
  --good: #1a7f37; --bad: #b35900; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --ground: #0d1117; --faint: #9aa4af; --line: #30363d;
  --own: #3a2f10; --good: #56d364; --bad: #f0a94b; } }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; color: var(--ink); background: var(--ground);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.25; } h2 { border-top: 1px solid var(--line); padding-top: 1rem; margin-top: 2rem; }
.wide { overflow-x: auto; } svg { width: 100%; max-width: 45rem; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; } tr.own { background: var(--own); font-weight: 600; }
.faint, footer { color: var(--faint); } .wide { margin-bottom: 1rem; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
@media (max-width: 30rem) { table { font-size: .8rem; } th, td { padding: .25rem .3rem; } }
code { font-size: .9em; } details { margin: .5rem 0; } summary { cursor: pointer; }
"""


@dataclass(frozen=True)
class ReportedRun:
    """A run of a log and what it is set beside."""

    path: str
    which: str
    run: LoggedRun
    published: Optional[PublishedRun]
    comparison: Optional[Comparison]
    reason: str


def write_report(directory: str, path: str) -> List[str]:
    """Write the report on the logs and weights under `directory` to the HTML file `path`.

    Returns:
        The logs it is about.

    Raises:
        InputError: if there is no training log with a finished epoch.
        GluonAFFError: if `path` cannot be written.
    """
    root = Path(directory)
    if not root.is_dir():
        raise InputError(f"{directory} is no directory: name the one a run wrote its log and weights to")
    runs: List[ReportedRun] = []
    left_out: List[str] = []
    for log in _files(root, LOG_PATTERNS):
        try:
            runs += _reported(log, printable(log.relative_to(root)))
        except UnreadLinesError as error:
            left_out.append(f"{printable(log.relative_to(root))}: {error}")
    if not runs:
        reason = f"; {left_out[0]}" if left_out else ""
        raise InputError(f"{directory} holds no training log with a finished epoch (*.log, *.log.gz){reason}")
    page = _page(root.resolve().name, runs, left_out, _weights_rows(root))
    with replacing(path) as partial:
        Path(partial).write_text(page, encoding="utf-8")
    return [run.path for run in runs]


def _escaped(text: Any) -> str:
    """`text` for HTML, made printable: a page cannot hold what is no text."""
    return escape(printable(text))


def _files(root: Path, patterns: Iterable[str]) -> List[Path]:
    return sorted(path for pattern in patterns for path in root.rglob(pattern) if path.is_file())


def _reported(log: Path, name: str) -> List[ReportedRun]:
    """The last run of `log` with a finished epoch, if it is a training log.

    Raises:
        UnreadLinesError: it looks like one, and no epoch of it can be read.
    """
    try:
        runs = read_log(str(log))
        number = chosen_run(runs)
    except UnreadLinesError:
        raise
    except InputError:
        return []
    run, which = runs[number - 1], which_run(runs, number)
    try:
        published, differing = nearest_runs(run)[0]
        comparison = compare(run, published)
    except InputError as error:
        return [ReportedRun(name, which, run, None, None, str(error))]
    reason = "; ".join(map(describe, differing))
    return [ReportedRun(name, which, run, published, comparison, reason)]


def _page(title: str, runs: List[ReportedRun], left_out: List[str], weights: List[Sequence[Any]]) -> str:
    body = [f"<h1>Training report: {_escaped(title)}</h1>", *(_run_section(run) for run in runs)]
    body += [f'<p class="bad">Left out: {_escaped(reason)}.</p>' for reason in left_out]
    if weights:
        caption = "git blob SHA-1: over <code>blob</code>, the size and the file, as git hashes it"
        header = ("file", "bytes", "git blob SHA-1", "published")
        body.append("<h2>Weights</h2>" + _table(header, weights, caption, numbers=(1,)))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{_escaped(title)}: training report</title>\n<style>{STYLE}</style>\n'
        "</head>\n<body>\n" + "\n".join(body) + f"\n<footer><p>Written by gluon_aff {__version__}.</p></footer>\n"
        "</body>\n</html>\n"
    )


def _run_section(reported: ReportedRun) -> str:
    run = reported.run
    parts = [
        f"<h2>{_escaped(reported.path)}</h2>",
        f'<p class="faint">{_escaped(reported.which)}</p>',
        _summary(reported),
    ]
    columns = {"this log": comparable(run.epochs)}
    if reported.published and reported.comparison and not reported.reason:
        columns[reported.published.name] = comparable(curve(reported.published))
        parts.append(_comparison(reported.comparison))
    parts.append(inline_svg(columns, reported.path))
    parts.extend(_paper_tables(reported))
    parts.append(_settings(run))
    return "\n".join(parts)


def _summary(reported: ReportedRun) -> str:
    columns = comparable(reported.run.epochs)
    column, words = ("val_iou", "IoU") if reported.run.segments else ("top1_accuracy", "top-1 accuracy")
    known = np.isfinite(columns[column])
    accuracy, epochs = columns[column][known], columns["epoch"][known]
    said = f"<p>{reported.run.finished} epochs, none with an accuracy.</p>"
    if len(accuracy):
        best = int(accuracy.argmax())
        said = (
            f"<p>{reported.run.finished} epochs; best {words} <strong>{accuracy[best]:.2f} %</strong> at epoch "
            f"{epochs[best]}, last {accuracy[-1]:.2f} %.</p>"
        )
    if not (reported.comparison and reported.published):
        return said + f'<p class="bad">Not compared: {_escaped(reported.reason)}.</p>'
    name = f"<code>{_escaped(reported.published.name)}</code>"
    if reported.reason:
        nothing = f'<p class="bad">No published run has these settings.</p><p>The nearest, {name}, differs in '
        return said + nothing + _escaped(reported.reason) + ".</p>"
    kind = "good" if reported.comparison.within else "bad"
    return said + f'<p>Beside {name}: <span class="{kind}">{_escaped(verdict(reported.comparison))}</span>.</p>'


def _comparison(comparison: Comparison) -> str:
    def figures(name: str, pair: Pair) -> Tuple[str, ...]:
        this, other = f"{pair.this:.2f}\u00a0%", f"{pair.published:.2f}\u00a0%"
        epochs = f"(epoch\u00a0{pair.this_epoch})", f"(epoch\u00a0{pair.published_epoch})"
        return name, f"{this} {epochs[0]}", f"{other} {epochs[1]}", f"{pair.difference:+.2f}"

    rows: List[Sequence[Any]] = [
        figures("best accuracy", comparison.best),
        figures("last common epoch", comparison.last),
    ]
    if comparison.epochs_per_hour:
        this, other = comparison.epochs_per_hour
        rows.append(("epochs per hour", f"{this:.1f}", f"{other:.1f}", f"x\u00a0{this / other:.2f}"))
    equal = [
        (
            COLUMN_NAMES[column.column],
            f"{column.mean:.{_digits(column.column)}f}",
            f"{column.largest:+.{_digits(column.column)}f}",
            column.epoch,
        )
        for column in comparison.columns
    ]
    return _table(("", "this log", "published", "difference"), rows, "", (1, 2, 3)) + _table(
        ("at equal epochs", "mean |difference|", "largest", "at epoch"), equal, "", (1, 2, 3)
    )


def _digits(column: str) -> int:
    return 2 if column in PERCENTAGES else 6


def _paper_tables(reported: ReportedRun) -> List[str]:
    """The tables of the paper and of the README that the run's data set has, with its row."""
    if reported.run.segments:  # whose figure depends on a data set that the paper does not describe
        return []
    try:
        recipe = logged_recipe(reported.run)
    except InputError:
        return []
    if recipe.get("data") == "other":  # figures on other images have no place in those tables
        return []
    labels = recipe.get("labels") or (reported.published.labels if reported.published else None)
    names = TABLES.get((str(recipe.get("data set")), str(labels)), ())
    accuracy = float(np.nan_to_num(comparable(reported.run.epochs)["top1_accuracy"]).max())
    tables = paper_tables()
    return [
        "<h3>Beside the tables</h3>" * (not i) + _paper_table(tables[name], accuracy) for i, name in enumerate(names)
    ]


def _paper_table(table: PaperTable, accuracy: float) -> str:
    is_error = "error" in table.columns[0]
    own = ("this run", f"{100 - accuracy if is_error else accuracy:.2f}", *[None] * (len(table.columns) - 1))
    rows: List[Sequence[Any]] = [(name, *figures) for name, figures in table.rows.items()]
    rows = sorted([*rows, own], key=lambda row: float(row[1]), reverse=not is_error)
    header = ("", *(column.replace("_", " ") for column in table.columns))
    return _table(header, rows, _escaped(table.source), range(1, len(header)), rows.index(own))


def _settings(run: LoggedRun) -> str:
    environment = sorted(run.header.items())
    settings = [(name, repr(value)) for name, value in sorted((run.settings or {}).items())]
    return (
        "<h3>Environment</h3>"
        + (_table(("", ""), environment) if environment else "<p>The log does not say.</p>")
        + f"<h3>Settings</h3><details><summary>{len(settings)} settings</summary>{_table(('', ''), settings)}</details>"
    )


def _weights_rows(root: Path) -> List[Sequence[Any]]:
    rows: List[Sequence[Any]] = []
    for path in _files(root, ["*.params"]):
        digest = git_blob_sha1(str(path))
        record = weights_with_hash(digest)
        published = f"{record.model}, {record.labels}" if record else "no"
        rows.append((printable(path.relative_to(root)), f"{path.stat().st_size:,}", digest, published))
    return rows


def _table(
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    caption: str = "",
    numbers: Sequence[int] = (),
    own: Optional[int] = None,
) -> str:
    """An HTML table; cells are escaped, `caption` is HTML, columns in `numbers` flush right, row `own` marked."""

    def cells(row: Sequence[Any], tag: str) -> str:
        kinds = (' class="number"' if i in numbers else "" for i in range(len(row)))
        texts = ("" if cell is None else _escaped(cell) for cell in row)
        return "".join(f"<{tag}{kind}>{text}</{tag}>" for kind, text in zip(kinds, texts))

    head = f"<thead><tr>{cells(header, 'th')}</tr></thead>" if any(header) else ""
    marked = (f"<tr{' class=own' if i == own else ''}>{cells(row, 'td')}</tr>" for i, row in enumerate(rows))
    caption = f'<p class="faint">{caption}</p>' if caption else ""
    return f'{caption}<div class="wide"><table>{head}<tbody>{"".join(marked)}</tbody></table></div>'
