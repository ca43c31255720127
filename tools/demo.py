"""Run `make demo` or `make demo-imagenet`: train with the original's options on small data, evaluate, compare, report.

`digits` trains a narrow AFF-ResNet (ResNet-8 with 16 channels) on scikit-learn's handwritten digits in CIFAR-10's
binary layout. `pictures` trains the AFF-ResNet-50 on 400 pictures of 8 classes, packed from ImageNet's folders into
record files, at 32 x 32 pixels. Two CPU cores are enough for each.
"""

from __future__ import annotations

import csv
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Dict, Tuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
UNUSABLE = 2  # exit code of `compare` if no published run fits


@dataclass(frozen=True)
class Demo:
    """Describes a demo.

    Attributes:
        folder: folder for everything that the demo writes.
        prepare: commands that write the data.
        train: command that trains.
        evaluate: options of `gluon-aff evaluate`.
        least_accuracy: least top-1 accuracy, 0..1, that counts as success.
    """

    folder: str
    prepare: Tuple[str, ...]
    train: str
    evaluate: str
    least_accuracy: float


DEMOS: Dict[str, Demo] = {
    "digits": Demo(
        "demo",
        ("gluon-aff make-data digits demo/digits",),
        "python train_cifar.py --model resnet --askc-type ASKCFuse --auto_aug --mixup --label-smoothing --cosine "
        "--no-wd --blocks 1 --channel-times 1 --dataset cifar10 --data-dir demo/digits --num-epochs 32 "
        "--warmup-epochs 2 --mixup-off-epoch 27 --batch-size 32 --lr 0.1 --seed 0 "
        "--save-dir demo/params --logging-dir demo/logs --save-plot-dir demo",
        "--data-dir demo/digits",
        0.95,
    ),
    "pictures": Demo(
        "demo/imagenet",
        (
            "gluon-aff make-data pictures demo/imagenet/pictures",
            "gluon-aff make-records demo/imagenet/pictures/train demo/imagenet/rec/train",
            "gluon-aff make-records demo/imagenet/pictures/val demo/imagenet/rec/val",
        ),
        "python train_imagenet.py --model resnet --askc-type ASKCFuse --label-smoothing --mixup --last-gamma --no-wd "
        "--use-rec --rec-train demo/imagenet/rec/train.rec --rec-train-idx demo/imagenet/rec/train.idx "
        "--rec-val demo/imagenet/rec/val.rec --rec-val-idx demo/imagenet/rec/val.idx --classes 8 --num-epochs 10 "
        "--warmup-epochs 1 --lr 0.02 --input-size 32 --batch-size 16 --log-interval 10 --keep-one-best --seed 0 "
        "--save-dir demo/imagenet/params --logging-file demo/imagenet/train.log",
        "--data-dir demo/imagenet/rec --input-size 32",
        0.5,
    ),
}


def main() -> int:
    """Run the demo that the first argument names, by default digits; return 0 if it reaches its accuracy, else 1."""
    demo = DEMOS[sys.argv[1] if len(sys.argv) > 1 else "digits"]
    os.chdir(ROOT)
    start = time.monotonic()
    for command in demo.prepare:
        run(command)
    printed = run(demo.train, stdout=subprocess.PIPE)
    (score, trained), *files = (line.split(":", 1) for line in printed.splitlines())
    paths = {what: os.path.normpath(path.strip()) for what, path in files}
    accuracy = float(trained) if score == "best_val_score" else 1 - float(trained)
    table = f"{demo.folder}/evaluations.csv"
    run(f"gluon-aff evaluate --params {paths['weights']} {demo.evaluate} --csv {table}")
    run(f"gluon-aff compare {paths['log']}", expected=UNUSABLE)
    run(f"gluon-aff report {demo.folder} -o {demo.folder}/report.html")
    loaded = last_accuracy(table)
    print(f"\nbest validation accuracy while training: {accuracy}")
    print(f"its weights, loaded back and evaluated:  {loaded}")
    print(f"time: {time.monotonic() - start:.0f} s; now open {demo.folder}/report.html")
    if abs(loaded - accuracy) > 1e-9 or loaded < demo.least_accuracy:
        print(f"demo: error: both must be equal and at least {demo.least_accuracy}", file=sys.stderr)
        return 1
    return 0


def run(command: str, expected: int = 0, stdout: int | None = None) -> str:
    """Print `command` and run it; end the demo if its exit code is not the expected one.

    Returns:
        The output of the command if `stdout` is a pipe.
    """
    print(f"\n$ {command}\n", flush=True)
    program, *arguments = shlex.split(command)
    module = [] if program == "python" else ["-m", "gluon_aff"]
    # These networks are too small for several threads, and with one thread every machine rounds alike.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    result = subprocess.run([sys.executable, *module, *arguments], stdout=stdout, text=True, env=environment)
    if result.returncode != expected:
        sys.exit(result.returncode or 1)
    return result.stdout


def last_accuracy(path: str) -> float:
    """Return the top-1 accuracy (0..1) in the last row of the table of evaluations."""
    with open(path, newline="") as file:
        return float(list(csv.DictReader(file))[-1]["top1"])


if __name__ == "__main__":
    sys.exit(main())
