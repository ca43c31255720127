"""Sum the channels of a layer for each class; the class selectivity index is computed from these sums."""

from __future__ import annotations

from typing import Callable, Iterable, List, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gluon_aff.engines import Channels
from gluon_aff.errors import InputError
from gluon_aff.pytorch.devices import on_device
from gluon_aff.pytorch.inspection.layers import layer_called, outputs_of


def channel_sums(
    net: nn.Module,
    channels: Channels,
    batches: Iterable[Tuple[np.ndarray, np.ndarray]],
    classes: int,
    advance: Callable[[int], object],
) -> Tuple[np.ndarray, float]:
    """Sum channels of `net`, in inference mode, as `gluon_aff.engines.Network.channel_sums` says."""
    sums: Optional[Tensor] = None
    lowest: Optional[Tensor] = None
    with outputs_of(layer_called(net, channels.layer)) as outputs, torch.no_grad():
        for images, labels in batches:
            net(on_device(images, net))
            values = _checked(outputs, channels).float()
            outputs.clear()
            hot = F.one_hot(torch.from_numpy(labels).to(values.device, torch.int64), classes).double()
            added = hot.T @ (values.mean(dim=(2, 3)) if values.dim() == 4 else values).double()
            sums = added if sums is None else sums + added
            lowest = values.min() if lowest is None else torch.minimum(lowest, values.min())
            advance(len(labels))
    assert sums is not None
    assert lowest is not None
    return sums.cpu().numpy(), lowest.item()


def _checked(outputs: List[Tensor], channels: Channels) -> Tensor:
    """Return the chosen channels of a layer's last output, (N, C, H, W) or (N, C).

    Raises:
        InputError: there is no output, or it lacks one of the channels.
    """
    output = outputs[-1] if outputs else None
    if output is None or output.dim() not in (2, 4):
        raise InputError(f"--layer {channels.layer}: its output is not a feature; name a convolution, ReLU or stage")
    end = output.shape[1] if channels.end is None else channels.end
    if not channels.begin < end <= output.shape[1]:
        raise InputError(f"--layer {channels}: the layer has channels 0 to {output.shape[1] - 1}")
    return output[:, channels.begin : end]
