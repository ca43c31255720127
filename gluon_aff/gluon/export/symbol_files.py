"""Networks as MXNet's own pair of files."""

from __future__ import annotations

import warnings

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock

from gluon_aff.engines import Logits
from gluon_aff.errors import last_line
from gluon_aff.gluon.export.trace import INPUT, logits_of, trace


def save_symbol(net: HybridBlock, symbol: str, parameters: str) -> Logits:
    """`gluon_aff.engines.Network.save_symbol` of `net`, with parameters, float32; what HybridBlock.export writes."""
    traced = trace(net)
    arrays = {f"arg:{name}": value for name, value in traced.arguments.items()}
    arrays.update({f"aux:{name}": value for name, value in traced.auxiliary.items()})
    try:
        traced.symbol.save(symbol)
        mx.nd.save(parameters, arrays)
    except mx.MXNetError as error:
        raise OSError(last_line(error)) from None
    except UnicodeEncodeError:
        raise OSError("MXNet writes under names in UTF-8 only: take another one") from None
    return _read_back(symbol, parameters)


def _read_back(symbol: str, parameters: str) -> Logits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the type of the input is asked for before it is known
        return logits_of(SymbolBlock.imports(symbol, [INPUT], parameters, mx.cpu()))
