"""Commands that train, and that make data to train on."""

from __future__ import annotations

import argparse
from typing import Dict, List

from gluon_aff.commands import Command
from gluon_aff.training.cifar_options import add_options as add_cifar_options
from gluon_aff.training.cifar_options import settings_from


def _train_cifar(options: argparse.Namespace) -> int:
    from gluon_aff.training.cifar import summarise_cifar, train_cifar

    settings = settings_from(vars(options))
    if settings.summary:
        print(summarise_cifar(settings))
        return 0
    run = train_cifar(settings)
    print(f"best_val_score:  {run.best_accuracy}")
    for what, path in (("weights", run.params or "none"), ("log", run.log), ("curve", run.curve)):
        print(f"{what + ':':<9}{path}")
    return 0


def _add_make_data_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument("kind", choices=("digits", "shapes"), help="digits: scikit-learn's 1,797 handwritten digits in "
        "CIFAR-10's layout; shapes: drawn shapes, 20 coarse and 100 fine kinds, in CIFAR-100's layout")  # fmt: skip
    parser.add_argument("folder", help="folder to make")


def _make_data(options: argparse.Namespace) -> int:
    from gluon_aff.data.sample import write_digits, write_shapes

    {"digits": write_digits, "shapes": write_shapes}[options.kind](options.folder)
    print(f"{options.kind} are in {options.folder}")
    return 0


COMMANDS: Dict[str, Command] = {
    "train-cifar": Command(
        "train a CIFAR network with the original's options",
        add_cifar_options,
        _train_cifar,
        (
            "--model resnet --askc-type ASKCFuse --auto_aug --mixup --label-smoothing --cosine --no-wd --blocks 5",
            "--fine-label --gpus 0,1 --model resnet --auto_aug --mixup --label-smoothing --no-wd --blocks 5",
            "--model resnext --blocks 4 --summary",
        ),
    ),
    "make-data": Command(
        "write a small data set in CIFAR's binary layout", _add_make_data_options, _make_data, ("digits demo/digits",)
    ),
}
