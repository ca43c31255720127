"""Networks and their `.params` files: saving, loading."""

from __future__ import annotations

from functools import partial
from typing import Dict, List, Mapping

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from gluon_aff.weights.params import fitting_arrays, structural_arrays


def parameter_arrays(net: HybridBlock) -> Dict[str, np.ndarray]:
    """Parameters of `net` by name, means over its devices, as `.params` files have them."""
    return {name: parameter._reduce().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}


def raw_names_of(net: HybridBlock) -> Dict[str, str]:
    """Gluon's own names of the parameters of `net`, by those that `.params` files have."""
    return {name: parameter.name for name, parameter in net._collect_params_with_prefix().items()}


def load_parameters(
    net: HybridBlock,
    path: str,
    ctx: object = None,
    *,
    fresh_head: bool = False,
    ignore_extra: bool = False,
    allow_not_finite: bool = False,
) -> List[str]:
    """Load the `.params` file at `path` into `net`, cast to the network's types; all of it or nothing.

    MXNet sees arrays of a file that was checked to its last length, never the file.

    Args:
        net: network, initialised or not.
        path: file of Gluon's `save_parameters`, or of `write_params_file`.
        ctx: context or contexts for parameters not initialised yet (cpu if None).
        fresh_head: keep the network's own head where the file's has another size.
        ignore_extra: take no notice of arrays the network lacks.
        allow_not_finite: take values that are NaN or infinite too.

    Returns:
        Names of the arrays that `fresh_head` left out; where the network was not initialised, those are not either.

    Raises:
        ParamsFileError: `structural_arrays`' and `fitting_arrays`'.
    """
    return load_arrays(
        net, structural_arrays(path, allow_not_finite), path, ctx, fresh_head=fresh_head, ignore_extra=ignore_extra
    )


def load_arrays(
    net: HybridBlock,
    given: Mapping[str, np.ndarray],
    source: str,
    ctx: object = None,
    *,
    fresh_head: bool = False,
    ignore_extra: bool = False,
) -> List[str]:
    """`load_parameters` with the arrays of a file, which a message calls `source`."""
    parameters = net._collect_params_with_prefix()
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    arrays = fitting_arrays(
        given,
        source,
        shapes,
        partial(raw_names_of, net),
        type(net).__name__,
        fresh_head=fresh_head,
        ignore_extra=ignore_extra,
    )
    for name, array in arrays.items():
        value = mx.nd.array(array, dtype=array.dtype)
        parameters[name]._load_init(value, ctx, cast_dtype=True, dtype_source="current")
    return [name for name in parameters if name not in arrays]
