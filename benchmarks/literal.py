"""Networks and input pipeline in the literal formulation of the original, for comparison.

The networks are ours with other blocks, which compute as the original's do: with global pooling operators, with
broadcast operators even if the shapes are equal, and with two products for each fusion. The pipeline passes each image
through Gluon's transforms, Pillow and NumPy, with an NDArray in between. Tests check that the results equal ours.
"""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock
from mxnet.gluon.data.vision import transforms
from PIL import Image

from gluon_aff.data.autoaugment import CIFAR10_POLICIES, apply_policy
from gluon_aff.data.cifar.augmentation import PADDING, AugmentationDraws
from gluon_aff.data.cifar.files import CIFAR_MEAN, CIFAR_STD
from gluon_aff.gluon.fusion import AFF, iAFF
from gluon_aff.gluon.fusion.context import GlobalAveragePool


class LiteralPool(GlobalAveragePool):
    """Computes the mean of each channel with MXNet's global pooling operator."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the mean of each channel."""
        return F.Pooling(x, kernel=(1, 1), pool_type="avg", global_pool=True)


class LiteralAFF(AFF):
    """Computes AFF (paper, Eq. 4, with the original's factor) with broadcast operators and two products."""

    def hybrid_forward(self, F: Any, x: Any, residual: Any) -> Any:
        """Return scale * (w x + (1 - w) residual)."""
        w = _weight(F, x + residual, self.local_att, self.global_att)
        return self.scale * F.broadcast_mul(x, w) + self.scale * F.broadcast_mul(residual, 1 - w)


class LiteralIAFF(iAFF):
    """Computes iterative AFF (paper, Eq. 4 with 5) with broadcast operators and two products for each fusion."""

    def hybrid_forward(self, F: Any, x: Any, residual: Any) -> Any:
        """Return w' x + (1 - w') residual, where w' is computed from a first fusion of the same kind."""
        w = _weight(F, x + residual, self.local_att, self.global_att)
        integrated = F.broadcast_mul(x, w) + F.broadcast_mul(residual, 1 - w)
        w = _weight(F, integrated, self.local_att2, self.global_att2)
        return F.broadcast_mul(x, w) + F.broadcast_mul(residual, 1 - w)


LITERAL = {GlobalAveragePool: LiteralPool, AFF: LiteralAFF, iAFF: LiteralIAFF}


def literal(net: HybridBlock) -> HybridBlock:
    """Make `net`, which must not have computed anything yet, compute in the literal formulation; return it."""
    net.apply(_make_literal)
    return net


def _make_literal(block: HybridBlock) -> None:
    # The layers stay in place, so that the parameters keep their names; each block becomes a subclass of its own class.
    block.__class__ = LITERAL.get(type(block), type(block))


def _weight(F: Any, features: Any, local_context: Any, global_context: Any) -> Any:
    return F.Activation(F.broadcast_add(local_context(features), global_context(features)), act_type="sigmoid")


def literal_batch(images: mx.nd.NDArray, draws: AugmentationDraws, auto_augment: bool) -> mx.nd.NDArray:
    """Make a training batch image by image.

    Args:
        images: images, uint8 (N, 32, 32, 3).
        draws: random choices for the augmentation of each image.
        auto_augment: apply AutoAugment before crop and flip.

    Returns:
        Normalised images, float32 (N, 3, 32, 32).
    """
    to_input = transforms.Compose([transforms.ToTensor(), transforms.Normalize(CIFAR_MEAN, CIFAR_STD)])
    return mx.nd.stack(*(to_input(_augmented(images[row], draws, row, auto_augment)) for row in range(len(images))))


def _augmented(image: mx.nd.NDArray, draws: AugmentationDraws, row: int, auto_augment: bool) -> mx.nd.NDArray:
    if auto_augment:
        auto = draws.auto
        picture = Image.fromarray(image.asnumpy())
        picture = apply_policy(picture, CIFAR10_POLICIES[auto.policy[row]], auto.uniform[row], auto.sign[row])
        image = _to_nd(np.asarray(picture))
    _, width, _ = image.shape
    padded = _to_nd(np.pad(image.asnumpy(), ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="constant"))
    top, left = (int(number) for number in draws.offset[row])
    image = mx.image.fixed_crop(padded, left, top, width, image.shape[0])
    return mx.nd.image.flip_left_right(image) if draws.flip[row] else image


def _to_nd(pixels: np.ndarray) -> mx.nd.NDArray:
    return mx.nd.array(pixels, dtype="uint8")
