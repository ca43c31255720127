"""Turn the settings of a training command into the architecture that they describe."""

from __future__ import annotations

from typing import Any, Dict

from gluon_aff.models import CIFAR_SIZE, MODELS, SEGMENTATION_HOST, Architecture
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.settings.imagenet import ImageNetSettings
from gluon_aff.settings.segmentation import SegmentationSettings
from gluon_aff.settings.shared import ClassifierSettings, named_arguments


def cifar_architecture(settings: CIFARSettings) -> Architecture:
    """Return the architecture that resolved CIFAR `settings` describe."""
    if settings.named:
        return _listed(settings, settings.head_classes)
    own: Dict[str, Any] = {}
    if settings.model == "inception":
        own["inner"] = settings.inner
    else:
        own.update(start_layer=settings.start_layer, deep_stem=settings.deep_stem)
    if settings.model == "resnet":
        own["avg_down"] = settings.shortcut == "pool"
    given = {"r": settings.r, "scale": settings.scale, "context": settings.context}
    own.update({name: value for name, value in given.items() if value is not None})
    size = {"blocks": settings.blocks, "channel_times": settings.channel_times, "classes": settings.head_classes}
    return Architecture(
        settings.model, f"cifar_{settings.model}", {"askc_type": settings.askc_type, **size, **own}, CIFAR_SIZE
    )


def imagenet_architecture(settings: ImageNetSettings) -> Architecture:
    """Return the architecture that resolved ImageNet `settings` describe."""
    if settings.named:
        return _listed(settings, settings.classes)
    own: Dict[str, Any] = {"use_se": settings.use_se}
    if settings.model == "resnet":
        own = {"last_gamma": settings.last_gamma, "block": "basic" if settings.basic else "bottleneck"}
    arguments = {
        "askc_type": settings.askc_type,
        "layers": settings.blocks,
        "start_layer": settings.start_layer,
        "classes": settings.classes,
        "r": settings.r,
        "scale": settings.scale,
        "context": settings.context,
        **own,
    }
    return Architecture(str(settings.model), f"imagenet_{settings.model}", arguments, settings.input_size)


def _listed(settings: ClassifierSettings, outputs: int) -> Architecture:
    arguments = named_arguments(settings.r, settings.stages, settings.attention)
    return MODELS[str(settings.model)].architecture(outputs, **arguments)


def segmentation_architecture(settings: SegmentationSettings) -> Architecture:
    """Return the architecture that resolved segmentation `settings` describe."""
    arguments = {
        "askc_type": settings.askc_type,
        "blocks": settings.blocks,
        "channel_times": settings.channel_times,
        "r": settings.r,
        "scale": settings.scale,
        "context": settings.context,
        "decoder_width": settings.decoder_width,
        "fuse_order": settings.fuse_order,
        "stem": settings.stem,
    }
    return Architecture(SEGMENTATION_HOST, SEGMENTATION_HOST, arguments, settings.crop_size)
