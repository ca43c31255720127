"""Build the layers, and the methods, that the networks share. All maps are (N, C, H, W)."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Callable, ContextManager, Iterator, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from gluon_aff.models import check_classes
from gluon_aff.pytorch.fusion.attention import NormLayer

PRELU_SLOPE = 0.25  # MXNet's default


def conv1x1(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 1x1 convolution without bias."""
    return nn.Conv2d(in_channels, channels, 1, stride, bias=False)


def conv3x3(in_channels: int, channels: int, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(in_channels, channels, 3, stride, dilation, dilation, groups, bias=False)


def relu() -> nn.ReLU:
    """Return a new ReLU layer."""
    return nn.ReLU(inplace=True)


def cifar_stem(channels: int, deep: bool, norm_layer: NormLayer) -> List[nn.Module]:
    """Return a 3x3 convolution of stride 1, or if `deep` three, with BN and ReLU between."""
    return _deep_stem(channels // 2, channels, 1, norm_layer) if deep else [conv3x3(3, channels)]


def imagenet_stem(width: int, out_width: int, deep: bool, norm_layer: NormLayer) -> List[nn.Module]:
    """Return a 7x7 convolution of stride 2, or if `deep` three 3x3, the first of stride 2, with BN and ReLU between."""
    return _deep_stem(width, out_width, 2, norm_layer) if deep else [nn.Conv2d(3, out_width, 7, 2, 3, bias=False)]


def _deep_stem(width: int, out_width: int, stride: int, norm_layer: NormLayer) -> List[nn.Module]:
    return [
        conv3x3(3, width, stride),
        norm_layer(width),
        relu(),
        conv3x3(width, width),
        norm_layer(width),
        relu(),
        conv3x3(width, out_width),
    ]


def average_pool(stride: int) -> nn.AvgPool2d:
    """Return an average pool that rounds sizes up and excludes padding from the mean."""
    return nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)


def projection(in_channels: int, channels: int, stride: int, norm_layer: NormLayer, avg_down: bool) -> nn.Sequential:
    """Return the shortcut to another width or size: average pool, 1x1, BN, or without `avg_down` strided 1x1, BN."""
    if avg_down:
        return nn.Sequential(average_pool(stride), conv1x1(in_channels, channels), norm_layer(channels))
    return nn.Sequential(conv1x1(in_channels, channels, stride), norm_layer(channels))


class ImageNorm(nn.BatchNorm2d):
    """Normalise images: the first layer of the CIFAR ResNet, the Inception-ResNet and the feature pyramid.

    In MXNet it is a BatchNorm with `scale=False, center=False`. Its gamma is in the weight files but counts as 1. Its
    beta is in the files and is used, but not trained.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__(channels)
        self.weight.requires_grad_(False)
        self.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised images, (N, 3, H, W)."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, None, self.bias, self.training, self.momentum or 0.0, self.eps
        )


def initialise(net: nn.Module, initializer: str = "xavier") -> None:
    """Initialise convolutions and dense layers from the distributions that MXNet draws from; biases are 0.

    Args:
        net: module with the layers.
        initializer: 'xavier' (Glorot and Bengio, 2010; uniform) or 'msraprelu' (He et al., 2015, arXiv:1502.01852;
            normal, for a PReLU of slope 0.25). Both use the mean of fan-in and fan-out.
    """
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            if initializer == "xavier":
                nn.init.xavier_uniform_(module.weight)
            else:  # Xavier's normal weights have the variance 1 / (mean of fan-in and fan-out)
                nn.init.xavier_normal_(module.weight, math.sqrt(2 / (1 + PRELU_SLOPE**2)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def image_dtype(net: nn.Module) -> torch.dtype:
    """Return the type of the network's images, which is that of its convolutions; BatchNorm may stay float32."""
    layers = (module for module in net.modules() if isinstance(module, (nn.Conv2d, nn.Linear)))
    return next((layer.weight.dtype for layer in layers), torch.float32)


def zero_gamma(norm: Any) -> Any:
    """Set the gamma of `norm` to zero and return `norm`, so that the block that it ends starts as its shortcut."""
    nn.init.zeros_(norm.weight)
    return norm


class Network(nn.Module):
    """Give every network its stages and gradient checkpointing.

    Attributes:
        grad_checkpointing: whether blocks are computed again in the backward pass of training, instead of keeping their
            activations.
    """

    grad_checkpointing = False

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass of training, which takes less memory and a third more time."""
        self.grad_checkpointing = enable

    def stages(self) -> List[List[nn.Module]]:
        """Return the modules that lead to the end of each stage, starting after the previous stage."""
        raise NotImplementedError

    def run_stage(self, modules: List[nn.Module], x: Tensor) -> Tensor:
        """Apply the modules to `x` one after another, and return the result; the last module is the stage itself."""
        *before, stage = modules
        for module in before:
            x = module(x)
        if not (self.grad_checkpointing and self.training):
            return stage(x)
        for block in stage if isinstance(stage, nn.Sequential) else [stage]:
            x = checkpoint(block, x, use_reentrant=False, context_fn=_contexts_for(block))
        return x


def _contexts_for(block: nn.Module) -> Callable[[], Tuple[ContextManager, ContextManager]]:
    """Return the contexts of a block's two runs. The second run leaves the running statistics as they are."""
    return lambda: (contextlib.nullcontext(), _running_statistics_kept(block))


@contextlib.contextmanager
def _running_statistics_kept(block: nn.Module) -> Iterator[None]:
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum


class Classifier(Network):
    """Classify images by averaging the last maps for a dense layer, with timm's methods: (N, 3, H, W) -> (N, classes).

    Attributes:
        head_name: name of the attribute with the dense layer.
        num_features: channels of the last maps.
        num_classes: number of outputs; 0 without a head.
    """

    head_name = "output"
    num_features: int
    num_classes: int

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last maps, (N, num_features, h, w)."""
        for modules in self.stages():
            x = self.run_stage(modules, x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (N, classes) for the last maps, or the head's input (N, num_features) if `pre_logits`."""
        x = self.pool(x).flatten(1)
        return x if pre_logits else self.get_classifier()(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, (N, classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the dense layer, or nn.Identity if there is none."""
        return getattr(self, self.head_name)

    def reset_classifier(self, num_classes: int, global_pool: Optional[str] = None) -> None:
        """Replace the head by a new one with `num_classes` outputs, on the same device and of the same type.

        Args:
            num_classes: number of outputs. 0 removes the head.
            global_pool: accepted for timm's signature. The pooling is always 'avg'.

        Raises:
            InputError: `num_classes` is not a whole number from 0.
        """
        if num_classes != 0:
            check_classes(num_classes)
        device, dtype = next(self.parameters()).device, image_dtype(self)
        self.num_classes = num_classes
        head: nn.Module = nn.Identity()
        if num_classes:
            head = nn.Linear(self.num_features, num_classes)
            initialise(head)
        setattr(self, self.head_name, head.to(device, dtype))
