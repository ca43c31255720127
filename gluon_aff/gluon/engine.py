"""Implement `gluon_aff.engines.MXNetEngine`."""

from __future__ import annotations

import mxnet as mx

from gluon_aff.gluon.cluster import join_cluster
from gluon_aff.gluon.devices import find_devices
from gluon_aff.gluon.inspection.memory import measure as measure_memory
from gluon_aff.gluon.inspection.summary import count_layers, parameter_shapes, raw_names, trainable_parameters
from gluon_aff.gluon.learner import learner
from gluon_aff.gluon.network import load_network
from gluon_aff.gluon.networks.zoo import arguments
from gluon_aff.gluon.self_test import about, try_step

NAME = "MXNet"
VERSION = mx.__version__
PROCESS_PER_GPU = False

__all__ = [
    "NAME",
    "PROCESS_PER_GPU",
    "VERSION",
    "about",
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
