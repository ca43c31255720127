"""Gluon blocks with random parameters."""

import mxnet as mx
import numpy as np
from shared_by_tests.fusion_equations import random_values


def random_parameters(block, seed=0):
    """Give `block` random parameters, running statistics included; return them."""
    block.initialize()
    parameters = block._collect_params_with_prefix()
    for name, value in random_values({name: p.shape for name, p in parameters.items()}, seed).items():
        parameters[name].set_data(mx.nd.array(value))
    return {name: p.data().asnumpy() for name, p in parameters.items()}


def moderate_parameters(block):
    """The same with weights around 0 that hardly let values grow, for blocks of many layers and channels."""
    random_parameters(block)
    for name, parameter in block._collect_params_with_prefix().items():
        if name.endswith("weight"):
            parameter.set_data((parameter.data() - 0.25) / np.sqrt(np.prod(parameter.shape[1:])))
    return {name: p.data().asnumpy() for name, p in block._collect_params_with_prefix().items()}
