"""Build the layers that the networks share. All maps are (N, C, H, W)."""

from __future__ import annotations

from typing import Any, List, Type

import mxnet as mx
from mxnet import autograd, init
from mxnet.gluon import HybridBlock, nn

from gluon_aff.gluon.fusion.context import Norm, sequential
from gluon_aff.models import check_classes


def conv1x1(channels: int, in_channels: int, stride: int = 1) -> nn.Conv2D:
    """Return a 1x1 convolution without bias."""
    return nn.Conv2D(channels, 1, stride, in_channels=in_channels, use_bias=False)


def conv3x3(channels: int, in_channels: int = 0, stride: int = 1, dilation: int = 1, cardinality: int = 1) -> nn.Conv2D:
    """Return a 3x3 convolution without bias that keeps the size at stride 1; 0 infers `in_channels` from the input."""
    return nn.Conv2D(channels, 3, stride, dilation, dilation, cardinality, in_channels=in_channels, use_bias=False)


def relu() -> nn.Activation:
    """Return a new ReLU layer."""
    return nn.Activation("relu")


def cifar_stem(channels: int, deep: bool, norm: Norm) -> list:
    """Return a 3x3 convolution of stride 1, or if `deep` three, with BN and ReLU between."""
    return _deep_stem(channels // 2, channels, 1, norm) if deep else [conv3x3(channels)]


def imagenet_stem(width: int, out_width: int, deep: bool, norm: Norm) -> list:
    """Return a 7x7 convolution of stride 2, or if `deep` three 3x3, the first of stride 2, with BN and ReLU between."""
    return _deep_stem(width, out_width, 2, norm) if deep else [nn.Conv2D(out_width, 7, 2, 3, use_bias=False)]


def _deep_stem(width: int, out_width: int, stride: int, norm: Norm) -> list:
    """Return 3x3 (stride), BN, ReLU, 3x3, BN, ReLU, and a 3x3 convolution to `out_width` channels."""
    return [
        conv3x3(width, stride=stride),
        norm(in_channels=width),
        relu(),
        conv3x3(width, width),
        norm(in_channels=width),
        relu(),
        conv3x3(out_width, width),
    ]


def average_pool(stride: int) -> nn.AvgPool2D:
    """Return an average pool that rounds sizes up and excludes padding from the mean."""
    return nn.AvgPool2D(stride, stride, ceil_mode=True, count_include_pad=False)


def projection(channels: int, in_channels: int, stride: int, norm: Norm, avg_down: bool) -> nn.HybridSequential:
    """Return the shortcut to another width or size: average pool, 1x1, BN, or without `avg_down` strided 1x1, BN."""
    if avg_down:
        return sequential(average_pool(stride), conv1x1(channels, in_channels), norm(in_channels=channels))
    return sequential(conv1x1(channels, in_channels, stride), norm(in_channels=channels))


def initial_gamma(zero: bool) -> str:
    """Return the initializer of a block's last gamma. With zeros, the block starts as its shortcut."""
    return "zeros" if zero else "ones"


class WithHead(HybridBlock):
    """Let a network replace its head, the dense layer in its attribute `head_name`."""

    head_name: str

    def reset_classifier(self, classes: int) -> None:
        """Replace the head by a new one with `classes` outputs, on the same devices.

        The new weights are drawn by Xavier initialisation if the old ones were initialised. Otherwise they have to be
        initialised.

        Raises:
            InputError: `classes` is not a whole number from 1.
        """
        check_classes(classes)
        old = getattr(self, self.head_name)
        with self.name_scope():
            head = nn.Dense(classes, in_units=old.weight.shape[1], prefix=old.prefix[len(self.prefix) :])
        if old.weight._data is not None:
            head.initialize(init.Xavier(), ctx=old.weight.list_ctx())
        head.cast(old.weight.dtype)
        setattr(self, self.head_name, head)


class Classifier(WithHead):
    """Classify images with `features` and a dense layer `output`: (N, 3, H, W) -> (N, classes) logits."""

    head_name = "output"
    stage_class: Type[HybridBlock] = nn.HybridSequential  # class of the features that are stages
    features: nn.HybridSequential
    output: nn.Dense

    def stages(self) -> List[List[HybridBlock]]:
        """Return the layers that lead to the end of each stage, starting after the previous stage."""
        stages: List[List[HybridBlock]] = [[]]
        for layer in self.features:
            stages[-1].append(layer)
            if isinstance(layer, self.stage_class):
                stages.append([])
        return stages[:-1]

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the logits, (N, classes)."""
        return self.output(self.features(x))


class NormalisesInput(HybridBlock):
    """Let a network start with a BatchNorm of its images, without scale and centre."""

    def forward(self, x: Any, *args: Any) -> Any:
        """Return the network's output for images, (N, 3, H, W)."""
        return super().forward(asking_for_gradient(x), *args)


def asking_for_gradient(x: Any) -> Any:
    """Return `x`, with a gradient attached if it would have none while operations are recorded on the CPU.

    MXNet's CPU BatchNorm updates its running statistics in the backward pass, which it skips if no input needs a
    gradient (apache/mxnet#18673). The statistics of the first BatchNorm, without scale and centre, would then stay at 0
    and 1.
    """
    if not (isinstance(x, mx.nd.NDArray) and autograd.is_recording()):
        return x
    if x.context.device_type != "cpu" or _is_recorded(x):
        return x
    x = x.detach()
    x.attach_grad()
    return x


def _is_recorded(x: mx.nd.NDArray) -> bool:
    try:
        autograd.get_symbol(x)
    except mx.MXNetError:
        return False
    return True
