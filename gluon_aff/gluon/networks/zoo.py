"""Networks by name: builders, published results, lookup."""

from __future__ import annotations

import fnmatch
import os
import warnings
from dataclasses import dataclass, fields
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import mxnet as mx
from mxnet.gluon import HybridBlock

from gluon_aff.errors import InputError, unknown_name
from gluon_aff.gluon.networks.afi import (
    Integration,
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
from gluon_aff.gluon.networks.layers import check_classes
from gluon_aff.gluon.networks.resnet import AFFResNet
from gluon_aff.gluon.networks.resnext import AFFResNeXt, CIFARAFFResNeXt
from gluon_aff.published import PublishedWeights, published_weights

BOTTLENECK_WIDTH = 4
CIFAR_WIDTHS = (16, 16, 32, 64)
SEGMENTATION_HOST = "fpn"
SEGMENTATION_SIZE = 480  # of the crops the paper's network was trained on, as far as known (open-acm)
DTYPES = ("float32", "float16")
INTEGRATION = tuple(field.name for field in fields(Integration) if field.name != "variant")
ONLY_INTEGRATION = set(INTEGRATION) - {"r"}


def cifar_cardinality(channel_times: int) -> int:
    """Groups of the CIFAR ResNeXt: the original has 32 at 4 and 64 at 8; other widths scale likewise."""
    return 8 * channel_times


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
    return AFFFPN(askc_type, [blocks] * 3, [channel_times * c for c in (8, 16, 32, 64)], classes, **kwargs)


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


AFI_HOSTS: Dict[str, Callable[..., HybridBlock]] = {
    "afi_cifar_resnet": _afi(afi_resnet),
    "afi_cifar_resnext29": _afi(afi_resnext29),
    "afi_cifar_mobilenet_v2": _afi(afi_mobilenet_v2),
    "afi_cifar_shufflenet_v2": _afi(afi_shufflenet_v2),
    "afi_imagenet_resnet": _afi(afi_imagenet_resnet),
}
HOSTS: Dict[str, Callable[..., HybridBlock]] = {
    "cifar_resnet": cifar_resnet,
    "cifar_resnext": cifar_resnext,
    "imagenet_resnet": imagenet_resnet,
    "imagenet_resnext": imagenet_resnext,
    "cifar_inception": cifar_inception,
    SEGMENTATION_HOST: fpn,
    **AFI_HOSTS,
}


@dataclass(frozen=True)
class ModelRecord:
    """A published configuration, or one that only the paper has, with the paper's AFF in place of its fusion.

    Attributes:
        name: what `get_model` takes.
        title: the paper's name.
        host: key of `HOSTS`.
        settings: the host's arguments.
        classes: outputs, of each pixel where the network segments.
        input_size: side of the square input in pixels.
        trainable: trainable parameters.
    """

    name: str
    title: str
    host: str
    settings: Dict[str, Any]
    classes: int
    input_size: int
    trainable: int

    @property
    def weights(self) -> Dict[str, PublishedWeights]:
        """Its published weights by label set, the default of `pretrained=True` first."""
        return {weights.labels: weights for weights in published_weights() if weights.model == self.name}


def _cifar(name: str, title: str, host: str, blocks: int, trainable: int) -> ModelRecord:
    settings = {"askc_type": "ASKCFuse", "blocks": blocks, "channel_times": 4}
    return ModelRecord(name, title, host, settings, 100, 32, trainable)


def _imagenet(name: str, title: str, host: str, askc_type: str, trainable: int) -> ModelRecord:
    settings: Dict[str, Any] = {"askc_type": askc_type, "layers": (3, 4, 6, 3)}
    if host == "imagenet_resnet":
        settings["last_gamma"] = True  # the published commands' --last-gamma reached this host only
    return ModelRecord(name, title, host, settings, 1000, 224, trainable)


def _paper(name: str, title: str, host: str, trainable: Sequence[int], **settings: Any) -> List[ModelRecord]:
    """The family's members of 1 to 4 blocks in each stage."""
    classes, side = (1, SEGMENTATION_SIZE) if host == SEGMENTATION_HOST else (100, 32)
    return [
        ModelRecord(
            name.format(b), title.format(b), host, {"askc_type": "AFF", "blocks": b, **settings}, classes, side, count
        )
        for b, count in enumerate(trainable, 1)
    ]


def _imagenet_basic(name: str, title: str, layers: Tuple[int, ...], trainable: int) -> ModelRecord:
    settings = {"askc_type": "AFF", "layers": layers, "block": "basic", "last_gamma": True}
    return ModelRecord(name, title, "imagenet_resnet", settings, 1000, 224, trainable)


def _afinets(
    name: str, title: str, host: str, counts: Tuple[int, int, int], rs: Tuple[int, int], **settings: Any
) -> List[ModelRecord]:
    """The plain network, AFI and AFI-B, with their trainable parameters and their channel reduction ratios."""
    classes, side = (1000, 224) if host == "afi_imagenet_resnet" else (100, 32)
    variants: Tuple[Tuple[str, str, Dict[str, Any]], ...] = (
        ("", "", {}),
        ("afi_", "AFI-", {"variant": "A", "r": rs[0]}),
        ("afi_b_", "AFI-", {"variant": "B", "r": rs[1]}),
    )
    return [
        ModelRecord(
            prefix + name,
            f"{before}{title}{'-B' if more.get('variant') == 'B' else ''}",
            host,
            {**settings, **more},
            classes,
            side,
            count,
        )
        for (prefix, before, more), count in zip(variants, counts)
    ]


_IAFF = "ResGlobLocaforGlobLocaCha"
_RECORDS = (
    _cifar("aff_resnet32_cifar100", "AFF-ResNet-32", "cifar_resnet", 5, 7_897_156),
    _cifar("aff_resnext38_32x4d_cifar100", "AFF-ResNeXt-38-32x4d", "cifar_resnext", 4, 7_770_148),
    _cifar("aff_resnext47_32x4d_cifar100", "AFF-ResNeXt-47-32x4d", "cifar_resnext", 5, 9_605_828),
    _imagenet("aff_resnet50", "AFF-ResNet-50", "imagenet_resnet", "ASKCFuse", 30_373_192),
    _imagenet("iaff_resnet50", "iAFF-ResNet-50", "imagenet_resnet", _IAFF, 35_170_120),
    _imagenet("aff_resnext50_32x4d", "AFF-ResNeXt-50-32x4d", "imagenet_resnext", "ASKCFuse", 29_953_704),
    _imagenet("iaff_resnext50_32x4d", "iAFF-ResNeXt-50-32x4d", "imagenet_resnext", _IAFF, 34_750_632),
    # Of the paper only (Tables 2-4): r = 4, and what the first release had where the head differs
    *_paper(
        "resnet20_b{}",
        "ResNet-20-{}",
        "cifar_resnet",
        (89_916, 193_348, 296_780, 400_212),
        channel_times=1,
        avg_down=False,
    ),
    *_paper(
        "inception_resnet20_b{}",
        "Inception-ResNet-20-{}",
        "cifar_inception",
        (98_404, 209_420, 320_436, 431_452),
        inner="legacy",
    ),
    *_paper("resnet20_fpn_b{}", "ResNet-20-{} + FPN", "fpn", (95_533, 192_749, 289_965, 387_181)),
    _imagenet_basic("aff_resnet18", "AFF-ResNet-18", (2, 2, 2, 2), 11_882_376),
    _imagenet_basic("aff_resnet34", "AFF-ResNet-34", (3, 4, 6, 3), 22_131_400),
    # AFINets, the second paper (Tables 4 and 5)
    *_afinets("resnet32_cifar100", "ResNet-32", "afi_cifar_resnet", (472_756, 378_228, 668_980), (4, 16), blocks=5),
    *_afinets(
        "resnet110_cifar100", "ResNet-110", "afi_cifar_resnet", (1_736_564, 1_334_820, 2_570_516), (4, 16), blocks=18
    ),
    *_afinets(
        "resnext29_32x4d_cifar100", "ResNeXt-29-32x4d", "afi_cifar_resnext29", (4_866_468, 4_262_564, 5_232_036), (4, 8)
    ),
    *_afinets(
        "mobilenet_v2_cifar100", "MobileNetV2", "afi_cifar_mobilenet_v2", (2_412_212, 2_248_868, 2_835_428), (16, 16)
    ),
    *_afinets(
        "shufflenet_v2_cifar100", "ShuffleNetV2", "afi_cifar_shufflenet_v2", (1_356_104, 1_281_284, 1_588_684), (4, 16)
    ),
    *_afinets(
        "resnet50",
        "ResNet-50",
        "afi_imagenet_resnet",
        (25_557_032, 23_849_256, 33_854_504),
        (4, 16),
        layers=(3, 4, 6, 3),
    ),
    *_afinets(
        "resnet152",
        "ResNet-152",
        "afi_imagenet_resnet",
        (60_192_808, 54_667_560, 87_028_776),
        (4, 16),
        layers=(3, 8, 36, 3),
    ),
)
MODELS: Dict[str, ModelRecord] = {record.name: record for record in _RECORDS}


def list_models(pattern: Optional[str] = None, *, published: bool = False) -> List[str]:
    """Names `get_model` takes, sorted; `pattern` selects with shell wildcards, as in `list_models("*cifar*")`.

    Those of networks with published weights only, if `published`.
    """
    names = sorted(fnmatch.filter(MODELS, pattern or "*"))
    return [name for name in names if MODELS[name].weights] if published else names


def model_record(name: str) -> ModelRecord:
    """What is known of the model called `name` (upper or lower case).

    Raises:
        InputError: for an unknown name.
    """
    record = MODELS.get(name.lower())
    if record is None:
        raise unknown_name("model", name, list_models())
    return record


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
        **kwargs: arguments of the host's constructor, overruling the published ones (`fusion` or `askc_type`,
            `start_layer`, `blocks`, `channel_times`, `layers`, `norm_layer`, `r`, `scale`, ...).

    Raises:
        InputError: for an unknown name, fusion or label set, or weights that do not fit.
        GluonAFFError: if published weights are nowhere and cannot be downloaded.
    """
    record = model_record(name)
    classes = record.classes if classes is None else classes
    check_classes(classes)
    if dtype not in DTYPES:
        raise unknown_name("dtype", str(dtype), DTYPES)
    if "fusion" in kwargs:
        kwargs["askc_type"] = kwargs.pop("fusion")
    idle = ONLY_INTEGRATION.intersection(kwargs)
    if idle and record.host not in AFI_HOSTS:
        raise InputError(f"{', '.join(sorted(idle))}: {record.name} integrates no features; take an AFINet, afi_...")
    net = HOSTS[record.host](**{**record.settings, "classes": classes, **kwargs})
    net.cast(dtype)
    if pretrained is not False and pretrained is not None:
        path = _pretrained_file(record, pretrained, root, open_aff)
        _load_all_but_another_head(net, path, ctx or mx.cpu())
    elif ctx is not None:
        net.initialize(mx.init.Xavier(), ctx=ctx)
    return FeatureMaps(net) if features_only else net


def _pretrained_file(record: ModelRecord, pretrained: Union[bool, str], root: str, open_aff: Optional[str]) -> str:
    from gluon_aff.weights.store import published_file

    if pretrained is True and not record.weights:
        raise InputError(f"pretrained: no weights of {record.name} were published; name a .params file")
    labels = next(iter(record.weights)) if pretrained is True else str(pretrained)
    if labels in record.weights:
        return published_file(record.weights[labels], root, open_aff)
    if os.path.exists(labels) or labels.endswith(".params"):
        return labels
    raise unknown_name(f"label set of {record.name}'s published weights", labels, [*record.weights, "a .params file"])


def _load_all_but_another_head(net: HybridBlock, path: str, ctx: Any) -> None:
    from gluon_aff.weights.params import load_parameters

    left_out = load_parameters(net, path, ctx, fresh_head=True)
    if left_out:
        for name in left_out:
            net._collect_params_with_prefix()[name].initialize(ctx=ctx, default_init=mx.init.Xavier())
        warnings.warn(f"{path}: the head ({', '.join(left_out)}) was left out, its size differs", stacklevel=3)
