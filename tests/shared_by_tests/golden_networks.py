"""Gluon networks with the parameters of the goldens."""

import json

import mxnet as mx
from shared_by_tests.golden_values import GOLDENS, golden_value

from gluon_aff import get_model


def with_golden_parameters(name):
    """The network, what its golden says, and the gammas that were 0 before."""
    net = get_model(name)
    net.initialize(mx.init.Zero())  # of weights: gammas say themselves what they begin with
    parameters = net._collect_params_with_prefix()
    golden = json.loads(GOLDENS[name].read_text())
    for parameter, shape, _ in golden["parameters"]:
        parameters[parameter].shape = tuple(shape)
    for parameter in parameters.values():
        parameter._finish_deferred_init()
    zeros = [name for name, each in parameters.items() if name.endswith("gamma") and not each.data().asnumpy().any()]
    for parameter_name, parameter in parameters.items():
        parameter.set_data(mx.nd.array(golden_value(parameter_name, parameter.shape)))
    net.hybridize(static_alloc=True, static_shape=True)
    return net, golden, zeros
