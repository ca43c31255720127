"""What the package asks of PyTorch (`gluon_aff.engines.InferenceEngine`)."""

from __future__ import annotations

import torch

from gluon_aff.pytorch.devices import find_devices
from gluon_aff.pytorch.inspection.summary import count_layers, trainable_parameters
from gluon_aff.pytorch.network import load_network
from gluon_aff.pytorch.networks.zoo import arguments, parameter_shapes

NAME = "PyTorch"
VERSION = torch.__version__

__all__ = [
    "NAME",
    "VERSION",
    "arguments",
    "count_layers",
    "find_devices",
    "load_network",
    "parameter_shapes",
    "trainable_parameters",
]
