"""Apply attention to one feature, (N, C, H, W) -> (N, C, H, W): SE, GE, CBAM and ECA (AFINets paper, Table 2)."""

from __future__ import annotations

import math
from typing import Callable, Dict

import torch
from torch import Tensor, nn

from gluon_aff.operators import reduced


class SE(nn.Module):
    """Squeeze and excite: multiply x by the sigmoid of two layers applied to its spatial mean (Hu et al. 2018).

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
        """Return the weighted feature, (N, C, H, W)."""
        return x * torch.sigmoid(self.excitation(self.pool(x)))


class GE(nn.Module):
    """Gather and excite, globally and without parameters: x * sigmoid(mean(x)) (GE-theta-minus; Hu et al. 2018).

    Args:
        channels: C; not used.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted feature, (N, C, H, W)."""
        return x * torch.sigmoid(self.pool(x))


class CBAM(SE):
    """Apply channel attention from mean and maximum, then spatial attention by a 7x7 convolution (Woo et al. 2018).

    The arguments are those of SE.
    """

    def __init__(self, channels: int, r: int = 16) -> None:
        super().__init__(channels, r)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted feature, (N, C, H, W)."""
        strongest = x.amax(dim=(2, 3), keepdim=True)
        x = x * torch.sigmoid(self.excitation(self.pool(x)) + self.excitation(strongest))
        both = torch.cat((x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)), dim=1)
        return x * torch.sigmoid(self.spatial(both))


class ECA(nn.Module):
    """Multiply x by the sigmoid of a convolution over the means of neighbouring channels (Wang et al. 2020).

    Args:
        channels: C. It decides the kernel's width: (log2(C) + 1) / 2, rounded down, and the next odd number if that is
            even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = int((math.log2(channels) + 1) / 2)
        width += 1 - width % 2
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.neighbours = nn.Conv2d(1, 1, (1, width), padding=(0, width // 2), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted feature, (N, C, H, W)."""
        means = self.pool(x).transpose(1, 3)  # (N, 1, 1, C)
        return x * torch.sigmoid(self.neighbours(means)).transpose(1, 3)


CHANNEL_ATTENTIONS: Dict[str, Callable[[int], nn.Module]] = {"SE": SE, "GE": GE, "CBAM": CBAM, "ECA": ECA}
