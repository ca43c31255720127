"""Write networks as MXNet's own symbol and parameter files."""

from __future__ import annotations

import warnings

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock

from gluon_aff.engines import Logits
from gluon_aff.errors import last_line
from gluon_aff.gluon.export.trace import INPUT, logits_of, trace


def save_symbol(net: HybridBlock, symbol: str, parameters: str) -> Logits:
    """Write `net`, float32, as HybridBlock.export does; see `gluon_aff.engines.SymbolNetwork.save_symbol`."""
    traced = trace(net)
    arrays = {f"arg:{name}": value for name, value in traced.arguments.items()}
    arrays.update({f"aux:{name}": value for name, value in traced.auxiliary.items()})
    try:
        traced.symbol.save(symbol)
        mx.nd.save(parameters, arrays)
    except mx.MXNetError as error:
        raise OSError(last_line(error)) from None
    except UnicodeEncodeError:
        raise OSError("MXNet writes only to file names in UTF-8: take another one") from None
    return _read_back(symbol, parameters)


def _read_back(symbol: str, parameters: str) -> Logits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MXNet asks for the input's type before it is known
        return logits_of(SymbolBlock.imports(symbol, [INPUT], parameters, mx.cpu()))
