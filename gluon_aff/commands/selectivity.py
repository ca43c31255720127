"""The command `selectivity`, which measures how much a network's channels respond to a single class."""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

from gluon_aff._platform import ENGINES
from gluon_aff.commands import ENGINE, Command, check_output, json_text
from gluon_aff.commands.weights import (
    add_data_options,
    add_device_options,
    add_engine_option,
    add_file_options,
    add_finite_option,
    model_and_file,
    request_of,
    titles,
)
from gluon_aff.errors import InputError
from gluon_aff.files import replacing_together
from gluon_aff.printing import printable, show, show_text

if TYPE_CHECKING:
    from gluon_aff.engines import Channels
    from gluon_aff.evaluation.weights_file import LoadedNetwork, ValidationSet
    from gluon_aff.inspection.selectivity import Selectivity


@dataclass(frozen=True)
class _Measured:
    """Holds a network with its title, the measured channels, the images, and the channels' selectivity."""

    loaded: LoadedNetwork
    title: str
    channels: Channels
    data: ValidationSet
    selectivity: Selectivity


def _add_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    add_file_options(parser)
    add_engine_option(parser)
    add_finite_option(parser)
    parser.add_argument(
        "--layer", metavar="NAME", help="layer to measure, by its name in the network, such as "
        "features.5.blocks.4.integrate, or some of its channels, such as features.5.blocks.4.first[32:] (default: the "
        "last integrated feature of an AFINet, else the last maps, which are averaged for the head)"
    )  # fmt: skip
    parser.add_argument(
        "--compare", metavar="PARAMS", help="also measure another network: a .params file, or MODEL=PARAMS, such as "
        "resnet32_cifar100=my.params (default: none)"
    )  # fmt: skip
    parser.add_argument(
        "--compare-layer", metavar="NAME", help="layer of the other network (default: as for --layer; if one network "
        "is an AFINet and the other is not, the channels of the latter in place of the integrated feature: in the same "
        "block, the second half of the first convolution, as in the AFINets paper's Fig. 4, or all of it for AFI-B)"
    )  # fmt: skip
    add_data_options(parser)
    add_device_options(parser)
    parser.add_argument(
        "-o", "--output", required=True, metavar="PNG", help="picture of the distributions to write; next to it, a "
        ".csv file gets the index of each channel"
    )  # fmt: skip


def _selectivity(options: argparse.Namespace) -> int:
    check_output(options.output, "-o", ".png")
    if options.compare_layer and not options.compare:
        raise InputError("--compare-layer: also name the other network with --compare")
    measured = _measure(options)
    _write(options.output, measured)
    facts = [_facts(each) for each in measured]
    show_text(json_text(facts) if options.json else _text(options.output, facts))
    return 0


def _measure(options: argparse.Namespace) -> List[_Measured]:
    from gluon_aff.evaluation.weights_file import load_network, validation_set
    from gluon_aff.inspection.selectivity import channels_called, class_means, class_selectivity, default_channels

    requests, given = [request_of(options)], [options.layer, options.compare_layer]
    if options.compare:
        model, params = model_and_file(options.compare)
        requests.append(replace(requests[0], model=model, params=params))
    networks = [load_network(request) for request in requests]
    asked = [channels_called(layer) if layer else None for layer in given[: len(networks)]]
    channels: List[Channels] = []
    for loaded, own, other, others in zip(networks, asked, networks[::-1], asked[::-1]):
        chosen = own or default_channels(loaded.network, other.network, others.layer if others else "")
        loaded.network.check_layer(chosen.layer)  # before the first network has run
        channels.append(chosen)
    sets = [
        validation_set(each.card, each.path, options.dataset, options.data_dir, options.batch_size, options.num_workers)
        for each in networks
    ]
    if len({(data.dataset, data.labels) for data in sets}) > 1:
        raise InputError(
            f"--compare: {networks[1].path} is for {sets[1].dataset}, {sets[1].labels} labels, and {networks[0].path} "
            f"for {sets[0].dataset}, {sets[0].labels}; measure them separately"
        )
    for note in sets[0].notes:
        show(f"gluon-aff: {note}", file=sys.stderr)
    measured = []
    for loaded, title, chosen, data in zip(networks, titles(networks), channels, sets):
        means = class_means(loaded.network, chosen, data.batches, len(data.names), data.images)
        measured.append(_Measured(loaded, title, chosen, data, class_selectivity(means)))
    return measured


def _write(path: str, measured: List[_Measured]) -> None:
    from gluon_aff.inspection.selectivity import draw_distributions
    from gluon_aff.results.plots import COLOURS, draw_png

    distributions = {f"{each.title}, {each.channels}": each.selectivity for each in measured}
    figure = draw_distributions(distributions, COLOURS)
    with replacing_together(path, _csv_beside(path)) as (picture, table):
        _write_csv(table, measured)
        draw_png(figure, picture)


def _write_csv(path: str, measured: List[_Measured]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["network", "weights", "layer", "channel", "selectivity", "class"])
        for each in measured:
            found = each.selectivity
            for number, (index, label) in enumerate(zip(found.index.tolist(), found.preferred), each.channels.begin):
                dead = index != index
                row = ["", ""] if dead else [index, each.data.names[label]]
                writer.writerow([each.loaded.card.network, each.loaded.path, each.channels.layer, number, *row])


def _facts(each: _Measured) -> Dict[str, Any]:
    found = each.selectivity
    return {
        "network": each.loaded.card.network,
        "weights": each.loaded.path,
        "git_blob_sha1": each.loaded.card.git_blob_sha1,
        "layer": str(each.channels),
        "dataset": each.data.dataset,
        "labels": each.data.labels,
        "official_data": each.data.official,
        "images": each.data.images,
        "channels": len(found.index),
        "dead": len(found.index) - len(found.alive),
        "mean": found.mean,
        "index": found.index.tolist(),
        "class": [
            None if index != index else each.data.names[label] for index, label in zip(found.index, found.preferred)
        ],
    }


def _text(path: str, facts: List[Dict[str, Any]]) -> str:
    from gluon_aff.results.text import columns_text

    rows = [("network", "layer", "channels", "dead", "mean index")]
    rows += [
        (
            each["network"],
            each["layer"],
            str(each["channels"]),
            str(each["dead"]),
            "-" if each["mean"] is None else f"{each['mean']:.4f}",
        )
        for each in facts
    ]
    first = facts[0]
    official = "" if first["official_data"] else " (not the official images)"
    return "\n".join(
        [
            columns_text(rows, right=(2, 3, 4)),
            f"over {first['images']:,} validation images of {first['dataset']}{official}; dead channels, which are 0 "
            "for every image, do not count",
            printable(f"{path}, {_csv_beside(path)}"),
        ]
    )


def _csv_beside(path: str) -> str:
    return str(Path(path).with_suffix(".csv"))


COMMANDS: Dict[str, Command] = {
    "selectivity": Command(
        "measure how much channels respond to a single class (class selectivity index)",
        _add_options,
        _selectivity,
        (
            "--params 0.7109-cifar100-afi_resnet32_cifar100-best.params --fine-label "
            "--compare 0.7116-cifar100-resnet32_cifar100-best.params -o selectivity.png",
            "--model aff_resnet32_cifar100 --fine-label --layer features.3 -o selectivity.png",
        ),
        computes=True,
        engines=ENGINES,
        about="The index of a channel is 0 if it responds to all classes alike, and 1 if it responds to one class only "
        f"(AFINets paper, Fig. 4; Morcos et al., arXiv:1803.06959).\n\n{ENGINE}",
    ),
}
