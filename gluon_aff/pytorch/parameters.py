"""Load and save networks as `.params` files, under the names that MXNet gives the parameters."""

from __future__ import annotations

from functools import partial
from typing import Dict, List, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gluon_aff.weights.params import fitting_arrays, structural_arrays
from gluon_aff.weights.params_format import write_params_file

IN_MXNET = {"weight": "gamma", "bias": "beta"}  # names of a normalisation layer's parameters
UPDATES = "num_batches_tracked"  # PyTorch's BatchNorm counts batches, MXNet's does not


def parameter_names(net: nn.Module) -> Dict[str, str]:
    """Return the names in `.params` files of the entries of `net.state_dict()`, in the same order.

    The `weight` of BatchNorm and LayerNorm is called `gamma`, and their `bias` is `beta`. BatchNorm's counter is left
    out.
    """
    norms = {name for name, module in net.named_modules() if isinstance(module, (_BatchNorm, nn.LayerNorm))}
    names = {}
    for key in net.state_dict():
        module, _, own = key.rpartition(".")
        if own != UPDATES:
            own = IN_MXNET.get(own, own) if module in norms else own
            names[key] = f"{module}.{own}" if module else own
    return names


def parameter_arrays(net: nn.Module) -> Dict[str, np.ndarray]:
    """Return copies of the parameters of `net` by their names in `.params` files; bfloat16 becomes float32."""
    tensors = net.state_dict()
    return {name: _as_array(tensors[key]) for key, name in parameter_names(net).items()}


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()


def load_params(
    net: nn.Module,
    path: str,
    *,
    fresh_head: bool = False,
    ignore_extra: bool = False,
    allow_not_finite: bool = False,
) -> List[str]:
    """Load the `.params` file at `path` into `net`, cast to the network's types; all of it or nothing.

    Args:
        net: network, on any device.
        path: file of MXNet's `save_parameters`, or of `save_params`.
        fresh_head: whether to keep the network's own head if the head in the file has another size.
        ignore_extra: whether arrays that the network lacks are ignored.
        allow_not_finite: whether values that are NaN or infinite are accepted.

    Returns:
        Names of the arrays that `fresh_head` left out.

    Raises:
        ParamsFileError: the file is damaged, has values that are not finite, or does not fit the network. The message
            says how many arrays are missing, unexpected or of another shape, and names the first of each kind.
    """
    return load_arrays(
        net, structural_arrays(path, allow_not_finite), path, fresh_head=fresh_head, ignore_extra=ignore_extra
    )


def load_arrays(
    net: nn.Module,
    given: Mapping[str, np.ndarray],
    source: str,
    *,
    fresh_head: bool = False,
    ignore_extra: bool = False,
) -> List[str]:
    """Load the arrays of a file like `load_params`; messages call the file `source`."""
    # imported here, since it imports the networks, and they import this module
    from gluon_aff.pytorch.gluon_names import gluon_names

    tensors = net.state_dict()
    by_name = {name: tensors[key] for key, name in parameter_names(net).items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in by_name.items()}
    arrays = fitting_arrays(
        given,
        source,
        shapes,
        partial(gluon_names, net),
        type(net).__name__,
        fresh_head=fresh_head,
        ignore_extra=ignore_extra,
    )
    with torch.no_grad():
        for name, array in arrays.items():
            by_name[name].copy_(torch.from_numpy(np.array(array)))
    return [name for name in by_name if name not in arrays]


def save_params(net: nn.Module, path: str) -> None:
    """Write the parameters of `net` to a `.params` file, which MXNet's `load_parameters` and `load_params` can read.

    Raises:
        GluonAFFError: the file cannot be written. An existing file stays as it is.
    """
    write_params_file(path, parameter_arrays(net))


def cast(net: nn.Module, dtype: torch.dtype) -> None:
    """Cast convolutions and dense layers to another type. As with MXNet's `cast`, normalisation layers keep theirs."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(dtype)
