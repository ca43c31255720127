"""`make demo`: train the AFF-ResNet on real images with the original's command line, evaluate, compare, report.

The network is narrow (ResNet-8, 16 channels) and the images are scikit-learn's handwritten digits in CIFAR-10's binary
layout, so that two CPU cores are enough.
"""

from __future__ import annotations

import csv
import os
import shlex
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXPECTED_ACCURACY = 0.97
UNUSABLE = 2  # exit code of `compare` where nothing published fits
TRAIN = (
    "python train_cifar.py --model resnet --askc-type ASKCFuse --auto_aug --mixup --label-smoothing --cosine --no-wd "
    "--blocks 1 --channel-times 1 --dataset cifar10 --data-dir demo/digits --num-epochs 32 --warmup-epochs 2 "
    "--mixup-off-epoch 27 --batch-size 32 --lr 0.1 --seed 0 "
    "--save-dir demo/params --logging-dir demo/logs --save-plot-dir demo"
)
EVALUATIONS = "demo/evaluations.csv"


def main() -> int:
    """Run the demo from the repository's root; 0 if it gives what it promises."""
    from gluon_aff.data.sample import write_digits

    os.chdir(ROOT)
    start = time.monotonic()
    write_digits("demo/digits")
    print("scikit-learn's 1,797 handwritten digits are in demo/digits.")
    files = dict(line.split(":", 1) for line in run(TRAIN, stdout=subprocess.PIPE).splitlines())
    files = {what: text.strip() for what, text in files.items()}
    weights, log = (os.path.normpath(files[what]) for what in ("weights", "log"))
    run(f"gluon-aff evaluate --params {weights} --data-dir demo/digits --csv {EVALUATIONS}")
    run(f"gluon-aff compare {log}", expected=UNUSABLE)
    run("gluon-aff report demo -o demo/report.html")
    trained, loaded = float(files["best_val_score"]), last_accuracy(EVALUATIONS)
    print(f"\nbest validation accuracy while training: {trained}")
    print(f"its weights, loaded back and evaluated:  {loaded}")
    print(f"time: {time.monotonic() - start:.0f} s; to look at: demo/report.html")
    if loaded != trained or loaded < EXPECTED_ACCURACY:
        print(f"demo: error: both were to be equal and at least {EXPECTED_ACCURACY}", file=sys.stderr)
        return 1
    return 0


def run(command: str, expected: int = 0, stdout: int | None = None) -> str:
    """Show `command` and run it; what it printed, if `stdout` is piped. Ends the demo if it fails."""
    print(f"\n$ {command}\n", flush=True)
    program, *arguments = shlex.split(command)
    module = [] if program == "python" else ["-m", "gluon_aff"]
    result = subprocess.run([sys.executable, *module, *arguments], stdout=stdout, text=True)
    if result.returncode != expected:
        sys.exit(result.returncode or 1)
    return result.stdout


def last_accuracy(path: str) -> float:
    """Top-1 accuracy in the last row of the table of evaluations, in 0..1."""
    with open(path, newline="") as file:
        return float(list(csv.DictReader(file))[-1]["top1"])


if __name__ == "__main__":
    sys.exit(main())
