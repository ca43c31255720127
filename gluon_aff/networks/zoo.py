"""Networks by name: builders, published results, lookup."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple

from mxnet.gluon import HybridBlock

from gluon_aff.errors import unknown_name
from gluon_aff.networks.cifar_resnet import CIFARAFFResNet
from gluon_aff.networks.resnet import AFFResNet
from gluon_aff.networks.resnext import AFFResNeXt, CIFARAFFResNeXt

BOTTLENECK_WIDTH = 4


def cifar_cardinality(channel_times: int) -> int:
    """Groups of the CIFAR ResNeXt: the original has 32 at 4 and 64 at 8; other widths scale likewise."""
    return 8 * channel_times


def cifar_resnet(
    askc_type: str, blocks: int, channel_times: int, start_layer: int = 1, classes: int = 100, **kwargs: Any
) -> CIFARAFFResNet:
    """CIFAR ResNet of depth 6 * blocks + 2, widths channel_times * (16, 16, 32, 64)."""
    kwargs.setdefault("deep_stem", False)
    return CIFARAFFResNet(
        askc_type, start_layer, [blocks] * 3, [channel_times * c for c in (16, 16, 32, 64)], classes, **kwargs
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
        [channel_times * c for c in (16, 16, 32, 64)],
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


HOSTS: Dict[str, Callable[..., HybridBlock]] = {
    "cifar_resnet": cifar_resnet,
    "cifar_resnext": cifar_resnext,
    "imagenet_resnet": imagenet_resnet,
    "imagenet_resnext": imagenet_resnext,
}


@dataclass(frozen=True)
class ModelRecord:
    """A published configuration.

    Attributes:
        name: what `get_model` takes.
        title: the paper's name.
        host: key of `HOSTS`.
        settings: the host's arguments.
        classes: size of the published head.
        input_size: side of the square input in pixels.
        trainable: trainable parameters.
        published_error: top-1 validation error in percent of the published weights, by label set.
        source: where those figures stand, in the original repository.
    """

    name: str
    title: str
    host: str
    settings: Dict[str, Any]
    classes: int
    input_size: int
    trainable: int
    published_error: Dict[str, float] = field(default_factory=dict)
    source: str = ""


def _cifar(name: str, title: str, host: str, blocks: int, trainable: int, **errors: float) -> ModelRecord:
    settings = {"askc_type": "ASKCFuse", "blocks": blocks, "channel_times": 4}
    return ModelRecord(
        name, title, host, settings, 100, 32, trainable, errors, "params/cifar100, best epoch in the logs"
    )


def _imagenet(name: str, title: str, host: str, askc_type: str, trainable: int, error: float) -> ModelRecord:
    settings: Dict[str, Any] = {"askc_type": askc_type, "layers": (3, 4, 6, 3)}
    if host == "imagenet_resnet":
        settings["last_gamma"] = True  # the published commands' --last-gamma reached this host only
    source = "params/imagenet, best epoch in the logs"
    return ModelRecord(name, title, host, settings, 1000, 224, trainable, {"imagenet": error}, source)


_RECORDS = (
    _cifar("aff_resnet32_cifar100", "AFF-ResNet-32", "cifar_resnet", 5, 7_897_156, fine=16.43, superclass=9.22),
    _cifar("aff_resnext38_32x4d_cifar100", "AFF-ResNeXt-38-32x4d", "cifar_resnext", 4, 7_770_148, superclass=8.77),
    _cifar(
        "aff_resnext47_32x4d_cifar100",
        "AFF-ResNeXt-47-32x4d",
        "cifar_resnext",
        5,
        9_605_828,
        fine=14.62,
        superclass=8.16,
    ),
    _imagenet("aff_resnet50", "AFF-ResNet-50", "imagenet_resnet", "ASKCFuse", 30_373_192, 20.28),
    _imagenet("iaff_resnet50", "iAFF-ResNet-50", "imagenet_resnet", "ResGlobLocaforGlobLocaCha", 35_170_120, 20.22),
    _imagenet("aff_resnext50_32x4d", "AFF-ResNeXt-50-32x4d", "imagenet_resnext", "ASKCFuse", 29_953_704, 20.28),
    _imagenet(
        "iaff_resnext50_32x4d",
        "iAFF-ResNeXt-50-32x4d",
        "imagenet_resnext",
        "ResGlobLocaforGlobLocaCha",
        34_750_632,
        19.78,
    ),
)
MODELS: Dict[str, ModelRecord] = {record.name: record for record in _RECORDS}


def list_models(pattern: Optional[str] = None) -> List[str]:
    """Names `get_model` takes, sorted; `pattern` selects with shell wildcards, as in `list_models("*cifar*")`."""
    return sorted(fnmatch.filter(MODELS, pattern or "*"))


def model_record(name: str) -> ModelRecord:
    """What is known of the model called `name` (upper or lower case).

    Raises:
        InputError: for an unknown name.
    """
    record = MODELS.get(name.lower())
    if record is None:
        raise unknown_name("model", name, list_models())
    return record


def get_model(name: str, classes: Optional[int] = None, ctx: Any = None, **kwargs: Any) -> HybridBlock:
    """Build the published configuration called `name`.

    Args:
        name: one of `list_models()`.
        classes: outputs; the published head's size (100 or 1000) if None.
        ctx: MXNet context or contexts to initialise the parameters on (Xavier); not initialised if None.
        **kwargs: arguments of the host's constructor, overruling the published ones (`askc_type`, `start_layer`,
            `blocks`, `channel_times`, `layers`, `norm_layer`, `r`, ...).

    Raises:
        InputError: for an unknown name or fusion.
    """
    record = model_record(name)
    settings = {**record.settings, "classes": record.classes if classes is None else classes, **kwargs}
    net = HOSTS[record.host](**settings)
    if ctx is not None:
        import mxnet as mx

        net.initialize(mx.init.Xavier(), ctx=ctx)
    return net
