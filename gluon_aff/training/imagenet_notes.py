"""What `train_imagenet.py` says of its settings at the start of a run: what they come to, and what has no effect."""

from __future__ import annotations

from typing import Dict, List

from gluon_aff.training.imagenet_options import ORIGINAL_R, RECORD_FILES, STAGES, ImageNetSettings
from gluon_aff.training.options import flag, late_cuts, named_part


def notes(settings: ImageNetSettings, global_batch: int, on_gpu: bool = True) -> List[str]:
    """What a user of these resolved settings should know at the start of a run, a line each.

    Args:
        settings: resolved.
        global_batch: images per step on all devices.
        on_gpu: whether the run is on GPUs.
    """
    said_if = {
        **_network_notes(settings),
        f"batch: {settings.batch_size} images per device, {global_batch} per step; lr is not scaled with it": True,
        "best weights: chosen by top-1 error on the validation images, as in the original": True,
        **_data_notes(settings, on_gpu),
        **_schedule_notes(settings),
        **_idle_notes(settings),
        **_file_notes(settings),
    }
    return [line for line, said in said_if.items() if said]


def _network_notes(settings: ImageNetSettings) -> Dict[str, bool]:
    if settings.named:
        return {f"network: {settings.model}{named_part(settings)}, {settings.classes} outputs": True}
    fuses = settings.start_layer <= STAGES
    fusion = f"{settings.askc_type} from stage {settings.start_layer} on" if fuses else "addition in all stages"
    resnext = settings.model == "resnext"
    layers = (2 if settings.basic else 3) * sum(settings.blocks) + 2
    blocks = ", ".join(map(str, settings.blocks))
    today = settings.mixup_off_epoch == ImageNetSettings.mixup_off_epoch
    defaults = "; --release first has that release's defaults, such as mixup to the last epoch" if today else ""
    return {
        f"network: {settings.model} of {layers} layers, fusion {fusion}, {settings.classes} outputs": True,
        f"--num-layer {settings.num_layer} is {layers} layers (blocks {blocks}), as in the original; "
        "--exact-layers has them all": layers != settings.num_layer,
        f"the command line means the first release's {settings.scenario}: today's {settings.model} is trained, whose "
        f"stem and shortcuts differ{defaults}": settings.scenario is not None,
        "--last-gamma has no effect on the ResNeXt, whose last gammas start at zero in any case": (
            resnext and settings.last_gamma
        ),
        "--use-se: squeeze-and-excitation in every block, which the original promises and leaves out": (
            resnext and settings.use_se
        ),
        "--use-se has no effect on the ResNet, as in the original": settings.use_se and not resnext,
        f"--r {settings.r} is used, where the original has 16 whatever it says": settings.r != ORIGINAL_R and fuses,
        "with one image per device the global context is all zeros while training (BatchNorm over one value): "
        "take --batch-size 2 or more": settings.batch_size == 1 and fuses and settings.askc_type != "DirectAdd",
    }


def _data_notes(settings: ImageNetSettings, on_gpu: bool) -> Dict[str, bool]:
    defaults = ImageNetSettings()
    named = [name for name in RECORD_FILES if getattr(settings, name) != getattr(defaults, name)]
    return {
        "--auto_aug HAS NO EFFECT with --use-rec, as in the original, whose published runs had both: no AutoAugment": (
            settings.auto_aug and settings.use_rec
        ),
        f"{', '.join(map(flag, named))}: no effect without --use-rec; images are read from --data-dir": (
            bool(named) and not settings.use_rec
        ),
        "--dtype float16 needs a GPU: this run is in float32": settings.dtype == "float16" and not on_gpu,
        "--mode symbolic is not supported: this run is imperative, as in the original": settings.mode == "symbolic",
        f"--crop-ratio {settings.crop_ratio:g} is taken for {settings.used_crop_ratio:g}, as in the original": (
            settings.crop_ratio != settings.used_crop_ratio
        ),
    }


def _schedule_notes(settings: ImageNetSettings) -> Dict[str, bool]:
    late = late_cuts(settings, 0)
    resumes = bool(settings.resume_params or settings.resume_states or settings.resume_epoch)
    return {
        f"decay epochs behind the end, {settings.num_epochs}: {late}": bool(late) and settings.lr_mode == "step",
        f"warm-up lasts to the end: --warmup-epochs {settings.warmup_epochs}, --num-epochs {settings.num_epochs}": (
            settings.warmup_epochs >= settings.num_epochs
        ),
        f"--mixup has no effect: it is off for the last {settings.mixup_off_epoch} epochs (--mixup-off-epoch)": (
            settings.mixup and settings.mixup_off_epoch >= settings.num_epochs
        ),
        "no --resume-params: the weights are drawn anew": resumes and not settings.resume_params,
        "no --resume-states: the momentum starts at zero": resumes and not settings.resume_states,
        "no --resume-epoch: epochs are counted from 0": resumes and not settings.resume_epoch,
    }


def _idle_notes(settings: ImageNetSettings) -> Dict[str, bool]:
    return {
        "--warmup-lr has no effect, as in the original: warm-up starts at 0": settings.warmup_lr != 0,
        "--batch-norm has no effect, as in the original": settings.batch_norm,
        "--use-gn has no effect, as in the original": settings.use_gn,
        "--use-pretrained has no effect, as in the original: name weights with --resume-params": (
            settings.use_pretrained
        ),
        "--teacher-params has no effect without --teacher": settings.teacher_params is not None
        and settings.teacher is None,
        f"--teacher has no effect with --hard-weight {settings.hard_weight:g}, as in the original": (
            settings.teacher is not None and settings.hard_weight >= 1
        ),
        "--exact-layers has no effect but with --num-layer 152": settings.exact_layers and settings.num_layer != 152,
    }


def _file_notes(settings: ImageNetSettings) -> Dict[str, bool]:
    return {
        "no weights will be written (--save-dir is empty or --save-frequency 0)": (
            not (settings.save_dir and settings.save_frequency)
        ),
    }
