"""Format published figures and comparisons as text for a terminal."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

from gluon_aff.printing import printable
from gluon_aff.published import (
    PaperTable,
    PublishedRun,
    PublishedWeights,
    chain,
    paper_tables,
    published_runs,
    published_weights,
    top1_accuracy,
)
from gluon_aff.results.compare import COLUMN_NAMES, PERCENTAGES, Comparison, describe
from gluon_aff.results.logs import LoggedRun
from gluon_aff.results.recipe import Difference


def columns_text(rows: Sequence[Sequence[Any]], right: Sequence[int] = ()) -> str:
    """Align `rows` in columns that are two spaces apart.

    Args:
        rows: cells of each row; None is shown as a dash, and every other cell is made printable.
        right: numbers, from 0, of the columns to align on the right.
    """
    texts = [["-" if cell is None else printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts)]
    lines = (
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths))
        )
        for row in texts
    )
    return "\n".join(line.rstrip() for line in lines)


def percent(fraction: float) -> str:
    """Format a fraction as a percentage, such as `83.57 %`."""
    return f"{100 * fraction:.2f} %"


def published_overview() -> str:
    """List all published runs, weight files and tables."""
    runs = [("run", "labels", "epochs", "best", "last", "GPUs", "how")]
    runs += [
        (
            run.name,
            run.labels,
            str(run.epochs),
            percent(top1_accuracy(run.best)),
            percent(top1_accuracy(run.final)),
            str(run.gpus),
            run.description,
        )
        for run in published_runs().values()
    ]
    weights = [("model", "labels", "top-1 error", "epoch", "file")]
    weights += [
        (w.model, w.labels, f"{w.error:.2f} %", "-" if w.epoch is None else str(w.epoch), w.file_name)
        for w in published_weights()
    ]
    tables = [("table", "source"), *((table.name, table.source) for table in paper_tables().values())]
    parts = [
        "Training runs in the original's logs; accuracy is top-1 on the validation images",
        columns_text(runs, right=range(2, 6)),
        "Weights in the original repository; this package does not have the networks called *_first_release",
        columns_text(weights, right=range(2, 4)),
        "Tables",
        columns_text(tables),
        "gluon-aff published NAME shows one run, model, weight file or table.",
    ]
    return "\n\n".join(parts)


def run_text(run: PublishedRun) -> str:
    """Describe one run with its results, settings and source."""
    lines = [
        f"{run.name}: {run.model}, {run.labels} labels, {run.status}",
        f"  how       {run.description}",
        f"  best      {percent(top1_accuracy(run.best))} at epoch {run.best['epoch']}",
        f"  last      {percent(top1_accuracy(run.final))} at epoch {run.final['epoch']}",
        f"  hardware  {run.gpus} GPU{'s' * (run.gpus > 1)}, {run.global_batch} images per step",
    ]
    if run.notes:
        lines.append(f"  notes     {run.notes}")
    if run.weights:
        lines.append(f"  weights   {run.weights['path']} (epoch {run.weights['epoch']})")
        lines.append(f"            git blob SHA-1 {run.weights['git_blob_sha1']}")
    first, last = run.source["lines"]
    lines.append(f"  source    open-aff@{run.source['commit'][:7]} {run.source['path']}, lines {first} to {last}")
    lines.append(f"  curve     logs/published/{run.file}")
    settings = ", ".join(f"{name}={value!r}" for name, value in sorted(run.settings.items()))
    lines.append(f"  settings  {settings}")
    return "\n".join(lines)


def chain_text(run: PublishedRun) -> str:
    """List the chain of runs that ends with `run`; each started from the best weights of the one before."""
    links = chain(run)
    if len(links) == 1:
        return "One run from scratch." if "from scratch" in run.description else run.description
    steps = [
        f"  {i}. {link.name}: best {percent(top1_accuracy(link.best))}, {_schedule(link)}"
        for i, link in enumerate(links, 1)
    ]
    return "\n".join(["Chain, each run started from the best weights of the one before, at epoch 0:", *steps])


def weights_text(weights: PublishedWeights) -> str:
    """Describe one published weight file."""
    return "\n".join(
        [
            f"{weights.file_name}: {weights.model}, {weights.labels} labels",
            f"  top-1 error     {weights.error:.2f} % {weights.origin}",
            f"  git blob SHA-1  {weights.git_blob_sha1}",
            f"  place           open-aff@{weights.commit[:7]} {weights.path}",
            f"  download        {weights.url}",
        ]
    )


def table_text(table: PaperTable) -> str:
    """Format one published table with its source."""
    rows = [("", *table.columns), *((name, *figures) for name, figures in table.rows.items())]
    unit = f" ({table.unit})" if table.unit else ""
    return f"{table.name}{unit}\nsource: {table.source}\n\n" + columns_text(rows, right=range(1, len(rows[0])))


def comparison_text(path: str, which: str, comparison: Comparison, published: PublishedRun) -> str:
    """Format a comparison of run `which` in the log at `path` with a published run."""
    planned = f" of {comparison.planned}" if comparison.planned else ""
    lines = [
        f"log        {path}, {which}: {comparison.finished}{planned} epochs",
        f"published  {published.name}: {published.model}, {published.labels} labels, {published.description}",
    ]
    if comparison.differing:
        lines.append(f"settings   differ: {'; '.join(map(describe, comparison.differing))}")
    if comparison.assumed:
        lines.append(f"assumed    {', '.join(comparison.assumed)}: the log does not say")
    return "\n".join(
        [*map(printable, lines), "", _figures(comparison), "", _column_differences(comparison), "", verdict(comparison)]
    )


def no_fit_text(path: str, which: str, nearest: PublishedRun, differing: Sequence[Difference]) -> str:
    """Say that no published run has the log's settings, and list how the nearest one differs."""
    rows = [("setting", "this log", "published"), *((d.setting, d.this, d.published) for d in differing)]
    return "\n".join(
        [
            printable(f"log        {path}, {which}"),
            "published  no run has these settings, so there is nothing to compare with",
            f"nearest    {nearest.name}, which differs in",
            "",
            columns_text(rows),
            "",
            f"To compare with it anyway: --with {nearest.name}",
        ]
    )


def verdict(comparison: Comparison) -> str:
    """Say in one sentence whether the run is within the tolerance."""
    so_far = " so far (the run is unfinished)" if comparison.unfinished else ""
    inside = "within" if comparison.within else "outside"
    return (
        f"{inside} {comparison.tolerance:g} points: best accuracy differs by {comparison.best.difference:+.2f} "
        f"points{so_far}"
    )


def which_run(runs: List[LoggedRun], number: int) -> str:
    """Describe which run of a log is compared, such as `run 2 of 6 (lines 3-642)`."""
    lines = runs[number - 1].lines
    return f"run {number} of {len(runs)}" + (f" (lines {lines[0]}-{lines[1]})" if lines else "")


def _figures(comparison: Comparison) -> str:
    rows: List[Sequence[Optional[str]]] = [("", "this log", "published", "difference")]
    names = {"best": "best accuracy", "last": f"accuracy at epoch {comparison.last.this_epoch}"}
    if not comparison.unfinished and comparison.final.this_epoch != comparison.final.published_epoch:
        names["final"] = "accuracy of the last epoch"
    for name, title in names.items():
        pair = getattr(comparison, name)
        epochs = (f" (epoch {pair.this_epoch})", f" (epoch {pair.published_epoch})") if name == "best" else ("", "")
        this, other = f"{pair.this:.2f} %{epochs[0]}", f"{pair.published:.2f} %{epochs[1]}"
        rows.append((title, this, other, f"{pair.difference:+.2f} points"))
    if comparison.epochs_per_hour:
        this_pace, other_pace = comparison.epochs_per_hour
        rows.append(("epochs per hour", f"{this_pace:.1f}", f"{other_pace:.1f}", f"x {this_pace / other_pace:.2f}"))
    return columns_text(rows, right=range(1, 4))


def _column_differences(comparison: Comparison) -> str:
    rows = [("at equal epochs", "epochs", "mean |difference|", "largest", "at epoch")]
    for column in comparison.columns:
        digits = 2 if column.column in PERCENTAGES else 6
        rows.append(
            (
                COLUMN_NAMES[column.column],
                str(column.epochs),
                f"{column.mean:.{digits}f}",
                f"{column.largest:+.{digits}f}",
                str(column.epoch),
            )
        )
    return columns_text(rows, right=range(1, 5))


def _schedule(run: PublishedRun) -> str:
    settings = run.settings
    rate = "cosine" if settings.get("cosine") or settings.get("lr_mode") == "cosine" else "stepped"
    return f"lr {settings['lr']:g} {rate}, {run.epochs} epochs, {run.global_batch} images per step"
