"""The commands `models` and `summary`, which show networks."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Dict, List

from gluon_aff._platform import ENGINES
from gluon_aff.commands import ENGINE, NO_ENGINE, Command, json_text, positive
from gluon_aff.commands.weights import add_engine_option
from gluon_aff.errors import InputError
from gluon_aff.printing import show, show_text
from gluon_aff.settings.declaration import declared
from gluon_aff.settings.parser import add_declared
from gluon_aff.settings.shared import ClassifierSettings, named_arguments


def _add_models_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument(
        "pattern", nargs="?", help="list only names that match this shell wildcard, such as '*cifar*' (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, which also has the settings of each network")


def _models(options: argparse.Namespace) -> int:
    from gluon_aff.models import MODELS, list_models

    records = [MODELS[name] for name in list_models(options.pattern)]
    if not records:
        raise InputError(f"no model matches {options.pattern}: gluon-aff models lists all of them")
    if options.json:
        listed = ({**asdict(r), "weights": {labels: asdict(w) for labels, w in r.weights.items()}} for r in records)
        show_text(json_text(list(listed)))
        return 0
    for record in records:
        errors = ", ".join(f"{w.error:.2f} % ({labels})" for labels, w in record.weights.items())
        published = f"top-1 error {errors}" if errors else "no published weights"
        counted = "" if record.trainable is None else f"{record.trainable:,}"
        show(f"{record.name:<30} {record.title:<22} {counted:>12} parameters  {published}")
    return 0


def _add_summary_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument("model", metavar="NAME", help="name of the network, as `gluon-aff models` lists it")
    parser.add_argument("--classes", type=positive, help="number of outputs (default: that of the published network)")
    parser.add_argument(
        "--fusion", metavar="FUSION", help="fusion operator, such as MS-SA (default: the network's own)"
    )
    parser.add_argument("--r", type=positive, help="channel reduction ratio of the fusion (default: the network's own)")
    add_declared(parser, [declared(ClassifierSettings)[name] for name in ("stages", "attention")])
    parser.add_argument(
        "--input-size", type=positive, metavar="PIXELS", help="side of the image in pixels (default: the network's own)"
    )
    operations = parser.add_mutually_exclusive_group()
    for flag, column, whose in (
        ("--as-original", "original_count", "original's summary prints"),
        ("--as-thop", "thop_count", "profiler thop, which the AFINets paper used, prints for one image"),
    ):
        operations.add_argument(
            flag,
            dest="column",
            action="store_const",
            const=column,
            default="multiply_adds",
            help=f"show the FLOPs that the {whose} (default: multiply-adds)",
        )
    add_engine_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, with all three counts")


def _summary(options: argparse.Namespace) -> int:
    from gluon_aff.engines import engine
    from gluon_aff.inspection.summary import format_counts
    from gluon_aff.models import model_record

    record = model_record(options.model)
    fusion = {"fusion": options.fusion} if options.fusion else {}
    architecture = record.architecture(
        options.classes, **fusion, **named_arguments(options.r, options.stages, options.attention)
    )
    counts = engine(options.engine).count_layers(architecture, options.input_size or record.input_size)
    show_text(json_text([asdict(count) for count in counts]) if options.json else format_counts(counts, options.column))
    return 0


COMMANDS: Dict[str, Command] = {
    "models": Command(
        "list the networks",
        _add_models_options,
        _models,
        ("", "'*cifar*'"),
        about="Each line has the name to use in other commands, the title in the paper, the number of trainable "
        f"parameters, and the top-1 errors of published weights.\n\n{NO_ENGINE}",
    ),
    "summary": Command(
        "show layers, parameters and multiply-adds of a network",
        _add_summary_options,
        _summary,
        (
            "aff_resnet50",
            "aff_resnext50_32x4d --as-original",
            "resnet20_b1 --fusion MS-SA --r 2",
            "afi_resnet32_cifar100 --stages 1",
        ),
        engines=ENGINES,
        about=f"Parameters and operations are counted for a single image.\n\n{ENGINE}",
    ),
}
