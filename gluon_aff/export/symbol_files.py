"""Networks as MXNet's own pair of files, for SymbolBlock.imports, Module and the C++ interface."""

from __future__ import annotations

import os
import warnings
from typing import List, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock

from gluon_aff.errors import last_line
from gluon_aff.export.agreement import Agreement, Logits, agree
from gluon_aff.export.trace import INPUT, Traced, logits_of, trace
from gluon_aff.files import replacing


def write_symbol(net: HybridBlock, prefix: str, input_size: int) -> Tuple[List[str], Agreement]:
    """Write what HybridBlock.export writes: `{prefix}-symbol.json` and `{prefix}-0000.params`, both or neither.

    Args:
        net: network with parameters, (N, 3, H, W) -> (N, K), float32; it stays as it is.
        prefix: of the files' names.
        input_size: the network's.

    Returns:
        The names, and how what is read back agrees with the network.

    Raises:
        GluonAFFError: a file cannot be written, or the results differ.
    """
    paths = [f"{prefix}-symbol.json", f"{prefix}-0000.params"]
    with replacing(paths[0]) as symbol, replacing(paths[1]) as parameters:
        try:
            _save(trace(net), symbol, parameters)
        except mx.MXNetError as error:
            raise OSError(last_line(error)) from None
        return paths, agree(logits_of(net), _read_back(symbol, parameters), input_size, os.path.basename(prefix))


def _save(traced: Traced, symbol: str, parameters: str) -> None:
    arrays = {f"arg:{name}": value for name, value in traced.arguments.items()}
    arrays.update({f"aux:{name}": value for name, value in traced.auxiliary.items()})
    traced.symbol.save(symbol)
    mx.nd.save(parameters, arrays)


def _read_back(symbol: str, parameters: str) -> Logits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the type of the input is asked for before it is known
        return logits_of(SymbolBlock.imports(symbol, [INPUT], parameters, mx.cpu()))
