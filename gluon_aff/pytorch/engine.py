"""Implement `gluon_aff.engines.Engine` for PyTorch."""

from __future__ import annotations

import torch

from gluon_aff.pytorch.cluster import join_cluster
from gluon_aff.pytorch.devices import find_devices
from gluon_aff.pytorch.gluon_names import raw_names
from gluon_aff.pytorch.inspection.memory import measure as measure_memory
from gluon_aff.pytorch.inspection.summary import count_layers, trainable_parameters
from gluon_aff.pytorch.learner import learner
from gluon_aff.pytorch.network import load_network
from gluon_aff.pytorch.networks.zoo import arguments, parameter_shapes
from gluon_aff.pytorch.self_test import try_step

NAME = "PyTorch"
VERSION = torch.__version__
PROCESS_PER_GPU = True

__all__ = [
    "NAME",
    "PROCESS_PER_GPU",
    "VERSION",
    "arguments",
    "count_layers",
    "find_devices",
    "join_cluster",
    "learner",
    "load_network",
    "measure_memory",
    "parameter_shapes",
    "raw_names",
    "trainable_parameters",
    "try_step",
]
