"""Logs in the original's format, written from the published figures, which were parsed from it."""

import math

from gluon_aff.published import curve


def settings_line(run, **changed):
    settings = {**run.settings, "logging_dir": "logs", "save_dir": "params", **changed}
    return "Namespace({})".format(", ".join(f"{name}={value!r}" for name, value in sorted(settings.items())))


def log_lines(run, epochs=None):
    """Lines of the log of `run`: settings, then its epochs up to `epochs`."""
    rows = [dict(zip(columns, row)) for columns in [curve(run)] for row in zip(*columns.values())][:epochs]
    imagenet = run.dataset == "imagenet"
    figures = [line for row in rows for line in (imagenet_lines if imagenet else cifar_lines)(row)]
    prefix = "" if imagenet else "INFO:root:"
    return [prefix + line for line in (settings_line(run), *figures)]


def cifar_lines(row):
    lr = f" lr: {row['lr']:f}" if math.isfinite(row.get("lr", math.nan)) else ""
    yield (
        f"[Epoch {row['epoch']}] train={row['train_rmse']:f} val={row['val_acc']:f} loss={row['loss']:f}{lr} "
        f"time: {row['seconds']:f}"
    )


def imagenet_lines(row):
    epoch = row["epoch"]
    metric = "rmse" if "train_rmse" in row else "accuracy"
    value = row["train_rmse" if metric == "rmse" else "train_acc"]
    for batch in (49, 99):
        yield f"Epoch[{epoch}] Batch [{batch}]\tSpeed: 1391.035831 samples/sec\t{metric}={value:f}\tlr=0.000300"
    yield f"[Epoch {epoch}] training: {metric}={value:f}"
    yield f"[Epoch {epoch}] speed: {row['samples_per_sec']:.0f} samples/sec\ttime cost: {row['seconds']:f}"
    yield f"[Epoch {epoch}] validation: err-top1={row['err_top1']:f} err-top5={row['err_top5']:f}"


# Of train_segmentation.py
SEGMENTATION = """\
INFO:root:Namespace(askc_type='ASKCFuse', batch_size=32, crop_size=480, num_epochs=3, r=4, seed=1)
INFO:root:gluon_aff 0.1.0, MXNet 1.9.1, NumPy 1.23.5, Python 3.11.7, devices cpu(0), 32 images per step, other data, \
2 label values under a 1-way head
INFO:root:[Epoch 0] train=0.314862 val=0.085231 niou=0.098681 loss=0.821794 lr: 0.006934 time: 3.541721
INFO:root:[Epoch 1] train=0.580634 val=0.854071 niou=0.856588 loss=0.537613 lr: 0.003715 time: 2.394411
INFO:root:[Epoch 2] train=0.682447 val=0.791604 niou=0.862692 loss=0.433511 lr: 0.000000 time: 1.617332
"""
