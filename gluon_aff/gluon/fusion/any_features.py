"""Fuse two or more features of any width and size, for networks of the user's own."""

from __future__ import annotations

from functools import partial
from typing import Any, Optional, Sequence

from mxnet.gluon import HybridBlock, nn

from gluon_aff.gluon.fusion.context import Norm, add_to_maps, context_branch, sequential
from gluon_aff.gluon.fusion.operators import Fusing
from gluon_aff.operators import BRANCHES, check_features

# LayerNorm works with a single image in training, where BatchNorm returns a constant for the pooled map.
layer_norm = partial(nn.LayerNorm, axis=1)


def resized_like(F: Any, maps: Any, other: Any) -> Any:
    """Resize `maps`, (N, C, H, W), to the height and width of `other`.

    The interpolation is bilinear and keeps corners in place, as in the original.
    """
    return F.contrib.BilinearResize2D(maps, other, mode="like", align_corners=True)


def projection_to(channels: int, in_channels: int, norm: Norm) -> nn.HybridSequential:
    """Return a 1x1 convolution with bias, followed by normalisation and ReLU."""
    return sequential(
        nn.Conv2D(channels, 1, in_channels=in_channels), norm(in_channels=channels), nn.Activation("relu")
    )


class FeatureFusion(HybridBlock):
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
        norm: makes a normalisation layer from `in_channels`. The default, LayerNorm, works with a single image in
            training, where BatchNorm turns the global context into a constant.

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
        norm: Norm = layer_norm,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_features(in_channels, way)
        width = channels or in_channels[0]
        with self.name_scope():
            # In a chain without layers the feature passes unchanged
            self.projections = sequential(
                *(sequential() if each == width else projection_to(width, each, norm) for each in in_channels)
            )
            if way == "chain":
                self.fuse: HybridBlock = _Chain(Fusing(operator, r, scale, norm_layer=norm), len(in_channels), width)
            else:
                self.fuse = SoftmaxSelection(len(in_channels), width, r, norm, scale)

    def hybrid_forward(self, F: Any, x: Any, *others: Any) -> Any:
        """Return the fused feature, (N, channels, H_1, W_1)."""
        first, *rest = (project(each) for project, each in zip(self.projections, (x, *others)))
        return self.fuse(first, *(resized_like(F, each, first) for each in rest))


class _Chain(HybridBlock):
    """Fuse the last two of n features (N, channels, H, W), then the result with the feature before, and so on."""

    def __init__(self, fusing: Fusing, features: int, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.fusions = sequential(*(fusing(channels) for _ in range(features - 1)))

    def hybrid_forward(self, F: Any, *features: Any) -> Any:
        *before, fused = features
        for fuse, each in zip(self.fusions, reversed(before)):
            fused = fuse(fused, each)
        return fused


class SoftmaxSelection(HybridBlock):
    """Sum n features with weights: scale * sum of w_i X_i, where the w_i come from a softmax over the features.

    The logits of the softmax are n local contexts plus n global contexts of the sum of all X_i. With n = 2 this is AFF
    with a logit for each feature.

    Shapes: n features and output (N, channels, H, W).

    Args:
        features: n.
        channels: C.
        r: channel reduction ratio.
        norm: makes a normalisation layer from `in_channels`.
        scale: factor on the sum. If None, n.
    """

    def __init__(
        self, features: int, channels: int, r: int, norm: Norm, scale: Optional[float] = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.scale = features if scale is None else scale
        self._features = features
        with self.name_scope():
            self.local_att, self.global_att = (
                context_branch(channels, r, branch=branch, norm=norm, outputs=features * channels)
                for branch in BRANCHES
            )

    def hybrid_forward(self, F: Any, *features: Any) -> Any:
        """Return the weighted sum of n features, (N, channels, H, W)."""
        total = sum(features[1:], features[0])
        logits = add_to_maps(F, self.local_att(total), self.global_att(total))
        weights = F.softmax(F.reshape(logits, shape=(0, -4, self._features, -1, -2)), axis=1)
        return self.scale * F.sum(weights * F.stack(*features, axis=1), axis=1)
