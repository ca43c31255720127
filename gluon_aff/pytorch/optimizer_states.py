"""Write and read a PyTorch network's optimizer states in the `.states` files of a Gluon Trainer."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

import numpy as np
import torch
from torch import nn

from gluon_aff.engines import Optimizer
from gluon_aff.pytorch.gluon_names import gluon_names, in_trainer_order
from gluon_aff.pytorch.parameters import parameter_names
from gluon_aff.weights.optimizer_states import (
    CLASSES,
    ArrayKind,
    fitting_states,
    named_arrays,
    optimizer_attributes,
    state_of,
)
from gluon_aff.weights.states_format import write_states


def save_states(
    path: str,
    net: nn.Module,
    optimizer: Optimizer,
    arrays: Mapping[str, np.ndarray],
    updates: int,
    batch: int,
    multi_precision: bool,
) -> None:
    """Write a `.states` file, whole or not at all, which a Gluon Trainer's `load_states` can read too.

    Args:
        path: file to write.
        net: network that is trained.
        optimizer: NAG or SGD, with its current rate or schedule.
        arrays: momentum and float32 weights, as in `gluon_aff.engines.LearnerState`. Empty before the first update.
        updates: number of updates so far.
        batch: number of images of an update, over all processes.
        multi_precision: whether the files have float16 weights of convolutions and dense layers.

    Raises:
        KeyError: an array is missing.
        GluonAFFError: the file cannot be written.
    """
    kinds = _state_kinds(net, optimizer, multi_precision)
    indices = {index: name for index, name in enumerate(in_trainer_order(net)) if name in kinds}
    states = {index: state_of(name, kinds[name], arrays) for index, name in indices.items() if updates}
    attributes = optimizer_attributes(optimizer, updates, indices, batch, multi_precision)
    write_states(path, CLASSES[optimizer.name], states, attributes)


def load_states(
    path: str, net: nn.Module, optimizer: Optimizer, multi_precision: bool
) -> Tuple[Dict[str, np.ndarray], int]:
    """Read the `.states` file at `path`, which `save_states` or a Gluon Trainer wrote, without running anything in it.

    Args:
        path: file to read.
        net: network that will be trained.
        optimizer: NAG or SGD. The rates and factors in the file are ignored.
        multi_precision: whether the files have float16 weights of convolutions and dense layers.

    Returns:
        Momentum and float32 weights, as in `gluon_aff.engines.LearnerState`, and the number of updates so far.

    Raises:
        InputError: the file is missing or damaged, is not a states file, or belongs to another network or optimizer.
    """
    kinds, in_gluon = _state_kinds(net, optimizer, multi_precision), gluon_names(net)
    indices = {index: name for index, name in enumerate(in_trainer_order(net)) if name in kinds}
    expected = {index: (in_gluon[name], kinds[name]) for index, name in indices.items()}
    saved = fitting_states(path, CLASSES[optimizer.name], expected)
    arrays: Dict[str, np.ndarray] = {}
    for index, state in saved.states.items():
        arrays.update(named_arrays(indices[index], state))
    return arrays, saved.updates


def _state_kinds(net: nn.Module, optimizer: Optimizer, multi_precision: bool) -> Dict[str, Any]:
    """Return the kinds of the states of the parameters with a gradient, by their names in `.params` files."""
    names, kinds = parameter_names(net), {}
    for key, parameter in net.named_parameters():
        if parameter.requires_grad:
            layer = net.get_submodule(key.rpartition(".")[0])
            halved = multi_precision and isinstance(layer, (nn.Conv2d, nn.Linear))
            kinds[names[key]] = _state_kind(parameter, optimizer, halved)
    return kinds


def _state_kind(parameter: torch.Tensor, optimizer: Optimizer, halved: bool) -> Any:
    dtype = np.float64 if parameter.dtype == torch.float64 else np.float32
    kind = ArrayKind(tuple(parameter.shape), np.dtype(dtype))
    momentum = kind if optimizer.momentum else None
    return (momentum, kind) if halved else momentum
