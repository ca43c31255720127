"""Fusion of two or more features of any width and size, for networks of the user's own."""

from __future__ import annotations

from functools import partial
from typing import Any, Optional, Sequence

from mxnet.gluon import HybridBlock, nn

from gluon_aff.gluon.fusion.context import Norm, add_to_maps, context_branch, sequential
from gluon_aff.gluon.fusion.operators import Fusing
from gluon_aff.operators import BRANCHES, check_features

# Normalises each sample by itself; BatchNorm returns a constant for the pooled map of one image while training.
layer_norm = partial(nn.LayerNorm, axis=1)


def resized_like(F: Any, maps: Any, other: Any) -> Any:
    """`maps` (N, C, H, W) in the height and width of `other`, bilinear; corners stay corners, as in the original."""
    return F.contrib.BilinearResize2D(maps, other, mode="like", align_corners=True)


def projection_to(channels: int, in_channels: int, norm: Norm) -> nn.HybridSequential:
    """1x1 convolution with bias, normalisation, ReLU."""
    return sequential(
        nn.Conv2D(channels, 1, in_channels=in_channels), norm(in_channels=channels), nn.Activation("relu")
    )


class FeatureFusion(HybridBlock):
    """Features of different widths and sizes in one.

    Shapes: n features (N, in_channels[i], H_i, W_i), given one after another, -> (N, channels, H_1, W_1). The first is
    the paper's X of the smallest receptive field (lowest level, 3x3 branch, shortcut), the last its Y of the largest.
    Those of other widths are projected, the later ones resized to the first.

    Args:
        in_channels: widths, two or more.
        channels: of the output; the first feature's if None.
        operator: fusion of a pair, by the paper's name or the original's flag. With 'softmax' there is none to choose.
        way: 'chain' fuses the last two, the result with the one before, and so on; 'softmax' weighs all at once, by
            a softmax over as many local and global contexts of their sum: the selection of AFF for n features.
        r: channel reduction ratio of the context branches.
        scale: factor on each selection. If None, as many as it selects from, so that equal weights make a sum; 1 for
            iAFF.
        norm: makes a normalisation layer from `in_channels`. The default works with one image in training, where
            BatchNorm would silence global contexts.

    Raises:
        InputError: for fewer than two features, an unknown operator or way, or an `r` that leaves no channel.
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
            # A chain without layers hands on what it gets
            self.projections = sequential(
                *(sequential() if each == width else projection_to(width, each, norm) for each in in_channels)
            )
            if way == "chain":
                self.fuse: HybridBlock = _Chain(Fusing(operator, r, scale, norm_layer=norm), len(in_channels), width)
            else:
                self.fuse = SoftmaxSelection(len(in_channels), width, r, norm, scale)

    def hybrid_forward(self, F: Any, x: Any, *others: Any) -> Any:
        """Fuse."""
        first, *rest = (project(each) for project, each in zip(self.projections, (x, *others)))
        return self.fuse(first, *(resized_like(F, each, first) for each in rest))


class _Chain(HybridBlock):
    """The last two of n features (N, channels, H, W) fused, the result with the one before, and so on."""

    def __init__(self, fusing: Fusing, features: int, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.fusions = sequential(*(fusing(channels) for _ in range(features - 1)))

    def hybrid_forward(self, F: Any, *features: Any) -> Any:
        """Fuse."""
        *before, fused = features
        for fuse, each in zip(self.fusions, reversed(before)):
            fused = fuse(fused, each)
        return fused


class SoftmaxSelection(HybridBlock):
    """scale * sum of w_i X_i, the w_i a softmax over n local plus global contexts of the sum of all X_i.

    Shapes: n features and output (N, channels, H, W). For n = 2, AFF with a logit for each.

    Args:
        features: n.
        channels: C.
        r: channel reduction ratio.
        norm: makes a normalisation layer from `in_channels`.
        scale: n if None.
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
        """Select."""
        total = sum(features[1:], features[0])
        logits = add_to_maps(F, self.local_att(total), self.global_att(total))
        weights = F.softmax(F.reshape(logits, shape=(0, -4, self._features, -1, -2)), axis=1)
        return self.scale * F.sum(weights * F.stack(*features, axis=1), axis=1)
