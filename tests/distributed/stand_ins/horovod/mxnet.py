"""Stands in for horovod.mxnet, which nobody can install here: what its documentation says of the functions used.

Sums go through MXNet's own servers, so that it runs under `gluon-aff launch`.
"""

import os

import mxnet as mx

STATE = {"keys": 0, "names": set()}


def init():
    STATE["store"] = mx.kv.create("dist_sync")


def rank():
    return int(os.environ["DMLC_WORKER_ID"])


def size():
    return STATE["store"].num_workers


def local_rank():
    return rank()


def local_size():
    return size()


def allreduce(tensor, average=True, name=None, priority=0):
    """Sum, or mean, over the processes; the name is that of one sum at a time."""
    assert name not in STATE["names"]
    STATE["names"].add(name)
    key, STATE["keys"] = STATE["keys"], STATE["keys"] + 1
    STATE["store"].init(key, mx.nd.zeros(tensor.shape, dtype=tensor.dtype))
    result = tensor.copy()
    STATE["store"].pushpull(key, result)
    return result / size() if average else result


def broadcast_parameters(params, root_rank=0, prefix=None):
    """Give all processes the parameters of one; those whose initialisation is deferred, when it is done."""
    for name, parameter in sorted(params.items()):
        if parameter._deferred_init:
            continue
        mine = parameter.data() if rank() == root_rank else mx.nd.zeros_like(parameter.data())
        parameter.set_data(allreduce(mine, average=False, name=f"broadcast.{prefix}{name}"))


class DistributedTrainer(mx.gluon.Trainer):
    """Takes the mean of the gradients over the processes, of the first device's only."""

    def __init__(self, params, optimizer, optimizer_params=None):
        super().__init__(params, optimizer, optimizer_params, kvstore=None)
        self._scale /= size()
        self._steps = 0

    def _allreduce_grads(self):
        self._steps += 1
        for index, parameter in enumerate(self._params):
            if parameter.grad_req != "null":
                gradient = parameter.list_grad()[0]
                gradient[:] = allreduce(gradient, average=False, name=f"{index}.{self._steps}")
