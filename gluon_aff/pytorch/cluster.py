"""Connect the workers of a run through `torch.distributed`.

All workers have to call the same functions in the same order. A worker that does not leaves the others waiting.
"""

from __future__ import annotations

import atexit
import gc
import os
from dataclasses import dataclass
from importlib import import_module
from typing import Callable, List, Sequence

import numpy as np
import torch
import torch.distributed as dist

from gluon_aff.distributed import DISTRIBUTED, KVSTORES, SINGLE, whole_number
from gluon_aff.engines import Devices
from gluon_aff.errors import InputError, last_line, unknown_name

NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
VARIABLES = (*NUMBERS, "MASTER_ADDR")  # set by torchrun


@dataclass(frozen=True)
class TorchCluster:
    """Connect the workers of a run, one of which is this process.

    Attributes:
        rank: number of this worker, 0..size - 1. All parameters start with the values of worker 0.
        size: number of workers.
        local_rank: number of this worker among those on its machine.
        local_size: number of workers on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    def total(self, figures: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Start to sum `figures` over the workers, in place; the returned function waits for the sum and returns it."""
        if self.size == 1:
            return lambda: figures
        work = dist.all_reduce(figures, async_op=True)

        def awaited() -> torch.Tensor:
            work.wait()
            return figures

        return awaited

    def broadcast(self, array: np.ndarray) -> np.ndarray:
        """Return worker 0's `array`, bit for bit. All workers pass an array of the same shape and type."""
        if self.size == 1:
            return array
        sent = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
        dist.broadcast(sent, 0)
        return np.frombuffer(sent.numpy().tobytes(), array.dtype).reshape(array.shape)

    def sum(self, figures: Sequence[float]) -> List[float]:
        """Return the sum of each figure over the workers, in float32."""
        return self.total(torch.tensor(figures, dtype=torch.float32))().tolist()

    def devices(self, all_devices: Devices) -> Devices:
        """Return this worker's GPU among those that all workers of its machine see, or the CPU if there are no GPUs.

        Raises:
            InputError: the numbers of GPUs and of workers differ.
        """
        if all_devices.kind == "cpu":
            return all_devices
        if len(all_devices) != self.local_size:
            raise InputError(
                f"{self.local_size} workers on this machine for {len(all_devices)} GPUs: PyTorch trains with one "
                "worker for each GPU"
            )
        return all_devices.share(self.local_rank, self.local_size)


def join_cluster(kvstore: str) -> TorchCluster:
    """Connect to the other workers that `gluon-aff launch` or `torchrun` started; without either there are none.

    Args:
        kvstore: one of `KVSTORES` except Horovod. Each worker has a single device, so all stores have the same effect.

    Raises:
        InputError: the name is Horovod or unknown, a distributed store is named although nobody started several
            workers, or the workers do not find each other.
    """
    if kvstore not in (*SINGLE, *DISTRIBUTED):
        if kvstore in KVSTORES:
            raise InputError(f"--kvstore {kvstore} is for MXNet: PyTorch's workers take --kvstore dist_sync")
        raise unknown_name("key-value store", kvstore, KVSTORES)
    missing = [variable for variable in VARIABLES if variable not in os.environ]
    if missing:
        if kvstore in DISTRIBUTED:
            raise InputError(
                f"--kvstore {kvstore} needs other workers ({missing[0]} is not set): start the command with "
                "gluon-aff launch -n WORKERS -- COMMAND, or with torchrun"
            )
        return TorchCluster()
    rank, size, local_rank, local_size, _ = map(whole_number, NUMBERS)
    if not (rank < size and local_rank < local_size <= size):
        raise InputError(
            f"worker {rank} of {size}, {local_rank} of {local_size} on its machine: RANK has to be less than "
            "WORLD_SIZE, and LOCAL_RANK less than LOCAL_WORLD_SIZE; gluon-aff launch sets them"
        )
    if not dist.is_initialized():
        # If parallel training imported it, the group would be a default of its functions, and never end
        import_module("torch.distributed.nn.functional")
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        except (RuntimeError, ValueError) as error:
            raise InputError(f"the workers of this run do not find each other ({last_line(error)})") from None
        atexit.register(leave_cluster)
    return TorchCluster(dist.get_rank(), dist.get_world_size(), local_rank, local_size)


def leave_cluster() -> None:
    """Close the connections to the other workers: if Python ends with gloo's threads running, it may abort.

    They run as long as anything refers to the group, such as a network that was trained in parallel.
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()
