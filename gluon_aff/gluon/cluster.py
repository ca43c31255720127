"""Connect the workers of a run through MXNet's key-value store or Horovod.

All workers have to call the same functions in the same order. A worker that does not leaves the others waiting.
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

from gluon_aff.distributed import DISTRIBUTED, HOROVOD, KVSTORES, SINGLE, whole_number
from gluon_aff.engines import Devices
from gluon_aff.errors import InputError, unknown_name
from gluon_aff.printing import show

NUMBERS = ("DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")
ENVIRONMENT = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", *NUMBERS)
# Keys of our sums start above those of a trainer, which are its parameters' numbers. They have to stay small, since
# MXNet multiplies keys by 9973 in 32 bits to choose a server.
FIRST_KEY = 100_000
SET_MULTI_PRECISION = 1  # MXNet's number of this command
CHUNK = 262_144
PATIENCE_SECONDS = 60

Sum = Callable[[mx.nd.NDArray], mx.nd.NDArray]


@dataclass(frozen=True)
class Cluster:
    """Connect the workers of a run, one of which is this process.

    Attributes:
        kvstore: what gluon.Trainer takes: the name of a store, or the store itself; "horovod" for Horovod.
        rank: number of this worker, 0..size - 1. All parameters start with the values of worker 0.
        size: number of workers.
        local_rank: number of this worker among those on its machine.
        local_size: number of workers on this machine.
        add: starts to sum an array over the workers. None if there is only one worker.
    """

    kvstore: Any = "device"
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    add: Optional[Sum] = None

    def total(self, figures: mx.nd.NDArray) -> mx.nd.NDArray:
        """Start to sum `figures` over the workers, which all pass an array of the same shape and type.

        The returned array is not waited for.

        Raises:
            TypeError: the figures are neither float32 nor float16. MXNet's servers crash on integers and turn float64
                into float32.
        """
        if self.add is None:
            return figures
        if figures.dtype not in (np.float32, np.float16):
            raise TypeError(f"workers sum float32 and float16, not {np.dtype(figures.dtype).name}")
        return self.add(figures)

    def broadcast(self, array: Union[np.ndarray, mx.nd.NDArray, int, float]) -> np.ndarray:
        """Return worker 0's `array`, of any type, bit for bit. All workers pass an array of the same shape and type."""
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
        """Wait until all workers have arrived here."""
        self.total(mx.nd.zeros(1)).wait_to_read()

    def sum(self, figures: Sequence[float]) -> List[float]:
        """Return the sum of each figure over the workers, in float32."""
        return self.total(mx.nd.array(figures)).asnumpy().tolist()

    def devices(self, all_devices: Devices) -> Devices:
        """Return this worker's share of the GPUs that all workers of its machine see; CPU devices are not shared out.

        Raises:
            InputError: there are fewer GPUs than workers.
        """
        if all_devices.kind == "cpu":
            return all_devices
        share = all_devices.share(self.local_rank, self.local_size)
        if not share:
            raise InputError(
                f"{self.local_size} workers on this machine for {len(all_devices)} GPUs: start fewer workers"
            )
        # Horovod's trainer sums the gradients of the first device only
        return share.share(0, len(share)) if self.kvstore == HOROVOD else share


def join_cluster(kvstore: str) -> Cluster:
    """Connect to the other workers of the run.

    Args:
        kvstore: one of `KVSTORES`. "local" and "device" are for a single worker and sum over its devices, on the CPU or
            on GPUs. "dist_sync" and "dist_device_sync" do so on each worker, and then sum over the workers that
            `gluon-aff launch` started.

    Raises:
        InputError: the name is unknown, `gluon-aff launch` did not start this process, or Horovod is not installed.
    """
    if kvstore in DISTRIBUTED:
        return _join_servers(kvstore)
    if kvstore == HOROVOD:
        return _join_horovod()
    if kvstore not in SINGLE:
        raise unknown_name("key-value store", kvstore, KVSTORES)
    if os.environ.get("DMLC_ROLE") == "worker":
        raise InputError(
            f"gluon-aff launch started this, but --kvstore {kvstore} is for a single process: add --kvstore dist_sync"
        )
    return Cluster(kvstore)


def make_trainer(
    params: gluon.ParameterDict, optimizer: str, options: Dict[str, Any], cluster: Cluster
) -> gluon.Trainer:
    """Return a trainer of initialised `params`, which get worker 0's values; call `step` with the global batch size.

    Every worker updates its own copy of the weights, so all workers have the optimizer's states, and these are equal. A
    cluster can have one trainer. With several workers, no parameter's initialisation may still be deferred, because the
    first batch would otherwise pass through a different network on each worker.

    Raises:
        DeferredInitializationError: a parameter's initialisation is deferred.
    """
    if cluster.kvstore == HOROVOD:
        return _horovod_trainer(params, optimizer, options, cluster)
    if isinstance(cluster.kvstore, str):
        return gluon.Trainer(params, optimizer, options, cluster.kvstore)
    trainer = gluon.Trainer(params, optimizer, options, cluster.kvstore, update_on_kvstore=False)
    trainer._params_to_init = []  # done here, since the store would take the values of whichever worker joined first
    for key, parameter in enumerate(trainer._params):
        value = parameter.list_data()[0]
        # Copy to new arrays: MXNet does not wait for arrays in oneDNN's layout, such as those of a network that
        # inferred.
        value = mx.nd.array(value.asnumpy(), value.context, value.dtype)
        cluster.kvstore.init(key, value)
        # Adding -0.0 changes no value
        cluster.kvstore.pushpull(key, value if cluster.rank == 0 else -mx.nd.zeros_like(value), parameter.list_data())
    mx.nd.waitall()  # otherwise a later sum of a key could overtake this one
    return trainer


def average_running_statistics(net: HybridBlock, cluster: Cluster) -> None:
    """Give all workers the mean, over workers and devices, of the parameters of `net` without gradients."""
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
    for variable in NUMBERS:
        whole_number(variable)
    local = whole_number("GLUON_AFF_LOCAL_RANK", 0), whole_number("GLUON_AFF_LOCAL_SIZE", 1)
    own_number = whole_number("DMLC_WORKER_ID") if "DMLC_WORKER_ID" in os.environ else None
    impatience = threading.Timer(PATIENCE_SECONDS, _say_waiting)
    impatience.start()
    try:
        kvstore = mx.kv.create(name)
    finally:
        impatience.cancel()
    # Otherwise a worker that fails would wait at its end for the others, which wait for it.
    check_call(_LIB.MXKVStoreSetBarrierBeforeExit(kvstore.handle, ctypes.c_int(0)))
    # Have float16 summed in float32. Otherwise this is left to chance, since the server's flag has no initial value.
    kvstore._send_command_to_servers(SET_MULTI_PRECISION, "")
    cluster = Cluster(
        kvstore,
        kvstore.rank if own_number is None else own_number,  # the store's own numbers change from start to start
        kvstore.num_workers,
        *local,
        _store_sum(kvstore),
    )
    ranks = cluster.total(mx.nd.one_hot(mx.nd.array([cluster.rank]), cluster.size)).asnumpy()
    if (ranks != 1).any():
        raise InputError(f"DMLC_WORKER_ID has to be 0 to {cluster.size - 1}, each once: use gluon-aff launch")
    return cluster


def _say_waiting() -> None:
    show(
        f"the other processes have not answered for {PATIENCE_SECONDS} s: check that all of them run and that their "
        "machines can reach each other's ports. DMLC_INTERFACE names the network interface to use",
        file=sys.stderr,
    )


def _store_sum(kvstore: mx.kv.KVStore) -> Sum:
    """Return a function that sums arrays through a store, with a key and a send buffer for each shape and type.

    The send buffer is reused; only this keeps successive sums with one key in order.
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
        # Names distinguish sums that are under way at the same time.
        return horovod.allreduce(array, average=False, name=f"gluon_aff.total.{next(numbers)}")

    size = horovod.size()
    return Cluster(HOROVOD, horovod.rank(), size, horovod.local_rank(), horovod.local_size(), add if size > 1 else None)


def _horovod_trainer(
    params: gluon.ParameterDict, optimizer: str, options: Dict[str, Any], cluster: Cluster
) -> gluon.Trainer:
    horovod = _horovod()
    for parameter in params.values():
        parameter.list_data()  # raises if Horovod would wait for a later initialisation
    horovod.broadcast_parameters(params)  # those of worker 0
    # Horovod's trainer takes the mean over the workers, but `step` gets the global batch size here.
    return horovod.DistributedTrainer(params, optimizer, {**options, "rescale_grad": float(cluster.size)})


def _horovod() -> Any:
    try:
        return import_module("horovod.mxnet")
    except ImportError:
        raise InputError(
            "--kvstore horovod needs Horovod built for MXNet, which is not installed (HOROVOD_WITH_MXNET=1 pip install "
            "horovod); --kvstore dist_sync needs no installation"
        ) from None
