"""The commands `export` and `convert`, which write networks for other programs."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Dict, List, NoReturn, cast

from gluon_aff._platform import ENGINES
from gluon_aff.commands import ENGINE, Command, check_output
from gluon_aff.commands.weights import add_engine_option, add_file_options, request_of
from gluon_aff.errors import InputError
from gluon_aff.printing import show

if TYPE_CHECKING:
    from gluon_aff.engines import SymbolNetwork

ONNX, SYMBOL = FORMATS = ("onnx", "symbol")


def _add_export_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    add_file_options(parser)
    add_engine_option(parser)
    parser.add_argument(
        "--format", choices=FORMATS, default=ONNX, help="onnx, or symbol for the two files that HybridBlock.export "
        "writes, which needs the engine mxnet (default: onnx)"
    )  # fmt: skip
    parser.add_argument(
        "--names", metavar="FILE", help="text file with one class name in each line (default: the names of the data "
        "set, if it is known)"
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="the .onnx file to write; for symbol, the start of the "
        "two file names, before -symbol.json and -0000.params"
    )  # fmt: skip


def _export(options: argparse.Namespace) -> int:
    engine = options.engine
    if options.format == ONNX:
        check_output(options.output, "-o", ".onnx")
    elif engine == "torch":
        raise InputError("--engine torch: only MXNet can write a symbol; choose --engine mxnet, or --format onnx")
    elif options.output.lower().endswith(("/", ".onnx", ".json", ".params")):
        raise InputError(
            f"-o {options.output}: give only the start of the two file names, before -symbol.json and -0000.params"
        )
    else:
        check_output(options.output, "-o", "")
        engine = "mxnet"

    from gluon_aff.evaluation.weights_file import load_network, names_known, output_names

    loaded = load_network(replace(request_of(options), gpus="", engine=engine))
    named = options.names or names_known(loaded.card)
    card = replace(loaded.card, names=tuple(output_names(loaded.card, options.names)) if named else ())
    if options.format == ONNX:
        from gluon_aff.export.onnx_file import write_onnx

        paths, agreement = [options.output], write_onnx(loaded.network, options.output, card).agreement
    else:
        from gluon_aff.export.symbol_files import write_symbol

        paths, agreement = write_symbol(cast("SymbolNetwork", loaded.network), options.output, card.input_size)
    show(f"{' and '.join(paths)}: {card.network}, (batch, 3, height, width) -> (batch, {card.outputs})")
    shapes = " and ".join("x".join(map(str, shape)) for shape in agreement.shapes)
    show(
        f"equal to {loaded.framework} on random {shapes}: to {agreement.difference:.1e} in logits of up to "
        f"{agreement.largest:.2g}"
    )
    return 0


def _add_convert_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument("file", metavar="FILE", help="weight file to convert: .params, .pth or .safetensors")
    parser.add_argument("--params", type=_without_flag, help=argparse.SUPPRESS)  # as other commands call the file
    parser.add_argument(
        "--model", metavar="NAME", help="name of the network, as `gluon-aff models` lists it (default: the network "
        "that the file describes or fits)"
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="the file to write; its suffix, one of the same three, "
        "chooses the format"
    )  # fmt: skip


def _without_flag(path: str) -> NoReturn:
    raise argparse.ArgumentTypeError(f"name the file without a flag: convert {path} -o OUT")


def _convert(options: argparse.Namespace) -> int:
    from gluon_aff.weights.convert import convert, format_of, read_weights, what_it_is_of

    check_output(options.output, "-o", format_of(options.output))
    file = read_weights(options.file)
    if os.path.exists(options.output) and os.path.samefile(options.file, options.output):
        raise InputError(f"-o {options.output}: this is the file to convert; name another one")
    architecture, card = what_it_is_of(file, options.model)
    arrays = convert(file, options.output, architecture, card)
    values = sum(array.size for array in arrays.values())
    show(f"{options.output}: {architecture.name}, {len(arrays)} arrays, {values:,} values")
    show("read back: all arrays are equal bit for bit, and so are PyTorch's outputs for two random images")
    return 0


COMMANDS: Dict[str, Command] = {
    "convert": Command(
        "write weights in another format: MXNet's .params, PyTorch's .pth, .safetensors",
        _add_convert_options,
        _convert,
        ("my.params -o my.pth", "my.params -o my.safetensors", "my.pth --model aff_resnet50 -o my.params"),
        engines=("torch",),
        about="The written file is read back, and its arrays and outputs are compared with those of the first file.\n\n"
        "Engine: PyTorch.",
    ),
    "export": Command(
        "write a network for other programs: ONNX, or MXNet's symbol",
        _add_export_options,
        _export,
        ("--model iaff_resnext50_32x4d -o iaff.onnx", "--params my.params --format symbol -o my"),
        computes=True,
        engines=ENGINES,
        about="The outputs of the written file are compared with those of the network on random images of two sizes, "
        f"and the file is kept only if they are equal within 1e-5 of the largest.\n\n{ENGINE}",
    ),
}
