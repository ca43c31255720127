"""Networks by name: what builds each host, and `get_model`."""

from __future__ import annotations

import warnings
from inspect import signature
from typing import Any, Callable, Dict, Optional, Tuple, Union

import mxnet as mx
from mxnet.gluon import HybridBlock

from gluon_aff.errors import InputError, unknown_name
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
    BOTTLENECK_WIDTH,
    CIFAR_WIDTHS,
    FPN_WIDTHS,
    INTEGRATION,
    SEGMENTATION_HOST,
    Architecture,
    cifar_cardinality,
    model_record,
)
from gluon_aff.operators import Integration, fusion_operator
from gluon_aff.printing import printable
from gluon_aff.registry import implementation
from gluon_aff.weights.store import pretrained_file

DTYPES = ("float32", "float16")


def cifar_resnet(
    askc_type: str, blocks: int, channel_times: int, start_layer: int = 1, classes: int = 100, **kwargs: Any
) -> CIFARAFFResNet:
    """CIFAR ResNet of depth 6 * blocks + 2, widths channel_times * (16, 16, 32, 64)."""
    kwargs.setdefault("deep_stem", False)
    return CIFARAFFResNet(
        askc_type, start_layer, [blocks] * 3, [channel_times * c for c in CIFAR_WIDTHS], classes, **kwargs
    )


def cifar_resnext(
    askc_type: str, blocks: int, channel_times: int, start_layer: int = 1, classes: int = 100, **kwargs: Any
) -> CIFARAFFResNeXt:
    """CIFAR ResNeXt of depth 9 * blocks + 2, first stage channel_times * 16 wide."""
    kwargs.setdefault("cardinality", cifar_cardinality(channel_times))
    kwargs.setdefault("bottleneck_width", BOTTLENECK_WIDTH)
    return CIFARAFFResNeXt(
        askc_type,
        start_layer,
        [blocks] * 3,
        [channel_times * c for c in CIFAR_WIDTHS],
        classes=classes,
        **kwargs,
    )


def imagenet_resnet(askc_type: str, layers: Tuple[int, ...], start_layer: int = 3, **kwargs: Any) -> AFFResNet:
    """ImageNet ResNet with `layers` bottlenecks in its four stages."""
    return AFFResNet(askc_type, start_layer, list(layers), **kwargs)


def imagenet_resnext(askc_type: str, layers: Tuple[int, ...], start_layer: int = 3, **kwargs: Any) -> AFFResNeXt:
    """ImageNet ResNeXt 32x4d with `layers` blocks in its four stages."""
    kwargs.setdefault("cardinality", 32)
    kwargs.setdefault("bottleneck_width", BOTTLENECK_WIDTH)
    return AFFResNeXt(askc_type, start_layer, list(layers), **kwargs)


def cifar_inception(
    askc_type: str, blocks: int, channel_times: int = 1, classes: int = 100, **kwargs: Any
) -> InceptionResNet:
    """Inception-ResNet for CIFAR, of depth 6 * blocks + 2, widths channel_times * (16, 16, 32, 64)."""
    return InceptionResNet(askc_type, [blocks] * 3, [channel_times * c for c in CIFAR_WIDTHS], classes, **kwargs)


def fpn(askc_type: str, blocks: int, channel_times: int = 1, classes: int = 1, **kwargs: Any) -> AFFFPN:
    """Feature pyramid on a ResNet of depth 6 * blocks + 2, widths channel_times * (8, 16, 32, 64)."""
    return AFFFPN(askc_type, [blocks] * 3, [channel_times * c for c in FPN_WIDTHS], classes, **kwargs)


def _afi(build: Callable[..., HybridBlock]) -> Callable[..., HybridBlock]:
    """Host of AFINets that takes the arguments of `Integration` one by one; the plain network without any."""

    def host(classes: int, variant: str = "", **kwargs: Any) -> HybridBlock:
        given = {name: kwargs.pop(name) for name in INTEGRATION if name in kwargs}
        if "askc_type" in kwargs:
            raise InputError(f"fusion {kwargs['askc_type']}: AFINets and their plain hosts have none; leave it out")
        if given and not variant:
            raise InputError(f"{', '.join(given)}: a plain network integrates no features; take afi_... or afi_b_...")
        return build(Integration(variant, **given), classes=classes, **kwargs)

    return host


BUILDERS: Dict[str, Callable[..., HybridBlock]] = {
    "cifar_resnet": cifar_resnet,
    "cifar_resnext": cifar_resnext,
    "cifar_inception": cifar_inception,
    "imagenet_resnet": imagenet_resnet,
    "imagenet_resnext": imagenet_resnext,
    SEGMENTATION_HOST: fpn,
    "afi_cifar_resnet": _afi(afi_resnet),
    "afi_cifar_resnext29": _afi(afi_resnext29),
    "afi_cifar_mobilenet_v2": _afi(afi_mobilenet_v2),
    "afi_cifar_shufflenet_v2": _afi(afi_shufflenet_v2),
    "afi_imagenet_resnet": _afi(afi_imagenet_resnet),
}


def _builder(host: str) -> Callable[..., HybridBlock]:
    return BUILDERS.get(host) or implementation(host, "mxnet")


def build(architecture: Architecture, **norm: Any) -> HybridBlock:
    """The network, not initialised; `norm`: norm_layer and norm_kwargs.

    Raises:
        InputError: for arguments that the host cannot take.
    """
    return _builder(architecture.host)(**architecture.settings, **norm)


def arguments(architecture: Architecture) -> Dict[str, Any]:
    """All arguments of its host, those not given with their defaults; the same for the same network.

    Raises:
        InputError: for an unknown fusion.
    """
    bound = signature(_builder(architecture.host)).bind(**architecture.settings)
    bound.apply_defaults()
    given = {**bound.arguments, **bound.arguments.get("kwargs", {})}
    given.pop("kwargs", None)
    if "askc_type" in given:
        given["askc_type"] = fusion_operator(given["askc_type"]).name
    return given


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
    """Build the configuration called `name`.

    Args:
        name: one of `list_models()`.
        classes: outputs; the published head's size (100 or 1000) if None. With `pretrained`, another size loads
            everything but the head, which is then Xavier's, and warns of it.
        ctx: MXNet context or contexts to initialise the parameters on (Xavier); not initialised if None, and the CPU
            with `pretrained`.
        pretrained: published weights to load: 'fine' or 'superclass' (CIFAR-100), 'imagenet', or True for the only ones
            there are, fine ones where there are two; or the path of a `.params` file.
        root: folder where published weights are looked for and downloaded to.
        open_aff: clone of the original repository to take them from ($GLUON_AFF_OPEN_AFF if None).
        dtype: float32 or float16 (BatchNorm stays float32; MXNet computes with float16 on GPUs only). Published
            ImageNet files are float16 and load into both.
        features_only: return a `FeatureMaps`, whose outputs are those of the network's stages, instead.
        allow_not_finite: take a file with values that are NaN or infinite too.
        **kwargs: arguments of the host's constructor, overruling the published ones (`fusion` or `askc_type`,
            `start_layer`, `blocks`, `channel_times`, `layers`, `norm_layer`, `r`, `scale`, ...).

    Raises:
        InputError: for an unknown name, fusion or label set, or weights that do not fit.
        GluonAFFError: if published weights are nowhere and cannot be downloaded.
    """
    record = model_record(name)
    architecture = record.architecture(classes, **kwargs)
    if dtype not in DTYPES:
        raise unknown_name("dtype", str(dtype), DTYPES)
    net = build(architecture)
    net.cast(dtype)
    if pretrained is not False and pretrained is not None:
        path = pretrained_file(record, pretrained, root, open_aff)
        _load_all_but_another_head(net, path, ctx or mx.cpu(), allow_not_finite)
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
