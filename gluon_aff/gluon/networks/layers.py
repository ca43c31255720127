"""Layers the hosts share. Shapes are (N, C, H, W)."""

from __future__ import annotations

from typing import Any, List, Type

import mxnet as mx
from mxnet import autograd, init
from mxnet.gluon import HybridBlock, nn

from gluon_aff.gluon.fusion.context import Norm, sequential
from gluon_aff.models import check_classes


def conv1x1(channels: int, in_channels: int, stride: int = 1) -> nn.Conv2D:
    """1x1 convolution without bias."""
    return nn.Conv2D(channels, 1, stride, in_channels=in_channels, use_bias=False)


def conv3x3(channels: int, in_channels: int = 0, stride: int = 1, dilation: int = 1, cardinality: int = 1) -> nn.Conv2D:
    """3x3 convolution without bias that keeps the size at stride 1; `in_channels` 0 takes the input's."""
    return nn.Conv2D(channels, 3, stride, dilation, dilation, cardinality, in_channels=in_channels, use_bias=False)


def relu() -> nn.Activation:
    """ReLU."""
    return nn.Activation("relu")


def cifar_stem(channels: int, deep: bool, norm: Norm) -> list:
    """One 3x3, or three with BN and ReLU between, at stride 1."""
    return _deep_stem(channels // 2, channels, 1, norm) if deep else [conv3x3(channels)]


def imagenet_stem(width: int, out_width: int, deep: bool, norm: Norm) -> list:
    """One 7x7, or three 3x3 with BN and ReLU between, of which the first strides by 2."""
    return _deep_stem(width, out_width, 2, norm) if deep else [nn.Conv2D(out_width, 7, 2, 3, use_bias=False)]


def _deep_stem(width: int, out_width: int, stride: int, norm: Norm) -> list:
    """3x3 (stride), BN, ReLU, 3x3, BN, ReLU, 3x3 to `out_width`."""
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
    """Average pool that rounds sizes up and leaves padding out of the mean."""
    return nn.AvgPool2D(stride, stride, ceil_mode=True, count_include_pad=False)


def projection(channels: int, in_channels: int, stride: int, norm: Norm, avg_down: bool) -> nn.HybridSequential:
    """Shortcut of another width or size: average pool, 1x1, BN; or strided 1x1, BN without `avg_down`."""
    if avg_down:
        return sequential(average_pool(stride), conv1x1(channels, in_channels), norm(in_channels=channels))
    return sequential(conv1x1(channels, in_channels, stride), norm(in_channels=channels))


def initial_gamma(zero: bool) -> str:
    """Initializer of a block's last gamma: zero makes the block start as its shortcut."""
    return "zeros" if zero else "ones"


class WithHead(HybridBlock):
    """Network that ends in a dense layer, its attribute called `head_name`."""

    head_name: str

    def reset_classifier(self, classes: int) -> None:
        """Put a new head of `classes` outputs in place of the old one, on its devices.

        Its weights are Xavier's if the old ones were initialised, and to be initialised otherwise.

        Raises:
            InputError: if `classes` is no whole number from 1.
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
    """Network of `features` and a dense `output`, (N, 3, H, W) -> (N, classes)."""

    head_name = "output"
    stage_class: Type[HybridBlock] = nn.HybridSequential  # which of the features are stages
    features: nn.HybridSequential
    output: nn.Dense

    def stages(self) -> List[List[HybridBlock]]:
        """Layers up to the end of each stage, from the stage before on."""
        stages: List[List[HybridBlock]] = [[]]
        for layer in self.features:
            stages[-1].append(layer)
            if isinstance(layer, self.stage_class):
                stages.append([])
        return stages[:-1]

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the logits."""
        return self.output(self.features(x))


class NormalisesInput(HybridBlock):
    """Network whose first layer is a BatchNorm of its images, without scale and centre."""

    def forward(self, x: Any, *args: Any) -> Any:
        """Return the network's output."""
        return super().forward(asking_for_gradient(x), *args)


def asking_for_gradient(x: Any) -> Any:
    """Return `x`, which gets a gradient where it would have none while training on the CPU.

    MXNet's CPU BatchNorm updates its running statistics in the backward pass, which is left out where no input needs
    a gradient (apache/mxnet#18673): those of the first BatchNorm, without scale and centre, would stay at 0 and 1.
    """
    if not (isinstance(x, mx.nd.NDArray) and autograd.is_recording() and autograd.is_training()):
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
