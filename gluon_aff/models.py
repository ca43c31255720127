"""List the networks by name, with their settings, classes, input sizes, parameter counts and published weights."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple

from gluon_aff.errors import InputError, unknown_name
from gluon_aff.registry import register_implementation

if TYPE_CHECKING:
    from gluon_aff.published import PublishedWeights

# Host networks as `--model` of the training commands names them. Records add the data set, as in cifar_resnet.
CIFAR_HOSTS = ("resnet", "resnext", "inception")
IMAGENET_HOSTS = ("resnet", "resnext")
SEGMENTATION_HOST = "fpn"
AFI_HOSTS = (
    "afi_cifar_resnet",
    "afi_cifar_resnext29",
    "afi_cifar_mobilenet_v2",
    "afi_cifar_shufflenet_v2",
    "afi_imagenet_resnet",
)
HOSTS = (
    *(f"cifar_{host}" for host in CIFAR_HOSTS),
    *(f"imagenet_{host}" for host in IMAGENET_HOSTS),
    SEGMENTATION_HOST,
    *AFI_HOSTS,
)
CIFAR_SIZE = 32
SMALLEST_SIZE = 32  # every network can halve this side as often as it has to
IMAGENET_SIZE = 224
SEGMENTATION_SIZE = 480  # side of the crops that the paper's network was trained on, as far as is known (open-acm)
# Blocks of the four stages of an ImageNet network, by `--num-layer`
BASIC_BLOCKS: Dict[int, Tuple[int, ...]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BLOCKS: Dict[int, Tuple[int, ...]] = {**BASIC_BLOCKS, 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 4, 36, 3)}
EXACT_BLOCKS: Dict[int, Tuple[int, ...]] = {**BLOCKS, 152: (3, 8, 36, 3)}  # as in the ResNet paper
CIFAR_WIDTHS = (16, 16, 32, 64)  # widths of the stem and the stages; `channel_times` multiplies them
FPN_WIDTHS = (8, 16, 32, 64)
STEMS = ("normal", "tiny")  # stems of the feature pyramid
FUSE_ORDERS = ("top-down", "bottom-up")
INNER_WIDTHS = ("legacy", "full")  # inner widths of the Inception-ResNet's blocks
INTEGRATION = ("r", "stages", "attention", "first")  # arguments of AFINets


def is_count(value: Any) -> bool:
    """Return whether `value` is a whole number from 1."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def check_classes(classes: Any) -> None:
    """Raise InputError unless `classes`, the number of outputs, is a whole number from 1."""
    if not is_count(classes):
        raise InputError(f"classes={classes!r}: the number of outputs is a whole number from 1")


def cifar_cardinality(channel_times: int) -> int:
    """Return the cardinality of the CIFAR ResNeXt: 32 at 4 and 64 at 8, as in the original; others in proportion."""
    return 8 * channel_times


@dataclass(frozen=True)
class Architecture:
    """Describe a network to build.

    Attributes:
        name: name of the model or of the training run, for messages.
        host: one of `HOSTS`, the network around the fusions.
        settings: arguments of the host.
        input_size: side of the square input in pixels.
    """

    name: str
    host: str
    settings: Dict[str, Any]
    input_size: int


@dataclass(frozen=True)
class ModelRecord:
    """Describe a listed network: one with published weights, or one that only a paper describes.

    The networks that only the AFF paper describes have AFF as their fusion.

    Attributes:
        name: name that `get_model` takes.
        title: name in the paper.
        host: one of `HOSTS`, the network around the fusions.
        settings: arguments of the host.
        classes: number of outputs, for each pixel if the network segments.
        input_size: side of the square input in pixels.
        trainable: number of trainable parameters. None for a registered network, which has to be built to count them.
    """

    name: str
    title: str
    host: str
    settings: Dict[str, Any]
    classes: int
    input_size: int
    trainable: Optional[int]

    def architecture(self, classes: Optional[int] = None, **changes: Any) -> Architecture:
        """Return the network to build.

        Args:
            classes: number of outputs. If None, that of the listed network.
            **changes: arguments of the host that replace the listed ones. `fusion` is another name for `askc_type`.

        Raises:
            InputError: `classes` is not a whole number from 1, or an argument is for AFINets and the network is not
                one.
        """
        classes = self.classes if classes is None else classes
        check_classes(classes)
        if "fusion" in changes:
            changes["askc_type"] = changes.pop("fusion")
        idle = (set(INTEGRATION) - {"r"}).intersection(changes)
        if idle and self.host not in AFI_HOSTS:
            raise InputError(f"{', '.join(sorted(idle))}: {self.name} integrates no features; take an AFINet, afi_...")
        return Architecture(self.name, self.host, {**self.settings, "classes": classes, **changes}, self.input_size)

    @property
    def weights(self) -> Dict[str, PublishedWeights]:
        """Return the published weights by label set; the first is the default of `pretrained=True`."""
        # needs NumPy, which `--help` and `gluon-aff doctor` do without
        from gluon_aff.published import published_weights

        return {weights.labels: weights for weights in published_weights() if weights.model == self.name}


def _cifar(name: str, title: str, host: str, blocks: int, trainable: int) -> ModelRecord:
    settings = {"askc_type": "ASKCFuse", "blocks": blocks, "channel_times": 4}
    return ModelRecord(name, title, host, settings, 100, 32, trainable)


def _imagenet(name: str, title: str, host: str, askc_type: str, trainable: int) -> ModelRecord:
    settings: Dict[str, Any] = {"askc_type": askc_type, "layers": (3, 4, 6, 3)}
    if host == "imagenet_resnet":
        settings["last_gamma"] = True  # only this host received --last-gamma in the published commands
    return ModelRecord(name, title, host, settings, 1000, 224, trainable)


def _paper(name: str, title: str, host: str, trainable: Sequence[int], **settings: Any) -> List[ModelRecord]:
    """Return four networks with 1 to 4 blocks in each stage."""
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
    """Return the plain network, AFI and AFI-B, with their numbers of trainable parameters and reduction ratios."""
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
    # Networks that only the AFF paper describes (Tables 2-4): r = 4, and the head of the original's first release
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
    # Networks of the AFINets paper (Tables 4 and 5)
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


def register_network(
    name: str, *, title: str = "", input_size: int = CIFAR_SIZE, classes: int = 100
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that makes a network known to `get_model` and to `--model NAME`.

    The network maps (N, 3, H, W) to (N, classes). Decorate a subclass of Gluon's HybridBlock or PyTorch's nn.Module, or
    a function whose return annotation (`->`) is one; this decides which engine the network is for. Each engine can have
    one network of the same name. The class or function is called with `classes` and the further arguments of
    `get_model`.

    Args:
        name: lower-case letters, digits and underscores, since the names of runs contain it.
        title: name in tables. If empty, `name`.
        input_size: side of the square input in pixels: 32 for CIFAR networks, 224 for ImageNet networks.
        classes: default number of outputs.

    Raises:
        InputError: the name is taken or contains other characters.
    """

    def register(builds: Callable[..., Any]) -> Callable[..., Any]:
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise InputError(f"register_network({name!r}): use lower-case letters, digits and underscores only")
        if MODELS.get(name) in _RECORDS:
            raise InputError(f"register_network({name!r}): the package has a network of that name; take another one")
        MODELS[name] = ModelRecord(name, title or name, name, {}, classes, input_size, None)
        register_implementation(name, builds)
        return builds

    return register


def list_models(pattern: Optional[str] = None, *, published: bool = False) -> List[str]:
    """Return the names that `get_model` takes, sorted.

    Args:
        pattern: shell wildcards that select names, as in `list_models("*cifar*")`. If None, all names.
        published: whether to return only networks with published weights.
    """
    names = sorted(fnmatch.filter(MODELS, pattern or "*"))
    return [name for name in names if MODELS[name].weights] if published else names


def model_record(name: str) -> ModelRecord:
    """Return the record of the model with that name, or with that title, such as AFF-ResNet-50.

    Upper and lower case, hyphens and underscores make no difference.

    Raises:
        InputError: the name is unknown.
    """
    names = {_plain(record.title): record for record in MODELS.values()}
    names.update({_plain(record.name): record for record in MODELS.values()})
    if _plain(name) not in names:
        raise unknown_name("model", name, list_models())
    return names[_plain(name)]


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
