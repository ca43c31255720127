"""Describe a run before it starts, by facts and warnings about its settings.

Facts say what is trained and on which data. Warnings say what a user might not expect: an option without effect, a
difference from the published recipe or network, or files that are not written.
"""

from __future__ import annotations

from typing import Iterator, List, Tuple

from gluon_aff.run_names import name_of
from gluon_aff.settings import cifar, imagenet
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.settings.declaration import declared, flag
from gluon_aff.settings.imagenet import ORIGINAL_R, ImageNetSettings
from gluon_aff.settings.segmentation import SegmentationSettings
from gluon_aff.settings.shared import ClassifierSettings, RunSettings

EXPECTED_IMAGES = (1734, 69)  # images of COCO 2017 with a stop sign, for training and for validation
NEARLY = 0.05
SINGLE_IMAGE = (
    "with one image per device the global context is all zeros while training, since BatchNorm sees one value per "
    "channel: take --batch-size 2 or more"
)


def marked(warning: str) -> str:
    """Return a warning as it is printed, with a mark by which it stands out from the lines that only inform."""
    return f"attention: {warning}"


def first_release_warnings(given: CIFARSettings) -> Iterator[str]:
    """Yield a warning if the settings, not yet resolved, name a model as the first release did."""
    if given.model.lower() not in cifar.FIRST_RELEASE_MODELS:
        return
    option = declared(CIFARSettings)["mixup_off_epoch"]
    defaults = (
        "; --release first takes that release's defaults, such as mixup up to the last "
        f"{option.first_release} epochs and decay epochs that are not shifted"
    )
    yield (
        f"--model {given.model} is a name of the first release: this run trains today's resnext, whose shortcuts differ"
        f"{defaults if given.mixup_off_epoch == option.default else ''}"
    )


def cifar_facts(settings: CIFARSettings, global_batch: int) -> Iterator[str]:
    """Yield lines that say what resolved `settings` train, with `global_batch` images per step on all devices."""
    fusion = f"{settings.askc_type} from stage {settings.start_layer} on"
    if settings.named:
        yield f"network: {settings.model}{name_of(settings).suffix}"
    else:
        fused = fusion if _cifar_fuses(settings) else "addition in all stages"
        yield f"network: {settings.model} of {settings.depth} layers, fusion {fused}"
    yield _batch(settings, global_batch)
    yield "best weights: chosen by accuracy on the test images, as in the original"
    if settings.dataset == "cifar100" and settings.fine_label:
        yield f"labels: CIFAR-100's 100 classes, under a {settings.head_classes}-way head"


def cifar_warnings(settings: CIFARSettings) -> Iterator[str]:
    """Yield warnings about resolved `settings`."""
    if settings.dataset == "cifar100" and not settings.fine_label:
        yield (
            "labels: CIFAR-100's 20 superclasses, the original's default (--fine-label for the 100 classes), under a "
            f"{settings.head_classes}-way head"
        )
    if settings.dataset != "cifar100" and (settings.fine_label or settings.superclass):
        yield "--fine-label and --superclass have no effect on CIFAR-10"
    if settings.no_wd and not settings.cosine:
        yield "--no-wd has no effect without --cosine, as in the original"
    if settings.warmup_epochs and not settings.cosine:
        by = f"{abs(settings.warmup_epochs)} {'earlier' if settings.warmup_epochs > 0 else 'later'}"
        yield f"the decay epochs come {by} than --lr-decay-epoch says, as in the original"
    yield from _mode_warnings(settings)
    if settings.resume_from == "":
        yield "--resume-from is empty: the run starts from new random weights"
    if not settings.logging_dir:
        yield "no log will be written (--logging-dir is empty)"
    yield from _end_warnings(settings, [] if settings.cosine else settings.cuts, warms_up=settings.cosine)
    if settings.model == "resnext" and settings.channel_times != 4:
        yield (
            "the file name says that each group is 4 channels wide, as in the original, but that is so only with "
            "--channel-times 4"
        )
    if settings.drop_rate:
        yield "--drop-rate has no effect, as in the original"
    if settings.warmup_lr:
        yield "--warmup-lr has no effect, as in the original"
    if not (settings.save_dir and settings.save_period):
        yield "no weights will be written (--save-dir is empty or --save-period 0)"
    if settings.model == "inception" and settings.start_layer != 1:
        yield "--start-layer has no effect on inception, which fuses in every block"
    if settings.batch_size == 1 and _cifar_fuses(settings) and settings.askc_type != "DirectAdd" and not settings.named:
        yield SINGLE_IMAGE


def _cifar_fuses(settings: CIFARSettings) -> bool:
    return settings.start_layer <= cifar.STAGES or settings.model == "inception"


def imagenet_facts(settings: ImageNetSettings, global_batch: int) -> Iterator[str]:
    """Yield lines that say what resolved `settings` train, with `global_batch` images per step on all devices."""
    if settings.named:
        yield f"network: {settings.model}{name_of(settings).suffix}, {settings.classes} outputs"
    else:
        start = settings.start_layer
        fusion = (
            f"{settings.askc_type} from stage {start} on" if _imagenet_fuses(settings) else "addition in all stages"
        )
        yield f"network: {settings.model} of {_layers(settings)} layers, fusion {fusion}, {settings.classes} outputs"
    yield _batch(settings, global_batch)
    yield "best weights: chosen by top-1 error on the validation images, as in the original"


def imagenet_warnings(settings: ImageNetSettings, on_gpu: bool = True) -> Iterator[str]:
    """Yield warnings about resolved `settings`, for a run on GPUs or on the CPU."""
    if not settings.named:
        yield from _imagenet_network_warnings(settings)
    yield from _imagenet_data_warnings(settings, on_gpu)
    cuts = [settings.warmup_epochs + cut for cut in settings.cuts] if settings.lr_mode == "step" else []
    yield from _end_warnings(settings, cuts, warms_up=True)
    yield from _resume_warnings(settings)
    yield from _idle_warnings(settings)
    if not (settings.save_dir and settings.save_frequency):
        yield "no weights will be written (--save-dir is empty or --save-frequency 0)"


def _imagenet_fuses(settings: ImageNetSettings) -> bool:
    return settings.start_layer <= imagenet.STAGES


def _layers(settings: ImageNetSettings) -> int:
    """Return how many layers the network has, counted as the papers do: convolutions of the main path and the head."""
    return (2 if settings.basic else 3) * sum(settings.blocks) + 2


def _imagenet_network_warnings(settings: ImageNetSettings) -> Iterator[str]:
    fuses, layers, resnext = _imagenet_fuses(settings), _layers(settings), settings.model == "resnext"
    if layers != settings.num_layer:
        blocks = ", ".join(map(str, settings.blocks))
        yield (
            f"--num-layer {settings.num_layer} is {layers} layers (blocks {blocks}), as in the original; "
            f"--exact-layers builds all {settings.num_layer}"
        )
    if settings.scenario is not None:
        today = settings.mixup_off_epoch == ImageNetSettings.mixup_off_epoch
        defaults = (
            "; --release first takes that release's defaults, such as mixup up to the last epoch" if today else ""
        )
        yield (
            f"this command line means the first release's {settings.scenario}, but the run trains today's "
            f"{settings.model}, whose stem and shortcuts differ{defaults}"
        )
    if resnext and settings.last_gamma:
        yield "--last-gamma has no effect on the ResNeXt, whose last gammas start at zero in any case"
    if resnext and settings.use_se:
        yield "--use-se puts squeeze-and-excitation in every block; the original ignores its option of that name"
    if settings.use_se and not resnext:
        yield "--use-se has no effect on the ResNet, as in the original"
    if settings.r != ORIGINAL_R and fuses:
        yield f"--r {settings.r} is used; the original ignores --r and always reduces by 16"
    if settings.batch_size == 1 and fuses and settings.askc_type != "DirectAdd":
        yield SINGLE_IMAGE


def _imagenet_data_warnings(settings: ImageNetSettings, on_gpu: bool) -> Iterator[str]:
    if settings.auto_aug and settings.use_rec:
        yield (
            "--auto_aug HAS NO EFFECT with --use-rec, as in the original; its published runs gave both flags and so "
            "trained without AutoAugment"
        )
    options = declared(ImageNetSettings).values()
    idle = [flag(each.name) for each in options if each.only_with and getattr(settings, each.name) != each.default]
    if idle and not settings.use_rec:
        yield f"without --use-rec, {', '.join(idle)} has no effect; images are read from --data-dir"
    if settings.dtype == "float16" and not on_gpu:
        yield "--dtype float16 needs a GPU: this run is in float32"
    yield from _mode_warnings(settings)
    if settings.crop_ratio != settings.used_crop_ratio:
        yield f"--crop-ratio {settings.crop_ratio:g} stands for {settings.used_crop_ratio:g}, as in the original"


def _resume_warnings(settings: ImageNetSettings) -> Iterator[str]:
    if not (settings.resume_params or settings.resume_states or settings.resume_epoch):
        return
    if not settings.resume_params:
        yield "without --resume-params, the run starts from new random weights"
    if not settings.resume_states:
        yield "without --resume-states, the momentum starts at zero"
    if not settings.resume_epoch:
        yield "without --resume-epoch, epochs are counted from 0"


def _idle_warnings(settings: ImageNetSettings) -> Iterator[str]:
    if settings.warmup_lr:
        yield "--warmup-lr has no effect, as in the original: the warm-up starts at 0"
    if settings.batch_norm:
        yield "--batch-norm has no effect, as in the original"
    if settings.use_gn:
        yield "--use-gn has no effect, as in the original"
    if settings.use_pretrained:
        yield "--use-pretrained has no effect, as in the original: name a weights file with --resume-params"
    if settings.teacher_params is not None and settings.teacher is None:
        yield "--teacher-params has no effect without --teacher"
    if settings.teacher is not None and settings.hard_weight >= 1:
        yield f"--teacher has no effect with --hard-weight {settings.hard_weight:g}, as in the original"
    if settings.exact_layers and settings.num_layer != 152:
        yield "--exact-layers has an effect only with --num-layer 152"


def segmentation_facts(settings: SegmentationSettings, images: Tuple[int, int], global_batch: int) -> Iterator[str]:
    """Yield lines that say what resolved `settings` train.

    Args:
        settings: resolved settings of the run.
        images: number of training images and of validation images.
        global_batch: images per step on all devices.
    """
    yield f"network: ResNet-20-{settings.blocks} + FPN, fusion {settings.askc_type}"
    yield f"data: {images[0]:,} images to train on, {images[1]:,} to validate on"
    yield _batch(settings, global_batch)
    yield "best weights: chosen by IoU on the validation images, as in the original"


def segmentation_warnings(settings: SegmentationSettings, images: Tuple[int, int]) -> Iterator[str]:
    """Yield warnings about resolved `settings`; `images` are the numbers of training and of validation images."""
    training, validation = EXPECTED_IMAGES
    if any(abs(found / expected - 1) > NEARLY for found, expected in zip(images, EXPECTED_IMAGES)):
        yield (
            f"COCO 2017 has about {training:,} training and {validation:,} validation images with a stop sign: this is "
            "not the paper's StopSign"
        )
    if not settings.save_dir:
        yield "no weights will be written (--save-dir is empty)"
    if not settings.logging_dir:
        yield "no log will be written (--logging-dir is empty)"
    if settings.batch_size == 1 and settings.askc_type not in ("DirectAdd", "Concat"):
        yield SINGLE_IMAGE


def _batch(settings: RunSettings, global_batch: int) -> str:
    per_device = settings.batch_size
    return f"batch: {per_device} images per device, {global_batch} per step; the learning rate is not scaled with it"


def _mode_warnings(settings: ClassifierSettings) -> Iterator[str]:
    if settings.mode == "symbolic":
        yield "--mode symbolic is not supported: the run is imperative, as in the original"


def _end_warnings(settings: ClassifierSettings, cuts: List[int], *, warms_up: bool) -> Iterator[str]:
    """Yield a warning for each thing that falls after the end of the run: rate cuts, the end of warm-up, mixup."""
    epochs, warmup = settings.num_epochs, settings.warmup_epochs
    late = ", ".join(str(cut) for cut in cuts if cut >= epochs)
    if late:
        yield f"decay epochs after the end of the run ({epochs} epochs), which have no effect: {late}"
    if warms_up and warmup >= epochs:
        yield f"the warm-up lasts to the end of the run: --warmup-epochs {warmup}, --num-epochs {epochs}"
    if settings.mixup and settings.mixup_off_epoch >= epochs:
        yield (
            f"mixup is off in every epoch (--mixup-off-epoch {settings.mixup_off_epoch}, --num-epochs {epochs}), so "
            "--mixup only makes train= an RMSE"
        )
