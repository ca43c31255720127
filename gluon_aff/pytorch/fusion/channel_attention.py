"""Attention on one feature (AFINets, Table 2): SE, GE, CBAM, ECA. Shapes: (N, C, H, W) -> (N, C, H, W)."""

from __future__ import annotations

import math
from typing import Callable, Dict

import torch
from torch import Tensor, nn

from gluon_aff.operators import reduced


class SE(nn.Module):
    """Squeeze-and-excitation: x times the sigmoid of two layers on its mean (Hu et al. 2018).

    Args:
        channels: C.
        r: channel reduction ratio.
    """

    def __init__(self, channels: int, r: int = 16) -> None:
        super().__init__()
        hidden = max(reduced(channels, r), 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.excitation = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, attended to."""
        return x * torch.sigmoid(self.excitation(self.pool(x)))


class GE(nn.Module):
    """Gather-excite without parameters and of global extent: x * sigmoid(mean of x) (Hu et al. 2018, theta-minus).

    Args:
        channels: C, which it does not need.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, attended to."""
        return x * torch.sigmoid(self.pool(x))


class CBAM(SE):
    """Channel attention from mean and maximum, then spatial attention by a 7x7 convolution (Woo et al. 2018).

    Arguments as in SE.
    """

    def __init__(self, channels: int, r: int = 16) -> None:
        super().__init__(channels, r)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, attended to."""
        strongest = x.amax(dim=(2, 3), keepdim=True)
        x = x * torch.sigmoid(self.excitation(self.pool(x)) + self.excitation(strongest))
        both = torch.cat((x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)), dim=1)
        return x * torch.sigmoid(self.spatial(both))


class ECA(nn.Module):
    """x times the sigmoid of a convolution over neighbouring channels' means (Wang et al. 2020).

    Args:
        channels: C, which decides the kernel's width: the odd number from (log2(C) + 1) / 2 up.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = int(abs((math.log2(channels) + 1) / 2))
        width += 1 - width % 2
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.neighbours = nn.Conv2d(1, 1, (1, width), padding=(0, width // 2), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, attended to."""
        means = self.pool(x).transpose(1, 3)  # (N, 1, 1, C)
        return x * torch.sigmoid(self.neighbours(means)).transpose(1, 3)


CHANNEL_ATTENTIONS: Dict[str, Callable[[int], nn.Module]] = {"SE": SE, "GE": GE, "CBAM": CBAM, "ECA": ECA}
