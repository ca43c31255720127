"""Gluon networks with the parameters of the goldens."""

import json

import mxnet as mx
from shared_by_tests.golden_values import GOLDENS, golden_value

from gluon_aff import get_model


def with_golden_parameters(name):
    net = get_model(name)
    net.initialize(mx.init.Zero())
    golden = json.loads(GOLDENS[name].read_text())
    for parameter, shape, _ in golden["parameters"]:
        net._collect_params_with_prefix()[parameter].shape = tuple(shape)
    for parameter in net.collect_params().values():
        parameter._finish_deferred_init()
    for parameter_name, parameter in net._collect_params_with_prefix().items():
        parameter.set_data(mx.nd.array(golden_value(parameter_name, parameter.shape)))
    net.hybridize(static_alloc=True, static_shape=True)
    return net, golden
