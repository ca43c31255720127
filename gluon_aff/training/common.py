"""What the recipes share."""

from __future__ import annotations

import contextlib
import os
from typing import Callable, Iterable, Iterator, List, Optional, Tuple, TypeVar, Union

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from gluon_aff.data.mixup import draw_mixup_weights
from gluon_aff.data.randomness import Purpose, stream
from gluon_aff.training.cifar_options import CIFARSettings
from gluon_aff.training.imagenet_options import ImageNetSettings
from gluon_aff.weights import save_parameters

SMOOTHING = 0.1
Item = TypeVar("Item")

Settings = Union[CIFARSettings, ImageNetSettings]


def mixup_weights(settings: Settings, epoch: int, steps: int) -> np.ndarray:
    """Weight of each batch of `epoch` against its reverse, (steps,); 1 where nothing is mixed."""
    if not settings.mixup or epoch >= settings.num_epochs - settings.mixup_off_epoch:
        return np.ones(steps)
    return draw_mixup_weights(settings.mixup_alpha, int(settings.seed or 0), epoch, steps)


def reseeding(batches: Iterable[Item], seed: int, epoch: int, first: int) -> Iterator[Item]:
    """The batches of an epoch from the `first` on, MXNet's random numbers seeded for each.

    Their state cannot be kept: a run that goes on has the same dropout because of this.
    """
    seeds = stream(seed, epoch, Purpose.MXNET)
    seeds.integers(2**31, size=first)
    for batch in batches:
        mx.random.seed(int(seeds.integers(2**31)))
        yield batch


def infer_shapes(net: HybridBlock, shape: Tuple[int, ...], context: mx.Context, dtype: str = "float32") -> None:
    """Give all parameters their arrays, without a forward pass, which an image may be too small for.

    Args:
        net: initialised network.
        shape: (N, 3, H, W) of a batch.
        context: where an array of it is made.
        dtype: of the batch.
    """
    net.infer_shape(mx.nd.zeros(shape, ctx=context, dtype=dtype))
    for parameter in net.collect_params().values():
        parameter._finish_deferred_init()


def exempt_from_decay(net: HybridBlock) -> None:
    """Leave betas, gammas and biases out of weight decay (the original's --no-wd)."""
    for parameter in net.collect_params(".*beta|.*gamma|.*bias").values():
        parameter.wd_mult = 0.0


def network_to_validate(
    build: Callable[[], HybridBlock], contexts: List[mx.Context], dtype: str, hybridize: bool
) -> HybridBlock:
    """A second network to copy the trained parameters to.

    On CPUs, oneDNN reorders the weights of a network that infers, which changes the rounding of its later updates, by
    chance: the trained one never infers.
    """
    net = build()
    net.cast(dtype)
    net.initialize(ctx=contexts)
    net.hybridize(hybridize)
    return net


def save_best(net: HybridBlock, save_dir: str, name: str, score: float, superseded: Optional[str]) -> str:
    """Write `{save_dir}/{score:.4f}-{name}-best.params`, then remove the file that is `superseded`; return the path."""
    path = os.path.join(save_dir, f"{score:.4f}-{name}-best.params")
    save_parameters(net, path)
    if superseded not in (None, path):
        with contextlib.suppress(FileNotFoundError):  # a run that was killed after this, and goes on from before
            os.remove(str(superseded))
    return path
