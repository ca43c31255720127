"""Build networks by name; `get_model` is the function for users."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Callable, Dict, Optional, Sequence, Union

import mxnet as mx
from mxnet.gluon import HybridBlock

from gluon_aff.builders import all_arguments, fused, integrated
from gluon_aff.errors import unknown_name
from gluon_aff.gluon.fusion import Fusing
from gluon_aff.gluon.networks.afi import (
    afi_imagenet_resnet,
    afi_mobilenet_v2,
    afi_resnet,
    afi_resnext29,
    afi_shufflenet_v2,
)
from gluon_aff.gluon.networks.cifar_resnet import CIFARAFFResNet
from gluon_aff.gluon.networks.features import FeatureMaps
from gluon_aff.gluon.networks.fpn import AFFFPN
from gluon_aff.gluon.networks.inception import InceptionResNet
from gluon_aff.gluon.networks.resnet import AFFResNet
from gluon_aff.gluon.networks.resnext import AFFResNeXt, CIFARAFFResNeXt
from gluon_aff.gluon.parameters import load_parameters
from gluon_aff.models import (
    CIFAR_WIDTHS,
    FPN_WIDTHS,
    SEGMENTATION_HOST,
    Architecture,
    cifar_cardinality,
    model_record,
)
from gluon_aff.printing import printable
from gluon_aff.registry import implementation
from gluon_aff.weights.store import pretrained_file

DTYPES = ("float32", "float16")


@fused(Fusing(r=4))
def cifar_resnet(
    fusing: Fusing, blocks: int, channel_times: int, start_layer: int = 1, classes: int = 100, **kwargs: Any
) -> CIFARAFFResNet:
    """Build a CIFAR ResNet of depth 6 * blocks + 2 with widths channel_times * (16, 16, 32, 64)."""
    channels = [channel_times * width for width in CIFAR_WIDTHS]
    return CIFARAFFResNet(fusing, start_layer, [blocks] * 3, channels, classes, **kwargs)


@fused(Fusing(r=16))
def cifar_resnext(
    fusing: Fusing,
    blocks: int,
    channel_times: int,
    start_layer: int = 1,
    classes: int = 100,
    zero_last_gamma: bool = True,
    **kwargs: Any,
) -> CIFARAFFResNeXt:
    """Build a CIFAR ResNeXt of depth 9 * blocks + 2 whose first stage has the width 16 * channel_times."""
    kwargs.setdefault("cardinality", cifar_cardinality(channel_times))
    kwargs.setdefault("zero_init_last", zero_last_gamma)
    return CIFARAFFResNeXt(fusing, start_layer, [blocks] * 3, channel_times * CIFAR_WIDTHS[0], classes, **kwargs)


@fused(Fusing(r=16))
def imagenet_resnet(
    fusing: Fusing,
    layers: Sequence[int],
    start_layer: int = 3,
    classes: int = 1000,
    last_gamma: bool = False,
    final_drop: float = 0.0,
    use_global_stats: bool = False,
    name_prefix: str = "",
    ctx: Any = None,
    use_pretrained: Any = None,
    **kwargs: Any,
) -> AFFResNet:
    """Build an ImageNet ResNet with `layers` blocks in its four stages.

    With `use_global_stats`, training uses running statistics too. `name_prefix` is the prefix of the raw parameter
    names. `ctx` and `use_pretrained` are accepted and ignored, as in the original.
    """
    if use_global_stats:
        fusing = replace(fusing, norm_kwargs={**(fusing.norm_kwargs or {}), "use_global_stats": True})
    kwargs.setdefault("zero_init_last", last_gamma)
    kwargs.setdefault("drop_rate", final_drop)
    return AFFResNet(fusing, start_layer, layers, classes, prefix=name_prefix, **kwargs)


@fused(Fusing(r=16))
def imagenet_resnext(
    fusing: Fusing,
    layers: Sequence[int],
    start_layer: int = 3,
    classes: int = 1000,
    last_gamma: bool = False,
    zero_last_gamma: Optional[bool] = None,
    **kwargs: Any,
) -> AFFResNeXt:
    """Build an ImageNet ResNeXt 32x4d with `layers` blocks in its four stages.

    `last_gamma` is inverted, as in the original: with False the last gamma of each block starts at zero, with True at
    one. `zero_last_gamma` overrides it with the plain meaning.
    """
    kwargs.setdefault("zero_init_last", not last_gamma if zero_last_gamma is None else zero_last_gamma)
    return AFFResNeXt(fusing, start_layer, layers, classes, **kwargs)


@fused(Fusing(r=4, skip="same layer"))
def cifar_inception(
    fusing: Fusing, blocks: int, channel_times: int = 1, classes: int = 100, **kwargs: Any
) -> InceptionResNet:
    """Build an Inception-ResNet for CIFAR of depth 6 * blocks + 2 with widths channel_times * (16, 16, 32, 64)."""
    return InceptionResNet(fusing, [blocks] * 3, [channel_times * width for width in CIFAR_WIDTHS], classes, **kwargs)


@fused(Fusing(r=4, skip="long"))
def fpn(fusing: Fusing, blocks: int, channel_times: int = 1, classes: int = 1, **kwargs: Any) -> AFFFPN:
    """Build a feature pyramid on a ResNet of depth 6 * blocks + 2 with widths channel_times * (8, 16, 32, 64)."""
    return AFFFPN(fusing, [blocks] * 3, [channel_times * width for width in FPN_WIDTHS], classes, **kwargs)


BUILDERS: Dict[str, Callable[..., HybridBlock]] = {
    "cifar_resnet": cifar_resnet,
    "cifar_resnext": cifar_resnext,
    "cifar_inception": cifar_inception,
    "imagenet_resnet": imagenet_resnet,
    "imagenet_resnext": imagenet_resnext,
    SEGMENTATION_HOST: fpn,
    "afi_cifar_resnet": integrated(afi_resnet),
    "afi_cifar_resnext29": integrated(afi_resnext29),
    "afi_cifar_mobilenet_v2": integrated(afi_mobilenet_v2),
    "afi_cifar_shufflenet_v2": integrated(afi_shufflenet_v2),
    "afi_imagenet_resnet": integrated(afi_imagenet_resnet),
}


def _builder(host: str) -> Callable[..., HybridBlock]:
    return BUILDERS.get(host) or implementation(host, "mxnet")


def build(architecture: Architecture, **norm: Any) -> HybridBlock:
    """Build the network without initialising it. `norm` is `norm_layer` and `norm_kwargs`.

    Raises:
        InputError: the host network cannot take the arguments.
    """
    return _builder(architecture.host)(**architecture.settings, **norm)


def arguments(architecture: Architecture) -> Dict[str, Any]:
    """Return all arguments of the host network, with the defaults of those that are not given.

    Two architectures with equal arguments are the same network.

    Raises:
        InputError: the fusion is unknown.
    """
    return all_arguments(_builder(architecture.host), architecture.settings)


def get_model(
    name: str,
    classes: Optional[int] = None,
    ctx: Any = None,
    *,
    pretrained: Union[bool, str] = False,
    root: str = "params",
    open_aff: Optional[str] = None,
    dtype: str = "float32",
    features_only: bool = False,
    allow_not_finite: bool = False,
    **kwargs: Any,
) -> HybridBlock:
    """Build the network called `name`, optionally with pretrained weights.

    Args:
        name: one of `list_models()`.
        classes: number of outputs. If None, that of the published head (100 or 1000). With `pretrained`, any other
            number loads everything but the head, which is then drawn by Xavier initialisation, and warns.
        ctx: MXNet context or contexts to initialise the parameters on (Xavier). If None, the parameters are not
            initialised, except that `pretrained` loads them on the CPU.
        pretrained: label set of published weights to load: 'fine' or 'superclass' (CIFAR-100) or 'imagenet'. True takes
            the only label set, or 'fine' if there are two. The path of a `.params` file loads that file.
        root: folder where published weights are looked for and downloaded to.
        open_aff: clone of the original repository to take published weights from. If None, the environment variable
            GLUON_AFF_OPEN_AFF.
        dtype: 'float32' or 'float16'. BatchNorm stays float32, and MXNet computes with float16 on GPUs only. The
            published ImageNet files are float16 and load into both.
        features_only: whether to return a `FeatureMaps`, whose outputs are those of the network's stages.
        allow_not_finite: whether a file with NaN or infinite values is accepted.
        **kwargs: arguments of the host network that replace the published ones (`fusion` or `askc_type`, `start_layer`,
            `blocks`, `channel_times`, `layers`, `norm_layer`, `r`, `scale`, ...).

    Raises:
        InputError: the name, fusion or label set is unknown, or the weights do not fit.
        GluonAFFError: published weights are neither here nor can be downloaded.
    """
    record = model_record(name)
    architecture = record.architecture(classes, **kwargs)
    if dtype not in DTYPES:
        raise unknown_name("dtype", str(dtype), DTYPES)
    net = build(architecture)
    net.cast(dtype)
    if pretrained is not False and pretrained is not None:
        path = pretrained_file(record, pretrained, root, open_aff)
        _load_all_but_another_head(net, path, ctx, allow_not_finite)
    elif ctx is not None:
        net.initialize(mx.init.Xavier(), ctx=ctx)
    return FeatureMaps(net) if features_only else net


def _load_all_but_another_head(net: HybridBlock, path: str, ctx: Any, allow_not_finite: bool) -> None:
    left_out = load_parameters(net, path, ctx, fresh_head=True, allow_not_finite=allow_not_finite)
    if left_out:
        for name in left_out:
            net._collect_params_with_prefix()[name].initialize(ctx=ctx, default_init=mx.init.Xavier())
        warnings.warn(
            f"{printable(path)}: the head ({', '.join(left_out)}) was left out, its size differs", stacklevel=3
        )
