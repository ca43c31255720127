"""`make demo`: train the AFF-ResNet on real images with the original's command line, then load its weights back.

The network is narrow (ResNet-8, 16 channels) and the images are scikit-learn's handwritten digits in CIFAR-10's binary
layout, so that two CPU cores are enough.
"""

import os
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXPECTED_ACCURACY = 0.97
COMMAND = (
    "python train_cifar.py --model resnet --askc-type ASKCFuse --auto_aug --mixup --label-smoothing --cosine --no-wd "
    "--blocks 1 --channel-times 1 --dataset cifar10 --data-dir demo/digits --num-epochs 32 --warmup-epochs 2 "
    "--mixup-off-epoch 27 --batch-size 32 --lr 0.1 --seed 0 "
    "--save-dir demo/params --logging-dir demo/logs --save-plot-dir demo"
)


def main() -> int:
    """Run the demo from the repository's root; 0 if it gives what it promises."""
    from gluon_aff.data.sample import write_digits

    os.chdir(ROOT)
    start = time.monotonic()
    write_digits("demo/digits")
    print(f"scikit-learn's 1,797 handwritten digits are in demo/digits. Training on them:\n\n{COMMAND}\n", flush=True)
    training = subprocess.run([sys.executable, *COMMAND.split()[1:]], stdout=subprocess.PIPE, text=True)
    if training.returncode:
        return training.returncode
    files = dict(line.split(":", 1) for line in training.stdout.splitlines())
    files = {what: text.strip() for what, text in files.items()}
    trained, loaded = float(files["best_val_score"]), accuracy_of(files["weights"])
    print(f"\nbest validation accuracy while training: {trained}")
    print(f"its weights, loaded back and validated:  {loaded}")
    for what in ("weights", "log", "curve"):
        print(f"{what + ':':<9}{os.path.normpath(files[what])}")
    print(f"time:    {time.monotonic() - start:.0f} s")
    if loaded != trained or loaded < EXPECTED_ACCURACY:
        print(f"demo: error: both were to be equal and at least {EXPECTED_ACCURACY}", file=sys.stderr)
        return 1
    return 0


def accuracy_of(params: str) -> float:
    """Validation accuracy of the weights at `params` on the digits, in 0..1."""
    import mxnet as mx

    from gluon_aff import get_model
    from gluon_aff.data.cifar import load_cifar
    from gluon_aff.data.loading import validation_batches
    from gluon_aff.training.loop import validate
    from gluon_aff.weights import load_parameters

    net = get_model("aff_resnet32_cifar100", blocks=1, channel_times=1, classes=10)
    load_parameters(net, params)
    data = load_cifar("cifar10", train=False, data_dir="demo/digits")
    return validate(net, validation_batches(data, 32), [mx.cpu()])


if __name__ == "__main__":
    sys.exit(main())
