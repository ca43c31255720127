"""Register the classifiers with timm, for `timm.create_model`."""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict, List, Optional, Sequence

from torch import nn

from gluon_aff.data.cifar.files import CIFAR_MEAN, CIFAR_STD
from gluon_aff.data.imagenet.images import CROP_RATIO, FOLDER_MEAN, FOLDER_STD
from gluon_aff.errors import InputError
from gluon_aff.extras import import_extra
from gluon_aff.models import CIFAR_SIZE, MODELS, SEGMENTATION_HOST, ModelRecord
from gluon_aff.pytorch.networks.features import FeatureMaps
from gluon_aff.pytorch.networks.zoo import get_model

HEADS = {"imagenet_resnet": "fc"}  # name of the head if it is not `output`


def register_with_timm() -> List[str]:
    """Let `timm.create_model` build the classifiers. Names that timm already has, such as resnet50, stay timm's.

    `pretrained=True` loads published weights from `params/`, from `$GLUON_AFF_OPEN_AFF` or from the original
    repository.

    Returns:
        Names of the registered classifiers.

    Raises:
        InputError: timm is not installed, or does not work.
    """
    timm = import_extra("timm")
    module = sys.modules[__name__]
    records = [record for record in MODELS.values() if record.host != SEGMENTATION_HOST]
    own = [record for record in records if _is_ours(timm.models, record.name)]
    configurations = {record.name: pretrained_cfg(record) for record in own}
    module.default_cfgs = configurations  # type: ignore[attr-defined] # timm looks for them here
    for record in own:
        if not timm.models.is_model(record.name):
            timm.models.register_model(_entry_point(record, configurations[record.name]))
    return [record.name for record in own]


def _is_ours(registry: Any, name: str) -> bool:
    return not registry.is_model(name) or registry.model_entrypoint(name).__module__ == __name__


def pretrained_cfg(record: ModelRecord) -> Dict[str, Any]:
    """Return timm's pretrained_cfg of a model: the head's name, and how images become the network's input."""
    cifar = record.input_size == CIFAR_SIZE
    mean, std = (CIFAR_MEAN, CIFAR_STD) if cifar else ([x / 255 for x in each] for each in (FOLDER_MEAN, FOLDER_STD))
    published = next(iter(record.weights.values()), None)
    return {
        "url": published.url if published else None,
        "input_size": (3, record.input_size, record.input_size),
        "crop_pct": 1.0 if cifar else CROP_RATIO,
        "interpolation": "bicubic" if cifar else "bilinear",
        "mean": tuple(mean),
        "std": tuple(std),
        "num_classes": record.classes,
        "classifier": HEADS.get(record.host, "output"),
        "first_conv": None,
    }


def _entry_point(record: ModelRecord, configuration: Dict[str, Any]) -> Callable[..., nn.Module]:
    def create(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
        num_classes: Optional[int] = None,
        in_chans: int = 3,
        features_only: bool = False,
        out_indices: Optional[Sequence[int]] = None,
        **kwargs: Any,
    ) -> nn.Module:
        if in_chans != 3:
            raise InputError(f"in_chans={in_chans}: {record.name} takes images of 3 channels")
        net: Any = get_model(record.name, num_classes or None, pretrained=pretrained, **kwargs)
        if num_classes == 0:
            net.reset_classifier(0)
        if features_only:
            net = FeatureMaps(net, out_indices)
            net.feature_info = _feature_info(net)
        net.pretrained_cfg = net.default_cfg = configuration
        return net

    create.__name__ = create.__qualname__ = record.name
    create.__doc__ = f"{record.title}, for images of {record.input_size} x {record.input_size} pixels."
    return create


def _feature_info(maps: FeatureMaps) -> Any:
    stages = [
        {"num_chs": width, "reduction": stride, "module": f"stage{index + 1}"}
        for index, width, stride in zip(maps.out_indices, maps.widths, maps.strides)
    ]
    return import_extra("timm").models.FeatureInfo(stages, tuple(range(len(stages))))
