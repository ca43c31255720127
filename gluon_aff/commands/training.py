"""The commands `train-...`, which train networks, and `make-...`, which write data to train on."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any, Callable, Dict, List, Optional

from gluon_aff._platform import ENGINES
from gluon_aff.commands import ENGINE, NO_ENGINE, Command, not_negative, positive
from gluon_aff.models import Architecture
from gluon_aff.printing import show, show_text
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.settings.cifar import resolve as resolve_cifar
from gluon_aff.settings.imagenet import ImageNetSettings
from gluon_aff.settings.imagenet import resolve as resolve_imagenet
from gluon_aff.settings.parser import add_options, settings_from
from gluon_aff.settings.segmentation import SegmentationSettings
from gluon_aff.settings.segmentation import resolve as resolve_segmentation
from gluon_aff.settings.shared import RunSettings


def _train(
    options: argparse.Namespace,
    settings: RunSettings,
    architecture: Callable[[], Architecture],
    train: Callable[[Any], Any],
    scores: Dict[str, str],
    file_column: int = 9,
) -> int:
    """Train, and print the scores and files of the run; with --summary, only print the network.

    Args:
        options: parsed command line.
        settings: settings of the run.
        architecture: returns the network.
        train: trains with the settings and returns the run.
        scores: attribute of the run for each printed title.
        file_column: column in which paths are printed.
    """
    if settings.summary:
        show_text(_summary(architecture(), settings.engine))
        return 0
    from gluon_aff.distributed.launch import launch_here
    from gluon_aff.training.setup import processes_needed

    processes = processes_needed(settings)
    if processes > 1:
        return launch_here(options.process, processes)
    run = train(settings)
    if run.rank:
        return 0
    for title, score in scores.items():
        show(f"{title}{getattr(run, score)}")
    files = {"weights": run.params or "none", "log": run.log, "curve": getattr(run, "curve", None)}
    for what, path in files.items():
        if path:
            show(f"{what + ':':<{file_column}}{path}")
    return 0


def _train_cifar(options: argparse.Namespace) -> int:
    from gluon_aff.training.architectures import cifar_architecture
    from gluon_aff.training.cifar import train_cifar

    settings = settings_from(CIFARSettings, vars(options))
    scores = {"best_val_score:  ": "best_accuracy"}
    return _train(options, settings, lambda: cifar_architecture(resolve_cifar(settings)), train_cifar, scores)


def _summary(architecture: Architecture, engine_name: Optional[str]) -> str:
    """Return the layers, parameters and multiply-adds of a network as text."""
    from gluon_aff.engines import engine
    from gluon_aff.inspection.summary import format_counts

    return format_counts(engine(engine_name).count_layers(architecture, architecture.input_size))


def _add_make_data_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument(
        "kind",
        choices=("digits", "shapes", "pictures", "stop-signs"),
        help="digits: the 1,797 handwritten digits of scikit-learn, in CIFAR-10's layout; shapes: drawn shapes with 20 "
        "coarse and 100 fine labels, in CIFAR-100's layout; pictures: patches of photographs and drawings of 8 "
        "classes, in ImageNet's folders; stop-signs: drawn stop signs among other shapes, in COCO's layout",
    )
    parser.add_argument("folder", help="folder to write the data set to")


def _make_data(options: argparse.Namespace) -> int:
    from gluon_aff.data.samples.cifar_layout import write_digits, write_shapes
    from gluon_aff.data.samples.pictures import write_pictures
    from gluon_aff.data.samples.stop_signs import write_stop_signs

    writers = {
        "digits": write_digits,
        "shapes": write_shapes,
        "pictures": write_pictures,
        "stop-signs": write_stop_signs,
    }
    writers[options.kind](options.folder)
    show(f"{options.kind} are in {options.folder}")
    return 0


def _train_imagenet(options: argparse.Namespace) -> int:
    from gluon_aff.training.architectures import imagenet_architecture
    from gluon_aff.training.imagenet import train_imagenet

    settings = settings_from(ImageNetSettings, vars(options))
    scores = {"best err-top1:   ": "best_error"}
    return _train(options, settings, lambda: imagenet_architecture(resolve_imagenet(settings)), train_imagenet, scores)


def _train_segmentation(options: argparse.Namespace) -> int:
    from gluon_aff.training.architectures import segmentation_architecture
    from gluon_aff.training.segmentation import train_segmentation

    settings = settings_from(SegmentationSettings, vars(options))
    scores = {"best IoU:  ": "best_iou", "best nIoU: ": "best_niou"}

    def network() -> Architecture:
        return segmentation_architecture(resolve_segmentation(settings))

    return _train(options, settings, network, train_segmentation, scores, 11)


def _add_make_records_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="folder that has a subfolder with pictures for each class")
    parser.add_argument("out", metavar="OUT", help="start of the file names OUT.rec, OUT.idx, OUT.lst and OUT.classes")
    parser.add_argument(
        "--classes", metavar="TRAIN", help="training set whose classes give the labels: its folder, or the .classes "
        "file of its records (default: the folder train next to FOLDER if there is one, else FOLDER itself)"
    )  # fmt: skip
    parser.add_argument(
        "--shorter-side", type=positive, metavar="PIXELS", help="resize pictures so that their shorter side has this "
        "many pixels (default: keep their size)"
    )  # fmt: skip
    parser.add_argument("--quality", type=positive, default=95, help="JPEG quality from 1 to 100 (default: 95)")
    parser.add_argument(
        "--no-shuffle", action="store_true", help="write one class after another (default: in random order)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random order (default: 0)")
    parser.add_argument(
        "-j", "--num-workers", type=not_negative, default=4, help="threads that encode pictures (default: 4)"
    )
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="leave out pictures that cannot be read (default: stop there)"
    )


def _make_records(options: argparse.Namespace) -> int:
    from gluon_aff.data.imagenet.record_writing import write_records

    written = write_records(
        options.folder,
        options.out,
        options.shorter_side,
        options.quality,
        not options.no_shuffle,
        options.seed,
        options.num_workers,
        options.skip_unreadable,
        options.classes,
    )
    for note in written.notes:
        show(f"gluon-aff: {note}", file=sys.stderr)
    for path in written.skipped:
        show(f"gluon-aff: {path} cannot be read and was left out", file=sys.stderr)
    show(f"{written.images:,} pictures of {len(written.classes.names)} classes are in {options.out}.rec")
    return 0


def _about(data: str, script: str) -> str:
    return (
        f"The command lines of the original's {script} run unchanged. A run on {data} writes its log, its curve and "
        "the weights of its best epochs, and prints their paths at the end. To continue after an interruption, give "
        f"the same command with --resume auto. --summary shows the network without training.\n\n{ENGINE}"
    )


COMMANDS: Dict[str, Command] = {
    "train-cifar": Command(
        "train a CIFAR network with the original's options",
        partial(add_options, CIFARSettings),
        _train_cifar,
        (
            "--model resnet --askc-type ASKCFuse --auto_aug --mixup --label-smoothing --cosine --no-wd --blocks 5",
            "--fine-label --gpus 0,1 --model resnet --auto_aug --mixup --label-smoothing --no-wd --blocks 5",
            "--model resnext --blocks 4 --summary",
        ),
        computes=True,
        engines=ENGINES,
        about=_about("CIFAR-10 or CIFAR-100", "train_cifar.py"),
    ),
    "train-imagenet": Command(
        "train an ImageNet network with the original's options",
        partial(add_options, ImageNetSettings),
        _train_imagenet,
        (
            "--model resnet --askc-type ASKCFuse --label-smoothing --mixup --last-gamma --no-wd --use-rec "
            "--rec-train train.rec --rec-train-idx train.idx --rec-val val.rec --rec-val-idx val.idx",
            "--model resnext --askc-type iAFF --data-dir imagenet --auto_aug --label-smoothing --mixup --no-wd",
            "--model resnext --num-layer 101 --summary",
        ),
        computes=True,
        engines=ENGINES,
        about=_about("ImageNet", "train_imagenet.py"),
    ),
    "train-segmentation": Command(
        "train the paper's segmentation network on StopSign, from COCO 2017",
        partial(add_options, SegmentationSettings),
        _train_segmentation,
        (
            "--data-dir coco",
            "--data-dir coco --fusion iAFF --blocks 4 --gpus 0,1",
            "--data-dir demo/stop-signs --stem tiny --base-size 128 --crop-size 96 --batch-size 8 --lr 0.05 "
            "--num-epochs 15",
        ),
        computes=True,
        engines=ENGINES,
        about="The original has no such command; the recipe is that of the paper's Table 2. A run writes its log, its "
        "curve and the weights of its best epochs, and prints their paths at the end. To continue after an "
        f"interruption, give the same command with --resume auto.\n\n{ENGINE}",
    ),
    "make-records": Command(
        "pack class folders into MXNet's record files, as im2rec does",
        _add_make_records_options,
        _make_records,
        ("imagenet/train imagenet/rec/train", "imagenet/val imagenet/rec/val --no-shuffle"),
        about="Training on ImageNet reads large record files faster than a million small pictures (train-imagenet "
        f"--use-rec). Both engines read them.\n\n{NO_ENGINE}",
    ),
    "make-data": Command(
        "write a small data set in CIFAR's, ImageNet's or COCO's layout",
        _add_make_data_options,
        _make_data,
        ("digits demo/digits", "stop-signs demo/stop-signs"),
        about="With these data, every training command can be tried within minutes and without a download. Their "
        f"accuracies say nothing about the paper's.\n\n{NO_ENGINE}",
    ),
}
