"""The door to the frameworks: what the package asks of one, in NumPy arrays and plain settings.

Everything outside of `gluon/` reaches MXNet through `engine()` only, and knows neither its arrays nor its networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Callable, Dict, List, Protocol, Tuple, cast

import numpy as np

from gluon_aff.models import Architecture

# Waits for a result that is being computed.
Awaited = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Devices:
    """What a process computes on.

    Attributes:
        kind: cpu or gpu.
        numbers: of the devices; each takes an equal slice of a batch, or nearly.
    """

    kind: str = "cpu"
    numbers: Tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def names(self) -> List[str]:
        """As logs have them, such as gpu(0)."""
        return [f"{self.kind}({number})" for number in self.numbers]

    def share(self, rank: int, size: int) -> Devices:
        """Those of the process of that rank among `size`."""
        return Devices(self.kind, self.numbers[rank::size])


class Network(Protocol):
    """A network with its parameters, on its devices."""

    def infer(self, images: np.ndarray) -> Awaited:
        """Start on images, float32 (N, 3, H, W); what is returned waits for the outputs, float32 (N, ...)."""

    def parameters(self) -> Dict[str, np.ndarray]:
        """Values by the names that `.params` files have, means over the devices."""


class Engine(Protocol):
    """A framework; a module satisfies it."""

    NAME: str
    VERSION: str

    def find_devices(self, gpus: str, strict: bool = False) -> Tuple[Devices, str]:
        """Devices for `--gpus` (comma-separated ids), the CPU if there are no GPUs, and a line that says which.

        Raises:
            InputError: the text is no list of ids, or the framework cannot use what it names.
        """

    def arguments(self, architecture: Architecture) -> Dict[str, Any]:
        """All arguments of its host, those not given with their defaults; the same for the same network."""

    def parameter_shapes(self, architecture: Architecture) -> Dict[str, Tuple[int, ...]]:
        """Shapes by the names that `.params` files have; 0 stands for a size that only an image tells."""


def engine() -> Engine:
    """The framework of this machine."""
    return cast(Engine, import_module("gluon_aff.gluon.engine"))
