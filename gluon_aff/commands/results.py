"""The commands `published`, `compare` and `report`, which show results; none of them needs an engine."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from gluon_aff.commands import NO_ENGINE, Command, check_output, json_text, positive
from gluon_aff.errors import GluonAFFError, InputError, unknown_name
from gluon_aff.printing import show, show_text

if TYPE_CHECKING:
    from gluon_aff.published import PublishedRun
    from gluon_aff.results.logs import LoggedRun

OUTSIDE = 1
UNUSABLE = 2


def _add_published_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument("name", nargs="?", help="name of a run, model, weight file or table (default: list all)")
    parser.add_argument("--json", action="store_true", help="print JSON, with all details")


def _published(options: argparse.Namespace) -> int:
    from gluon_aff.results.text import published_overview

    if options.name:
        records, text = _published_one(options.name)
    else:
        from gluon_aff.published import paper_tables, published_runs, published_weights

        records = [*published_runs().values(), *published_weights(), *paper_tables().values()]
        text = published_overview()
    show_text(json_text([asdict(record) for record in records]) if options.json else text)
    return 0


def _published_one(name: str) -> Tuple[List[Any], str]:
    """Return the records called `name`, and their text."""
    from gluon_aff.published import chain, paper_tables, published_runs, published_weights
    from gluon_aff.results.text import chain_text, run_text, table_text, weights_text

    runs, tables = published_runs(), paper_tables()
    if name in tables:
        return [tables[name]], table_text(tables[name])
    weights = [w for w in published_weights() if name in (w.model, w.file_name, w.path)]
    if name in runs:
        records = chain(runs[name])
        texts = [*map(run_text, records), chain_text(runs[name])]
        texts += [weights_text(w) for w in published_weights() if w.run == name]
        return records, "\n\n".join(texts)
    of_model = [run for run in runs.values() if run.model == name]
    if not (weights or of_model):
        models = {run.model for run in runs.values()}
        known = [*runs, *sorted(models - set(runs)), *tables]
        raise unknown_name("published run, model or table", name, known, "gluon-aff published")
    return [*weights, *of_model], "\n\n".join([*map(weights_text, weights), *map(run_text, of_model)])


def _add_compare_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument(
        "log", metavar="LOG", help="training log of the original or of this package, unfinished or compressed (.gz) too"
    )
    parser.add_argument(
        "--with", dest="published", metavar="RUN", help="published run to compare with, as `gluon-aff published` lists "
        "it (default: the one with the log's settings)"
    )  # fmt: skip
    parser.add_argument(
        "--run", type=positive, metavar="N", help="number of the run in the log, from 1 (default: the last run with a "
        "finished epoch)"
    )  # fmt: skip
    parser.add_argument(
        "--tolerance", type=float, default=0.5, metavar="POINTS", help="accepted difference of the best top-1 accuracy "
        "in percentage points (default: 0.5)"
    )  # fmt: skip
    parser.add_argument("--plot", metavar="PNG", help="draw the curves of both runs into this file (default: none)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _compare(options: argparse.Namespace) -> int:
    from gluon_aff.results.compare import chosen_run, compare, fitting_run, nearest_runs, published_run
    from gluon_aff.results.logs import read_log
    from gluon_aff.results.text import comparison_text, no_fit_text, which_run

    if not 0 <= options.tolerance <= 100:
        raise InputError(f"--tolerance {options.tolerance}: give a number of percentage points from 0 to 100")
    if options.plot is not None:
        check_output(options.plot, "--plot", ".png")
    runs = read_log(options.log)
    comparison = None
    try:
        number = chosen_run(runs, options.run)
        run = runs[number - 1]
        published = published_run(options.published) if options.published else fitting_run(run)
        if published:
            comparison = compare(run, published, options.tolerance)
    except InputError as error:
        raise InputError(f"{options.log}: {error}") from None
    which = which_run(runs, number)
    facts: Dict[str, Any] = {"log": options.log, "run": number, "runs": len(runs)}
    if published is None or comparison is None:
        nearest, differing = nearest_runs(run)[0]
        facts.update(published=None, nearest=nearest.name, differing=[asdict(d) for d in differing])
        show_text(json_text(facts) if options.json else no_fit_text(options.log, which, nearest, differing))
        return UNUSABLE
    facts.update(comparison.as_dict())
    text = comparison_text(options.log, which, comparison, published)
    show_text(json_text(facts) if options.json else text, flush=True)
    if options.plot:
        _plot(run, published, options.plot)
    return 0 if comparison.within else OUTSIDE


def _plot(run: LoggedRun, published: PublishedRun, path: str) -> None:
    from gluon_aff.published import curve
    from gluon_aff.results.compare import comparable
    from gluon_aff.results.plots import draw_runs, save_png

    columns = {"this log": comparable(run.epochs), published.name: comparable(curve(published))}
    try:
        save_png(draw_runs(columns), path)
    except GluonAFFError as error:  # not exit code 1, which means that the run is outside the tolerance
        raise InputError(str(error)) from None
    show(f"curves of both are in {path}", file=sys.stderr)


def _add_report_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument(
        "directory", metavar="RUN_DIR", help="folder with logs and weights; its subfolders are searched too"
    )
    parser.add_argument(
        "-o", "--output", metavar="HTML", default="report.html", help="page to write (default: %(default)s)"
    )


def _report(options: argparse.Namespace) -> int:
    from gluon_aff.results.report import write_report

    check_output(options.output, "--output", ".html", ".htm")
    logs = write_report(options.directory, options.output)
    show(f"{options.output} reports on {', '.join(logs)}")
    return 0


COMMANDS: Dict[str, Command] = {
    "published": Command(
        "list published runs, weights and tables, or show one",
        _add_published_options,
        _published,
        ("", "aff_resnext47_32x4d_superclass_run3", "aff_table5_imagenet"),
        about="The records are the training logs and weight files of the original repository, and the tables of the "
        f"papers, each with its source.\n\n{NO_ENGINE}",
    ),
    "compare": Command(
        "compare a training log with the published run that it repeats",
        _add_compare_options,
        _compare,
        (
            "logs/train_cifar100-ASKCFuse-resnet-32-c-4-s-1.log",
            "my.log --with aff_resnet32_fine --plot both.png",
        ),
        about="The published run is the one with the same settings, unless --with names another. Accuracies and other "
        "figures are compared at equal epochs, so the log may be unfinished.\n\n"
        "The exit code is 0 if the best accuracies differ by no more than --tolerance, 1 if they differ by more, and "
        f"2 if there is nothing to compare or the input is wrong.\n\n{NO_ENGINE}",
    ),
    "report": Command(
        "write one HTML page about runs: curves, comparison, settings, weights",
        _add_report_options,
        _report,
        ("demo -o demo/report.html",),
        about="The page needs no other files, and can be opened in any browser or sent to others.\n\n" + NO_ENGINE,
    ),
}
