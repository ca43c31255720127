"""What the training commands say of their settings at the start of a run: what they come to, and what has no effect."""

from __future__ import annotations

from typing import Iterator, List, Tuple

from gluon_aff.run_names import name_of
from gluon_aff.settings import cifar, imagenet
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.settings.declaration import declared, flag
from gluon_aff.settings.imagenet import ORIGINAL_R, ImageNetSettings
from gluon_aff.settings.segmentation import SegmentationSettings
from gluon_aff.settings.shared import ClassifierSettings, RunSettings

EXPECTED_IMAGES = (1734, 69)  # of COCO 2017 with a stop sign, to train and to validate
NEARLY = 0.05
SINGLE_IMAGE = (
    "with one image per device the global context is all zeros while training (BatchNorm over one value): "
    "take --batch-size 2 or more"
)


def first_release_notes(given: CIFARSettings) -> Iterator[str]:
    """Yield what to say if the settings, before `resolve`, have a model name of the first release."""
    if given.model.lower() not in cifar.FIRST_RELEASE_MODELS:
        return
    option = declared(CIFARSettings)["mixup_off_epoch"]
    defaults = (
        "; --release first has that release's defaults, such as mixup, off for the last "
        f"{option.first_release} epochs, and decay epochs that are not shifted"
    )
    yield (
        f"the command line means the first release's {given.model}: today's resnext is trained, whose shortcuts differ"
        f"{defaults if given.mixup_off_epoch == option.default else ''}"
    )


def cifar_notes(settings: CIFARSettings, global_batch: int) -> Iterator[str]:
    """Yield what a user of these resolved settings, with `global_batch` images per step, should know, a line each."""
    fuses = settings.start_layer <= cifar.STAGES or settings.model == "inception"
    fusion = f"{settings.askc_type} from stage {settings.start_layer} on" if fuses else "addition in all stages"
    if settings.named:
        yield f"network: {settings.model}{name_of(settings).suffix}"
    else:
        yield f"network: {settings.model} of {settings.depth} layers, fusion {fusion}"
    yield _batch(settings, global_batch)
    yield "best weights: chosen by accuracy on the test images, as in the original"
    yield from _label_notes(settings)
    if settings.no_wd and not settings.cosine:
        yield "--no-wd has no effect without --cosine, as in the original"
    if settings.warmup_epochs and not settings.cosine:
        by = f"{abs(settings.warmup_epochs)} {'earlier' if settings.warmup_epochs > 0 else 'later'}"
        yield f"decay epochs come {by} than --lr-decay-epoch says, as in the original"
    yield from _mode_notes(settings)
    if settings.resume_from == "":
        yield "--resume-from is empty: this run begins with new weights"
    if not settings.logging_dir:
        yield "no log will be written (--logging-dir is empty)"
    yield from _end_notes(settings, [] if settings.cosine else settings.cuts, warms_up=settings.cosine)
    if settings.model == "resnext" and settings.channel_times != 4:
        yield "ResNeXt widths other than --channel-times 4 are not 4 wide per group, whatever the file name says"
    if settings.drop_rate:
        yield "--drop-rate has no effect, as in the original"
    if settings.warmup_lr:
        yield "--warmup-lr has no effect, as in the original"
    if not (settings.save_dir and settings.save_period):
        yield "no weights will be written (--save-dir is empty or --save-period 0)"
    if settings.model == "inception" and settings.start_layer != 1:
        yield "--start-layer has no effect on inception, which fuses in every layer"
    if settings.batch_size == 1 and fuses and settings.askc_type != "DirectAdd" and not settings.named:
        yield SINGLE_IMAGE


def _label_notes(settings: CIFARSettings) -> Iterator[str]:
    if settings.dataset == "cifar100":
        superclasses = "20 superclasses, the original's default (--fine-label for the 100 classes)"
        labels = "100 classes" if settings.fine_label else superclasses
        yield f"labels: CIFAR-100's {labels}, under a {settings.head_classes}-way head"
    elif settings.fine_label or settings.superclass:
        yield "--fine-label and --superclass have no effect on CIFAR-10"


def imagenet_notes(settings: ImageNetSettings, global_batch: int, on_gpu: bool = True) -> Iterator[str]:
    """Yield what a user of these resolved settings, on GPUs or not, should know, a line each."""
    if settings.named:
        yield f"network: {settings.model}{name_of(settings).suffix}, {settings.classes} outputs"
    else:
        yield from _imagenet_network_notes(settings)
    yield _batch(settings, global_batch)
    yield "best weights: chosen by top-1 error on the validation images, as in the original"
    yield from _imagenet_data_notes(settings, on_gpu)
    cuts = [settings.warmup_epochs + cut for cut in settings.cuts] if settings.lr_mode == "step" else []
    yield from _end_notes(settings, cuts, warms_up=True)
    yield from _resume_notes(settings)
    yield from _idle_notes(settings)
    if not (settings.save_dir and settings.save_frequency):
        yield "no weights will be written (--save-dir is empty or --save-frequency 0)"


def _imagenet_network_notes(settings: ImageNetSettings) -> Iterator[str]:
    fuses = settings.start_layer <= imagenet.STAGES
    fusion = f"{settings.askc_type} from stage {settings.start_layer} on" if fuses else "addition in all stages"
    resnext = settings.model == "resnext"
    layers = (2 if settings.basic else 3) * sum(settings.blocks) + 2
    yield f"network: {settings.model} of {layers} layers, fusion {fusion}, {settings.classes} outputs"
    if layers != settings.num_layer:
        blocks = ", ".join(map(str, settings.blocks))
        yield (
            f"--num-layer {settings.num_layer} is {layers} layers (blocks {blocks}), as in the original; "
            "--exact-layers has them all"
        )
    if settings.scenario is not None:
        today = settings.mixup_off_epoch == ImageNetSettings.mixup_off_epoch
        defaults = "; --release first has that release's defaults, such as mixup to the last epoch" if today else ""
        yield (
            f"the command line means the first release's {settings.scenario}: today's {settings.model} is trained, "
            f"whose stem and shortcuts differ{defaults}"
        )
    if resnext and settings.last_gamma:
        yield "--last-gamma has no effect on the ResNeXt, whose last gammas start at zero in any case"
    if resnext and settings.use_se:
        yield "--use-se: squeeze-and-excitation in every block, which the original promises and leaves out"
    if settings.use_se and not resnext:
        yield "--use-se has no effect on the ResNet, as in the original"
    if settings.r != ORIGINAL_R and fuses:
        yield f"--r {settings.r} is used, where the original has 16 whatever it says"
    if settings.batch_size == 1 and fuses and settings.askc_type != "DirectAdd":
        yield SINGLE_IMAGE


def _imagenet_data_notes(settings: ImageNetSettings, on_gpu: bool) -> Iterator[str]:
    if settings.auto_aug and settings.use_rec:
        yield (
            "--auto_aug HAS NO EFFECT with --use-rec, as in the original, whose published runs had both: no AutoAugment"
        )
    options = declared(ImageNetSettings).values()
    idle = [flag(each.name) for each in options if each.only_with and getattr(settings, each.name) != each.default]
    if idle and not settings.use_rec:
        yield f"{', '.join(idle)}: no effect without --use-rec; images are read from --data-dir"
    if settings.dtype == "float16" and not on_gpu:
        yield "--dtype float16 needs a GPU: this run is in float32"
    yield from _mode_notes(settings)
    if settings.crop_ratio != settings.used_crop_ratio:
        yield f"--crop-ratio {settings.crop_ratio:g} is taken for {settings.used_crop_ratio:g}, as in the original"


def _resume_notes(settings: ImageNetSettings) -> Iterator[str]:
    if not (settings.resume_params or settings.resume_states or settings.resume_epoch):
        return
    if not settings.resume_params:
        yield "no --resume-params: the weights are drawn anew"
    if not settings.resume_states:
        yield "no --resume-states: the momentum starts at zero"
    if not settings.resume_epoch:
        yield "no --resume-epoch: epochs are counted from 0"


def _idle_notes(settings: ImageNetSettings) -> Iterator[str]:
    if settings.warmup_lr:
        yield "--warmup-lr has no effect, as in the original: warm-up starts at 0"
    if settings.batch_norm:
        yield "--batch-norm has no effect, as in the original"
    if settings.use_gn:
        yield "--use-gn has no effect, as in the original"
    if settings.use_pretrained:
        yield "--use-pretrained has no effect, as in the original: name weights with --resume-params"
    if settings.teacher_params is not None and settings.teacher is None:
        yield "--teacher-params has no effect without --teacher"
    if settings.teacher is not None and settings.hard_weight >= 1:
        yield f"--teacher has no effect with --hard-weight {settings.hard_weight:g}, as in the original"
    if settings.exact_layers and settings.num_layer != 152:
        yield "--exact-layers has no effect but with --num-layer 152"


def segmentation_notes(settings: SegmentationSettings, images: Tuple[int, int], global_batch: int) -> Iterator[str]:
    """Yield what a user of these resolved settings, with so many training and validation images, should know."""
    training, validation = EXPECTED_IMAGES
    yield f"network: ResNet-20-{settings.blocks} + FPN, fusion {settings.askc_type}"
    yield f"data: {images[0]:,} images to train on, {images[1]:,} to validate on"
    if any(abs(found / expected - 1) > NEARLY for found, expected in zip(images, EXPECTED_IMAGES)):
        yield f"COCO 2017 has about {training:,} and {validation:,}: this is not StopSign as the paper had it"
    yield _batch(settings, global_batch)
    yield "best weights: chosen by IoU on the validation images, as in the original"
    if not settings.save_dir:
        yield "no weights will be written (--save-dir is empty)"
    if not settings.logging_dir:
        yield "no log will be written (--logging-dir is empty)"
    if settings.batch_size == 1 and settings.askc_type not in ("DirectAdd", "Concat"):
        yield SINGLE_IMAGE


def _batch(settings: RunSettings, global_batch: int) -> str:
    return f"batch: {settings.batch_size} images per device, {global_batch} per step; lr is not scaled with it"


def _mode_notes(settings: ClassifierSettings) -> Iterator[str]:
    if settings.mode == "symbolic":
        yield "--mode symbolic is not supported: this run is imperative, as in the original"


def _end_notes(settings: ClassifierSettings, cuts: List[int], *, warms_up: bool) -> Iterator[str]:
    """Yield what falls after the end of the run: some of the `cuts` of the rate, the end of the warm-up or of mixup."""
    epochs, warmup = settings.num_epochs, settings.warmup_epochs
    late = ", ".join(str(cut) for cut in cuts if cut >= epochs)
    if late:
        yield f"decay epochs behind the end, {epochs}: {late}"
    if warms_up and warmup >= epochs:
        yield f"warm-up lasts to the end: --warmup-epochs {warmup}, --num-epochs {epochs}"
    if settings.mixup and settings.mixup_off_epoch >= epochs:
        yield f"--mixup has no effect: it is off for the last {settings.mixup_off_epoch} epochs (--mixup-off-epoch)"
