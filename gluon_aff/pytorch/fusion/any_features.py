"""Fuse two or more features of any width and size, for networks of the user's own."""

from __future__ import annotations

from typing import List, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gluon_aff.operators import BRANCHES, check_features
from gluon_aff.pytorch.fusion.attention import NormLayer, context_branch
from gluon_aff.pytorch.fusion.operators import Fusing


class LayerNorm2d(nn.LayerNorm):
    """Normalise the channels of (N, C, H, W) at each position.

    LayerNorm works with a single image in training, where BatchNorm has nothing to normalise the pooled map by.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised maps, (N, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def resized_like(maps: Tensor, other: Tensor) -> Tensor:
    """Resize `maps`, (N, C, H, W), to the height and width of `other`.

    The interpolation is bilinear and keeps corners in place, as in the original.
    """
    return F.interpolate(maps, size=other.shape[-2:], mode="bilinear", align_corners=True)


def projection_to(channels: int, in_channels: int, norm_layer: NormLayer) -> nn.Sequential:
    """Return a 1x1 convolution with bias, followed by normalisation and ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1), norm_layer(channels), nn.ReLU(inplace=True))


class FeatureFusion(nn.Module):
    """Fuse features of different widths and sizes.

    Shapes: n features (N, in_channels[i], H_i, W_i), passed one after another, -> (N, channels, H_1, W_1). The first
    feature is the paper's X, which has the smallest receptive field (lowest level, 3x3 branch, shortcut). The last one
    is its Y, which has the largest. Features of another width than `channels` are projected to it, and all features are
    resized to the first one.

    Args:
        in_channels: channels of each feature; two features or more.
        channels: channels of the output. If None, those of the first feature.
        operator: fusion of two features, by the paper's name or the original's `--askc-type`. It has no effect with
            'softmax'.
        way: 'chain' fuses the last two features, then the result with the feature before, and so on. 'softmax' weights
            all features at once, by a softmax over local and global contexts of their sum; this is the selection of AFF
            for n features.
        r: channel reduction ratio of the context branches.
        scale: factor on each selection. If None, the number of features that it selects from, so that equal weights
            give their sum; 1 for iAFF.
        norm_layer: makes a normalisation layer from a number of channels. The default, LayerNorm, works with a single
            image in training, where BatchNorm raises ValueError.

    Raises:
        InputError: there are fewer than two features, the operator or way is unknown, or `r` leaves no channel.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: Optional[int] = None,
        operator: str = "AFF",
        *,
        way: str = "chain",
        r: int = 4,
        scale: Optional[float] = None,
        norm_layer: NormLayer = LayerNorm2d,
    ) -> None:
        super().__init__()
        check_features(in_channels, way)
        width = channels or in_channels[0]
        self.projections = nn.ModuleList(
            nn.Sequential() if each == width else projection_to(width, each, norm_layer) for each in in_channels
        )
        if way == "chain":
            fusing = Fusing(operator, r, scale, norm_layer=norm_layer)
            self.fuse: nn.Module = Chain([fusing(width) for _ in in_channels[1:]])
        else:
            self.fuse = SoftmaxSelection(len(in_channels), width, r, norm_layer, scale)

    def forward(self, *features: Tensor) -> Tensor:
        """Return the fused feature, (N, channels, H_1, W_1)."""
        first, *rest = (project(each) for project, each in zip(self.projections, features))
        return self.fuse(first, *(resized_like(each, first) for each in rest))


class Chain(nn.Module):
    """Fuse the last two of n features (N, channels, H, W), then the result with the feature before, and so on."""

    def __init__(self, fusions: List[nn.Module]) -> None:
        super().__init__()
        self.fusions = nn.ModuleList(fusions)

    def forward(self, *features: Tensor) -> Tensor:
        """Return the fused feature, (N, channels, H, W)."""
        *before, fused = features
        for fuse, each in zip(self.fusions, reversed(before)):
            fused = fuse(fused, each)
        return fused


class SoftmaxSelection(nn.Module):
    """Sum n features with weights: scale * sum of w_i X_i, where the w_i come from a softmax over the features.

    The logits of the softmax are n local contexts plus n global contexts of the sum of all X_i. With n = 2 this is AFF
    with a logit for each feature.

    Shapes: n features and output (N, channels, H, W).

    Args:
        features: n.
        channels: C.
        r: channel reduction ratio.
        norm_layer: makes a normalisation layer from a number of channels.
        scale: factor on the sum. If None, n.
    """

    def __init__(
        self, features: int, channels: int, r: int, norm_layer: NormLayer, scale: Optional[float] = None
    ) -> None:
        super().__init__()
        self.features = features
        self.scale = features if scale is None else scale
        self.local_att, self.global_att = (
            context_branch(channels, r, branch=each, norm_layer=norm_layer, outputs=features * channels)
            for each in BRANCHES
        )

    def forward(self, *features: Tensor) -> Tensor:
        """Return the weighted sum of n features, (N, channels, H, W)."""
        total = sum(features[1:], features[0])
        logits = self.local_att(total) + self.global_att(total)
        weights = logits.unflatten(1, (self.features, -1)).softmax(dim=1)
        return self.scale * (weights * torch.stack(features, dim=1)).sum(dim=1)
