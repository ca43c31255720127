"""`make demo`, `make demo-imagenet`: the original's command lines on small data, then evaluate, compare, report.

Digits: a narrow AFF-ResNet (ResNet-8, 16 channels) and scikit-learn's handwritten digits in CIFAR-10's binary layout.
Pictures: the AFF-ResNet-50 and 400 pictures of 8 kinds in ImageNet's folders, made into records, at 32 x 32 pixels.
Two CPU cores are enough for either.
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
UNUSABLE = 2  # exit code of `compare` where nothing published fits


@dataclass(frozen=True)
class Demo:
    """Commands of a demo, how to evaluate, and the least top-1 accuracy that shows it worked."""

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
    """Run the demo that the first argument names, digits without one; 0 if it gives what it promises."""
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
    print(f"time: {time.monotonic() - start:.0f} s; to look at: {demo.folder}/report.html")
    if abs(loaded - accuracy) > 1e-9 or loaded < demo.least_accuracy:
        print(f"demo: error: both were to be equal and at least {demo.least_accuracy}", file=sys.stderr)
        return 1
    return 0


def run(command: str, expected: int = 0, stdout: int | None = None) -> str:
    """Show `command` and run it; what it printed, if `stdout` is piped. Ends the demo if it fails."""
    print(f"\n$ {command}\n", flush=True)
    program, *arguments = shlex.split(command)
    module = [] if program == "python" else ["-m", "gluon_aff"]
    # One thread: these networks are too small for more, and every machine rounds alike
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    result = subprocess.run([sys.executable, *module, *arguments], stdout=stdout, text=True, env=environment)
    if result.returncode != expected:
        sys.exit(result.returncode or 1)
    return result.stdout


def last_accuracy(path: str) -> float:
    """Top-1 accuracy in the last row of the table of evaluations, in 0..1."""
    with open(path, newline="") as file:
        return float(list(csv.DictReader(file))[-1]["top1"])


if __name__ == "__main__":
    sys.exit(main())
