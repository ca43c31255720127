"""The workers of a run, and what they tell each other through MXNet's key-value store or Horovod.

Every worker calls the same functions here in the same order; a worker that does not leaves the others waiting.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import threading
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.base import _LIB, check_call
from mxnet.gluon import HybridBlock

from gluon_aff.distributed import DISTRIBUTED, HOROVOD, KVSTORES, SINGLE
from gluon_aff.engines import Devices
from gluon_aff.errors import InputError, unknown_name
from gluon_aff.printing import show

ENVIRONMENT = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")
# A trainer's keys are its parameters' numbers. MXNet multiplies keys by 9973 in 32 bits to choose a server.
FIRST_KEY = 100_000
SET_MULTI_PRECISION = 1  # MXNet's number of that command
CHUNK = 2**18
PATIENCE_SECONDS = 60

Sum = Callable[[mx.nd.NDArray], mx.nd.NDArray]


@dataclass(frozen=True)
class Cluster:
    """The workers of a run, of which this process is one.

    Attributes:
        kvstore: what gluon.Trainer takes, a name or a store; "horovod" for Horovod.
        rank: number of this worker, 0..size - 1. Worker 0 is the one whose parameters all start with.
        size: how many there are.
        local_rank: number of this worker among those on its machine.
        local_size: how many are on this machine.
        add: sum of an array over the workers, not waited for; None if there is one.
    """

    kvstore: Any = "device"
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    add: Optional[Sum] = None

    def total(self, figures: mx.nd.NDArray) -> mx.nd.NDArray:
        """Sum over the workers of `figures`, of one shape and type on all of them; not waited for.

        Raises:
            TypeError: if they are neither float32 nor float16. MXNet's servers end at whole numbers, and turn float64
                into float32.
        """
        if self.add is None:
            return figures
        if figures.dtype not in (np.float32, np.float16):
            raise TypeError(f"workers sum float32 and float16, not {np.dtype(figures.dtype).name}")
        return self.add(figures)

    def broadcast(self, array: Union[np.ndarray, mx.nd.NDArray, int, float]) -> np.ndarray:
        """Worker 0's `array`, for which all workers give one of the same shape and type; of any type, bit for bit."""
        values = array.asnumpy() if isinstance(array, mx.nd.NDArray) else np.asarray(array)
        if self.add is None:
            return values
        as_numbers = values.dtype == np.float32
        sent = values.ravel() if as_numbers else np.frombuffer(values.tobytes(), np.uint8)
        chunks = np.full((max(1, -(-len(sent) // CHUNK)), CHUNK), -0.0, np.float32)
        if self.rank == 0:
            chunks.ravel()[: len(sent)] = sent
        sums = [self.total(mx.nd.array(chunk)) for chunk in chunks]
        received = np.concatenate([each.asnumpy() for each in sums])[: len(sent)]
        return (received if as_numbers else received.astype(np.uint8).view(values.dtype)).reshape(values.shape)

    def barrier(self) -> None:
        """Wait until all workers are here."""
        self.total(mx.nd.zeros(1)).wait_to_read()

    def sum(self, figures: Sequence[float]) -> List[float]:
        """Sum of each figure over the workers, in float32."""
        return self.total(mx.nd.array(figures)).asnumpy().tolist()

    def devices(self, all_devices: Devices) -> Devices:
        """This worker's share of those that all workers of its machine see; all of them if they are CPUs.

        Raises:
            InputError: if there are fewer GPUs than workers.
        """
        if all_devices.kind == "cpu":
            return all_devices
        share = all_devices.share(self.local_rank, self.local_size)
        if not share:
            raise InputError(
                f"{self.local_size} workers on this machine for {len(all_devices)} GPUs: start one for each at most"
            )
        # Horovod's trainer sums the gradients of the first device only
        return share.share(0, len(share)) if self.kvstore == HOROVOD else share


def join_cluster(kvstore: str) -> Cluster:
    """Meet the other workers of the run.

    Args:
        kvstore: one of `KVSTORES`. "local" and "device" are for one worker, and sum over its devices on the CPU or on
            GPUs. "dist_sync" and "dist_device_sync" do likewise on each worker, and then sum over the workers that
            `gluon-aff launch` started.

    Raises:
        InputError: for another name, outside `gluon-aff launch`, or without Horovod.
    """
    if kvstore in DISTRIBUTED:
        return _join_servers(kvstore)
    if kvstore == HOROVOD:
        return _join_horovod()
    if kvstore not in SINGLE:
        raise unknown_name("key-value store", kvstore, KVSTORES)
    if os.environ.get("DMLC_ROLE") == "worker":
        raise InputError(
            f"gluon-aff launch started this, but --kvstore {kvstore} trains alone: add --kvstore dist_sync"
        )
    return Cluster(kvstore)


def make_trainer(
    params: gluon.ParameterDict, optimizer: str, options: Dict[str, Any], cluster: Cluster
) -> gluon.Trainer:
    """Trainer of initialised `params`, which take worker 0's values; call `step` with the global batch size.

    Every worker updates its own copy, so that all have the optimizer's states, and they are the same. A cluster can
    have one trainer. With several workers, no parameter's initialization may be deferred any more: the first batch
    would go through another network on each of them.

    Raises:
        DeferredInitializationError: if one is.
    """
    if cluster.kvstore == HOROVOD:
        return _horovod_trainer(params, optimizer, options, cluster)
    if isinstance(cluster.kvstore, str):
        return gluon.Trainer(params, optimizer, options, cluster.kvstore)
    trainer = gluon.Trainer(params, optimizer, options, cluster.kvstore, update_on_kvstore=False)
    trainer._init_kvstore()
    trainer._params_to_init = []  # done here, since the store would take them from whichever worker joined it first
    for key, parameter in enumerate(trainer._params):
        value = parameter.list_data()[0]
        # New arrays: MXNet does not wait for those in oneDNN's layout, which a network that inferred has.
        value = mx.nd.array(value.asnumpy(), value.context, value.dtype)
        cluster.kvstore.init(key, value)
        # x + -0.0 is x, for every x
        cluster.kvstore.pushpull(key, value if cluster.rank == 0 else -mx.nd.zeros_like(value), parameter.list_data())
    mx.nd.waitall()  # nothing keeps a later sum of a key behind this one
    return trainer


def average_running_statistics(net: HybridBlock, cluster: Cluster) -> None:
    """Give all workers the mean over them, and over their devices, of what `net` keeps without gradients."""
    statistics = [each for _, each in sorted(net.collect_params().items()) if each.grad_req == "null"]
    if cluster.size == 1 or not statistics:
        return
    own = [each._reduce() for each in statistics]
    sums = cluster.total(mx.nd.concat(*(array.astype("float32").reshape(-1) for array in own), dim=0))
    start = 0
    for parameter, array in zip(statistics, own):
        mean = sums[start : start + array.size] / cluster.size
        parameter.set_data(mean.reshape(array.shape).astype(array.dtype))
        start += array.size


def _join_servers(name: str) -> Cluster:
    missing = [variable for variable in ENVIRONMENT if variable not in os.environ]
    if missing:
        raise InputError(
            f"--kvstore {name} needs its servers ({missing[0]} is not set): start the command with "
            "gluon-aff launch -n WORKERS -- COMMAND"
        )
    impatience = threading.Timer(PATIENCE_SECONDS, _say_waiting)
    impatience.daemon = True
    impatience.start()
    try:
        kvstore = mx.kv.create(name)
    finally:
        impatience.cancel()
    # A worker that fails must not wait at its end for the others, which wait for it.
    check_call(_LIB.MXKVStoreSetBarrierBeforeExit(kvstore.handle, ctypes.c_int(0)))
    # Have float16 summed in float32. Whether it is otherwise is left to chance: the server's flag has no initial value.
    kvstore._send_command_to_servers(SET_MULTI_PRECISION, "")
    cluster = Cluster(
        kvstore,
        int(os.environ.get("DMLC_WORKER_ID", kvstore.rank)),  # the store's own numbers change from start to start
        kvstore.num_workers,
        int(os.environ.get("GLUON_AFF_LOCAL_RANK", 0)),
        int(os.environ.get("GLUON_AFF_LOCAL_SIZE", 1)),
        _store_sum(kvstore),
    )
    ranks = cluster.total(mx.nd.one_hot(mx.nd.array([cluster.rank]), cluster.size)).asnumpy()
    if (ranks != 1).any():
        raise InputError(f"DMLC_WORKER_ID has to be 0 to {cluster.size - 1}, each on one worker: use gluon-aff launch")
    return cluster


def _say_waiting() -> None:
    show(
        f"waiting for the other processes for {PATIENCE_SECONDS} s: do all run, and may their machines reach each "
        "other's ports? DMLC_INTERFACE names the network interface to use",
        file=sys.stderr,
    )


def _store_sum(kvstore: mx.kv.KVStore) -> Sum:
    """Summation through a store, with a key, and an array to send, for each shape and type.

    What is sent is overwritten, and nothing but that array keeps a later sum of the key behind an earlier one.
    """
    keys: Dict[Any, Tuple[int, mx.nd.NDArray]] = {}

    def add(array: mx.nd.NDArray) -> mx.nd.NDArray:
        kind = (array.shape, np.dtype(array.dtype).name, array.context)
        if kind not in keys:
            keys[kind] = (FIRST_KEY + len(keys), mx.nd.zeros(array.shape, array.context, array.dtype))
            kvstore.init(*keys[kind])
        key, sent = keys[kind]
        sent[:] = array
        total = mx.nd.empty(array.shape, array.context, array.dtype)
        kvstore.pushpull(key, sent, total)
        return total

    return add


def _join_horovod() -> Cluster:
    horovod = _horovod()
    horovod.init()
    numbers = itertools.count()

    def add(array: mx.nd.NDArray) -> mx.nd.NDArray:
        # Names tell sums apart that are under way at the same time.
        return horovod.allreduce(array, average=False, name=f"gluon_aff.total.{next(numbers)}")

    size = horovod.size()
    return Cluster(HOROVOD, horovod.rank(), size, horovod.local_rank(), horovod.local_size(), add if size > 1 else None)


def _horovod_trainer(
    params: gluon.ParameterDict, optimizer: str, options: Dict[str, Any], cluster: Cluster
) -> gluon.Trainer:
    horovod = _horovod()
    for parameter in params.values():
        parameter.list_data()  # raises where Horovod would wait for a later initialization
    horovod.broadcast_parameters(params, root_rank=0)
    # Horovod's trainer takes the mean over the workers, and `step` the global batch size here.
    return horovod.DistributedTrainer(params, optimizer, {**options, "rescale_grad": float(cluster.size)})


def _horovod() -> Any:
    try:
        return import_module("horovod.mxnet")
    except ImportError:
        raise InputError(
            "--kvstore horovod needs Horovod built for MXNet, which is not installed (HOROVOD_WITH_MXNET=1 pip install "
            "horovod); --kvstore dist_sync needs nothing"
        ) from None
