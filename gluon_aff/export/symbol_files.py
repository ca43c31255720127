"""Export networks as MXNet's pair of files, for SymbolBlock.imports, Module and the C++ interface."""

from __future__ import annotations

import os
from typing import List, Tuple

from gluon_aff.engines import SymbolNetwork
from gluon_aff.export.agreement import Agreement, agree
from gluon_aff.files import replacing_together


def write_symbol(network: SymbolNetwork, prefix: str, input_size: int) -> Tuple[List[str], Agreement]:
    """Write `{prefix}-symbol.json` and `{prefix}-0000.params`, as HybridBlock.export does, both or neither.

    Args:
        network: network (N, 3, H, W) -> (N, K) in float32 on the CPU; it is not changed.
        prefix: start of both file names.
        input_size: side of the network's input in pixels.

    Returns:
        Paths of the two files, and how well the network that was read back from them agrees with `network`.

    Raises:
        GluonAFFError: a file cannot be written, or the outputs differ.
    """
    paths = [f"{prefix}-symbol.json", f"{prefix}-0000.params"]
    with replacing_together(*paths) as (symbol, parameters):
        read_back = network.save_symbol(symbol, parameters)
        return paths, agree(network.infer, read_back, input_size, os.path.basename(prefix))
