"""What the package asks of MXNet (`gluon_aff.engines.Engine`)."""

from __future__ import annotations

from typing import Dict, Tuple

import mxnet as mx

from gluon_aff.errors import InputError, last_line
from gluon_aff.gluon.cluster import join
from gluon_aff.gluon.devices import find_devices
from gluon_aff.gluon.learner import learner
from gluon_aff.gluon.networks.zoo import arguments, build
from gluon_aff.models import Architecture

NAME = "MXNet"
VERSION = mx.__version__

__all__ = ["NAME", "VERSION", "arguments", "find_devices", "join", "learner", "parameter_shapes"]


def parameter_shapes(architecture: Architecture) -> Dict[str, Tuple[int, ...]]:
    """Shapes by the names that `.params` files have; 0 stands for a size that only an image tells.

    Raises:
        InputError: for arguments that no network can have.
    """
    try:
        parameters = build(architecture)._collect_params_with_prefix()
    except (mx.MXNetError, ZeroDivisionError) as error:
        raise InputError(f"{architecture.name}: no network has these arguments ({last_line(error)})") from None
    return {name: parameter.shape for name, parameter in parameters.items()}
