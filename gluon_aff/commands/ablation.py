"""The command `ablation`, which repeats the paper's ablations."""

from __future__ import annotations

import argparse
import contextlib
import glob
import os
import shlex
import signal
import subprocess
import sys
from types import FrameType
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from gluon_aff._platform import ENGINES
from gluon_aff.commands import ENGINE, USAGE_ERROR, Command, not_negative, positive
from gluon_aff.commands.weights import add_engine_option
from gluon_aff.errors import GluonAFFError, InputError, Stopped
from gluon_aff.files import check_directories, replacing_together
from gluon_aff.interpreter import python_command
from gluon_aff.printing import show, show_text
from gluon_aff.results.ablation_rows import ABLATION_HOSTS, MOST_BLOCKS, TABLES, Row, rows_of, training_flags
from gluon_aff.run_names import LOG
from gluon_aff.training.stopping import SIGNALS

if TYPE_CHECKING:
    from gluon_aff.results.ablation import RowResult

HOW = """
Each row of the table is a training run in a folder of its own. Its command is printed at the
start and stored in its result.json; --flags are added to it, such as
--flags="--batch-size 32 --gpus 0". To continue after an interruption, give the same command
again: finished rows are not trained again, and an interrupted row continues from its checkpoint.

With CIFAR-100 (400 epochs for each row) or StopSign (300 epochs), this is the paper's experiment.
With sample data and a few --num-epochs, it only shows that everything works.
"""

STDERR = 2  # since standard output is for the table


def _add_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.usage = "%(prog)s {table3,table4,fig7} --host HOST --data-dir DIR [options]"
    parser.epilog = f"{HOW}\n{parser.epilog}"
    parser.add_argument(
        "table", choices=TABLES, help="the paper's Table 3 (scales of context), Table 4 (fusion strategies) or Fig. 7 "
        "(networks of increasing depth)"
    )  # fmt: skip
    parser.add_argument(
        "--host", choices=ABLATION_HOSTS, required=True, help="where the network fuses features: within a layer "
        "(inception), in short skip connections (resnet) or in long ones (fpn)"
    )  # fmt: skip
    parser.add_argument(
        "--blocks", type=positive, nargs="+", default=list(range(1, MOST_BLOCKS + 1)), metavar="B",
        help="numbers of blocks in each stage, the paper's b (default: 1 2 3 4)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=not_negative, nargs="+", default=[0], metavar="SEED", help="train each network once for each "
        "of these seeds (default: 0)"
    )  # fmt: skip
    parser.add_argument(
        "--fusions", nargs="+", metavar="FUSION", help="fusion operators to train, which need not be in the table "
        "(default: all of the table)"
    )  # fmt: skip
    parser.add_argument("--r", type=positive, help="channel reduction ratio (default: the paper's for each row)")
    parser.add_argument(
        "--num-epochs", type=positive, help="epochs of each run; the decay epochs are scaled with it (default: the "
        "paper's 400, or 300 for fpn)"
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", metavar="DIR", help="archive or folder of CIFAR-100 (default: Gluon's folder, "
        "~/.mxnet/datasets/cifar100); for fpn, folder of COCO 2017 (no default)"
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", help="folder for the rows (default: ablation/TABLE-HOST)")
    parser.add_argument(
        "--dry-run", action="store_true", help="only print the rows, their numbers of parameters and their commands"
    )
    add_engine_option(parser)
    parser.add_argument(
        "--flags", default="", metavar="FLAGS", help="further flags for the training command, in quotes (default: none)"
    )


def _ablation(options: argparse.Namespace) -> int:
    from gluon_aff.engines import engine

    host = ABLATION_HOSTS[options.host]
    rows = rows_of(options.table, options.host, options.blocks, options.seeds, options.r, options.fusions)
    data = ["--data-dir", os.path.abspath(os.path.expanduser(options.data_dir))] if options.data_dir else []
    engine_flags = ["--engine", options.engine] if options.engine else []
    more = [*data, *engine_flags, *_words(options.flags)]
    commands = {row: training_flags(row, host, options.num_epochs, more) for row in rows}
    out = options.out or os.path.join("ablation", f"{options.table}-{options.host}")
    counts = _parameters(rows, options.host, options.engine)
    if options.dry_run:
        _print_plan(rows, counts, commands)
        return 0
    engine(options.engine)  # before anything is written
    check_directories({"--out": out})
    results = [_trained(row, counts[row], os.path.join(out, row.folder), commands[row], options.host) for row in rows]
    _report(results, rows, out, options.host)
    return 0


def _words(flags: str) -> List[str]:
    try:
        return shlex.split(flags)
    except ValueError as error:
        raise InputError(f"--flags {flags}: {error}") from None


def _parameters(rows: List[Row], host: str, name: Optional[str]) -> Dict[Row, int]:
    from gluon_aff.engines import engine
    from gluon_aff.models import model_record

    counts = {}
    for row in rows:
        network = (row.fusion, row.r, row.blocks)
        if network not in counts:
            record = model_record(ABLATION_HOSTS[host].model.format(row.blocks))
            counts[network] = engine(name).trainable_parameters(record.architecture(fusion=row.fusion, r=row.r))
    return {row: counts[row.fusion, row.r, row.blocks] for row in rows}


def _print_plan(rows: List[Row], counts: Dict[Row, int], commands: Dict[Row, List[str]]) -> None:
    from gluon_aff.results.text import columns_text

    table = [("fusion", "b", "r", "seed", "parameters", "paper")]
    table += [
        (row.paper_name, str(row.blocks), str(row.r), str(row.seed), f"{counts[row]:,}", f"{row.paper or '-'}")
        for row in rows
    ]
    show_text(columns_text(table, right=range(1, 6)))
    for command in commands.values():
        show(f"gluon-aff {shlex.join(command)}")


def _trained(row: Row, parameters: int, folder: str, command: List[str], host: str) -> RowResult:
    """Return the result of a row, after training it if it has none yet."""
    from gluon_aff.results.ablation import finished_result, result_of, write_result

    result = finished_result(folder, command)
    if result:
        show(f"{folder}: done, {result.score:.4f}", file=sys.stderr)
        return result
    os.makedirs(folder, exist_ok=True)
    show(f"{folder}: gluon-aff {shlex.join(command)}", file=sys.stderr)
    code, signalled = _run(python_command("import gluon_aff.__main__", *command), folder)
    if signalled and code:
        raise Stopped(f"stopped during {folder}. To continue: give the same command again", signalled)
    if code:
        with contextlib.suppress(OSError):
            os.rmdir(folder)  # succeeds only if the folder is empty
        kind = InputError if code == USAGE_ERROR else GluonAFFError
        raise kind(f"{folder}: the training ended with exit code {code}; see its messages above")
    logs = glob.glob(os.path.join(glob.escape(folder), LOG.format("*")))
    if not logs:
        raise GluonAFFError(f"{folder}: the training wrote no log there; see its messages above")
    result = result_of(row, parameters, max(logs, key=os.path.getmtime), ABLATION_HOSTS[host].score[0], command)
    write_result(result, folder)
    if signalled:
        raise Stopped(f"stopped after {folder}. To continue: give the same command again", signalled)
    return result


def _run(command: List[str], folder: str) -> Tuple[int, int]:
    """Run the command in `folder`, and pass signals of this process on to it.

    Returns:
        The exit code of the command, and the last signal that was passed on, 0 if there was none.
    """
    signalled = 0
    process: Optional[subprocess.Popen] = None

    def hand_on(number: int, frame: Optional[FrameType]) -> None:
        nonlocal signalled
        signalled = number
        if process:
            process.send_signal(number)

    previous = {number: signal.signal(number, hand_on) for number in SIGNALS}
    try:
        process = subprocess.Popen(command, cwd=folder, start_new_session=True, stdout=STDERR)
        if signalled:  # the signal came before the process had started
            process.send_signal(signalled)
        return process.wait(), signalled
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _report(results: List[RowResult], rows: List[Row], out: str, host: str) -> None:
    from gluon_aff.results.ablation import draw_summaries, summaries, summary_text, write_csv
    from gluon_aff.results.plots import draw_png

    names = {row.fusion: row.paper_name for row in rows}
    score = ABLATION_HOSTS[host].score[1]
    found = summaries(results)
    show_text(summary_text(found, names, score))
    if any(result.data != "official" for result in results):
        show("The data are not the paper's, so the scores cannot be compared with the paper's.")
    paths = [os.path.join(out, name) for name in ("rows.csv", "rows.png")]
    figure = draw_summaries(found, names, score)
    with replacing_together(*paths) as (table, picture):
        write_csv(results, table)
        draw_png(figure, picture)
    show(f"written: {', '.join(paths)}")


COMMANDS: Dict[str, Command] = {
    "ablation": Command(
        "train the rows of the paper's ablations and compare them with the paper's scores",
        _add_options,
        _ablation,
        (
            "table4 --host resnet --data-dir cifar-100-binary.tar.gz --seeds 0 1 2",
            "table3 --host fpn --data-dir coco --dry-run",
            "fig7 --host inception --blocks 1 --num-epochs 2 --data-dir demo/shapes",
        ),
        engines=ENGINES,
        about="The result is a table and a figure of the scores over the number of parameters: accuracy on CIFAR-100 "
        f"for inception and resnet, IoU on StopSign for fpn.\n\n{ENGINE}",
    ),
}
