"""The workers of a run, and what they tell each other through `torch.distributed`.

Every worker calls the same functions here in the same order; a worker that does not leaves the others waiting.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Callable, List, Sequence

import numpy as np
import torch
import torch.distributed as dist

from gluon_aff.distributed import DISTRIBUTED, KVSTORES, SINGLE
from gluon_aff.engines import Devices
from gluon_aff.errors import InputError, last_line, unknown_name

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # torchrun's


@dataclass(frozen=True)
class TorchCluster:
    """The workers of a run, of which this process is one.

    Attributes:
        rank: number of this worker, 0..size - 1. Worker 0 is the one whose parameters all start with.
        size: how many there are.
        local_rank: number of this worker among those on its machine.
        local_size: how many are on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    def total(self, figures: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Start to sum `figures` over the workers, in place; what is returned waits for it."""
        if self.size == 1:
            return lambda: figures
        work = dist.all_reduce(figures, async_op=True)

        def awaited() -> torch.Tensor:
            work.wait()
            return figures

        return awaited

    def broadcast(self, array: np.ndarray) -> np.ndarray:
        """Worker 0's `array`, for which all workers give one of the same shape and type; bit for bit."""
        if self.size == 1:
            return array
        sent = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
        dist.broadcast(sent, 0)
        return np.frombuffer(sent.numpy().tobytes(), array.dtype).reshape(array.shape)

    def sum(self, figures: Sequence[float]) -> List[float]:
        """Sum of each figure over the workers, in float32."""
        return self.total(torch.tensor(figures, dtype=torch.float32))().tolist()

    def devices(self, all_devices: Devices) -> Devices:
        """This worker's GPU among those that all workers of its machine see; the CPU if there are none.

        Raises:
            InputError: if there are not as many GPUs as workers.
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
    """Meet the other workers of the run, which `gluon-aff launch` or `torchrun` started; there are none without them.

    Args:
        kvstore: one of `KVSTORES` but Horovod. Each worker has one device, so that they all say the same.

    Raises:
        InputError: for Horovod or another name, for a distributed store where nobody started several workers, or if
            they do not find each other.
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
    if not dist.is_initialized():
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        except (RuntimeError, ValueError) as error:
            raise InputError(f"the workers of this run do not find each other ({last_line(error)})") from None
    local = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    return TorchCluster(dist.get_rank(), dist.get_world_size(), *local)
