"""Networks as MXNet's own pair of files, for SymbolBlock.imports, Module and the C++ interface."""

from __future__ import annotations

import os
from typing import List, Tuple

from gluon_aff.engines import SymbolNetwork
from gluon_aff.export.agreement import Agreement, agree
from gluon_aff.files import replacing_together


def write_symbol(network: SymbolNetwork, prefix: str, input_size: int) -> Tuple[List[str], Agreement]:
    """Write what HybridBlock.export writes: `{prefix}-symbol.json` and `{prefix}-0000.params`, both or neither.

    Args:
        network: (N, 3, H, W) -> (N, K), float32, on the CPU; it stays as it is.
        prefix: of the files' names.
        input_size: the network's.

    Returns:
        The names, and how what is read back agrees with the network.

    Raises:
        GluonAFFError: a file cannot be written, or the results differ.
    """
    paths = [f"{prefix}-symbol.json", f"{prefix}-0000.params"]
    with replacing_together(*paths) as (symbol, parameters):
        read_back = network.save_symbol(symbol, parameters)
        return paths, agree(network.infer, read_back, input_size, os.path.basename(prefix))
