"""Load `.params` files into networks, and get the parameters for writing them."""

from __future__ import annotations

from functools import partial
from typing import Dict, List, Mapping

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from gluon_aff.weights.params import fitting_arrays, structural_arrays


def parameter_arrays(net: HybridBlock) -> Dict[str, np.ndarray]:
    """Return copies of the parameters of `net` by their names in `.params` files, averaged over the devices."""
    return {name: parameter._reduce().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}


def raw_names_of(net: HybridBlock) -> Dict[str, str]:
    """Return Gluon's own names of the parameters of `net`, by their names in `.params` files."""
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

    MXNet never reads the file itself. It gets arrays from a file in which every length was checked.

    Args:
        net: network, initialised or not.
        path: file of Gluon's `save_parameters`, or of `write_params_file`.
        ctx: context or contexts for parameters that are not initialised yet. If None, the CPU.
        fresh_head: whether to keep the network's own head if the head in the file has another size.
        ignore_extra: whether arrays that the network lacks are ignored.
        allow_not_finite: whether values that are NaN or infinite are accepted.

    Returns:
        Names of the arrays that `fresh_head` left out. They stay uninitialised if the network was not initialised.

    Raises:
        ParamsFileError: the file is damaged, has values that are not finite, or does not fit the network. The message
            says how many arrays are missing, unexpected or of another shape, and names the first of each kind.
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
    """Load the arrays of a file like `load_parameters`; messages call the file `source`."""
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
        parameters[name]._load_init(value, ctx, cast_dtype=True)
    return [name for name in parameters if name not in arrays]
