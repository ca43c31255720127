"""The command `memory`, which measures the memory of networks."""

from __future__ import annotations

import argparse
from typing import Any, Dict, List, Optional, Tuple

from gluon_aff._platform import ENGINES
from gluon_aff.commands import ENGINE, Command, json_text, positive
from gluon_aff.commands.weights import add_engine_option
from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.printing import show_text

MODES = {"training": True, "inference": False}
PATIENCE = 3600.0  # time limit in seconds for a few batches, also on a slow CPU
TABLE_6 = "afi_table6_memory_mib_batch_64"
TABLE_6_BATCH = 64
# Figures that only some engines and devices have, and the titles of their columns
MORE = {"reserved": "reserved", "saved": "for backward"}


def _add_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="network that classifies images, as `gluon-aff models` lists it"
    )
    parser.add_argument("--compare", metavar="NAME", help="also measure this network (default: none)")
    add_engine_option(parser)
    parser.add_argument(
        "--batch-size", type=positive, default=64, help="images in a batch (default: 64, as in the paper's Table 6)"
    )
    parser.add_argument(
        "--gpus", default="0", metavar="ID", help="id of one GPU (default: 0; the CPU computes if there is no GPU)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _memory(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from gluon_aff.engines import engine
    from gluon_aff.models import SEGMENTATION_HOST, model_record

    if "," in options.gpus:
        raise InputError(f"--gpus {options.gpus}: memory is measured on a single GPU; name one")
    chosen = engine(options.engine)
    chosen.find_devices(options.gpus)
    name = {"MXNet": "mxnet", "PyTorch": "torch"}[chosen.NAME]
    records = [model_record(name) for name in (options.model, options.compare) if name]
    for record in records:
        if record.host == SEGMENTATION_HOST:
            raise InputError(
                f"{record.name} is a segmentation network: this command takes networks that classify images"
            )
    facts: List[Dict[str, Any]] = []
    with tqdm(desc="memory", total=len(records) * len(MODES), leave=False, disable=None, unit="process") as progress:
        for record in records:
            facts.append(
                {
                    "engine": f"{chosen.NAME} {chosen.VERSION}",
                    "network": record.name,
                    "title": record.title,
                    "input_size": record.input_size,
                    "batch_size": options.batch_size,
                }
            )
            for mode, training in MODES.items():
                facts[-1][mode] = _measured(name, record.name, options.batch_size, training, options.gpus)
                facts[-1][f"paper_{mode}"] = _paper(record.title, options.batch_size, mode)
                progress.update()
    show_text(json_text(facts) if options.json else _text(facts))
    return 0


def _measured(engine: str, model: str, batch: int, training: bool, gpus: str) -> Dict[str, Any]:
    from gluon_aff.machine.children import ask

    answer = ask("memory", engine, model, batch, training, gpus, seconds=PATIENCE)
    if answer.problem:
        raise GluonAFFError(f"{model}: {answer.problem}. If it ran out of memory, lower --batch-size")
    return answer.value


def _paper(title: str, batch: int, mode: str) -> Optional[int]:
    """Return the figure of the AFINets paper's Table 6 in MiB; None if the table has none."""
    from gluon_aff.published import paper_tables

    row = paper_tables()[TABLE_6].rows.get(title)
    return dict(zip(MODES, row))[mode] if row and batch == TABLE_6_BATCH else None


def _text(facts: List[Dict[str, Any]]) -> str:
    from gluon_aff.results.text import columns_text

    first = facts[0]["training"]
    more = [name for name in MORE if name in first]
    rows: List[Tuple[Any, ...]] = [
        ("network", "mode", "peak", "without network", "difference", *(MORE[name] for name in more), "paper")
    ]
    for each in facts:
        for mode in MODES:
            found = each[mode]
            figures = [found["peak"], found["before"], found["peak"] - found["before"], *map(found.get, more)]
            shown = (None if figure is None else f"{figure:,.0f}" for figure in [*figures, each[f"paper_{mode}"]])
            rows.append((each["network"], mode, *shown))
    head = f"Memory of {first['of']} on {first['device']} with {facts[0]['engine']}, MiB"
    return "\n".join(
        [f"{head}, {facts[0]['batch_size']} images at a time", columns_text(rows, right=range(2, len(rows[0])))]
    )


COMMANDS: Dict[str, Command] = {
    "memory": Command(
        "measure the memory of training and of inference (AFINets, Table 6)",
        _add_options,
        _memory,
        ("--model resnet50 --compare afi_resnet50", "--model afi_resnet32_cifar100 --batch-size 128 --json"),
        computes=True,
        engines=ENGINES,
        about="The peak of a few training steps and of inference is measured in MiB, each in a process of its own, "
        f"and shown next to the figures of the AFINets paper's Table 6.\n\n{ENGINE}",
    ),
}
