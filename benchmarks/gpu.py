"""Measure how fast PyTorch trains and infers, and compare it with the published logs: `python -m benchmarks gpu`.

This needs only PyTorch, NumPy and this package; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch

from benchmarks.machine import processor
from gluon_aff._version import __version__
from gluon_aff.engines import Classification, Devices, LearnerSettings, Optimizer
from gluon_aff.files import replacing
from gluon_aff.models import CIFAR_SIZE, ModelRecord, model_record
from gluon_aff.published import curve, published_runs
from gluon_aff.pytorch.cluster import TorchCluster
from gluon_aff.pytorch.learner import TorchLearner, learner
from gluon_aff.results.text import columns_text

DESCRIPTION = """\
Measure training and inference of the seven published networks in PyTorch on random
images, and training with the input pipeline of CIFAR. The first GPU computes, or the CPU
if there is no GPU. The table also has the speeds in the published logs, which are those
of two or four GPUs of 2020. The most important rows are measured first, and after
--minutes no new row is started.
"""
CIFAR_IMAGES = 50_000
RESNET32 = "aff_resnet32_cifar100"
CIFAR = (RESNET32, "aff_resnext38_32x4d_cifar100", "aff_resnext47_32x4d_cifar100")
IMAGENET = ("aff_resnet50", "iaff_resnet50", "aff_resnext50_32x4d", "iaff_resnext50_32x4d")
FULL = "float32"  # computed in TF32 if the GPU has it
COLUMNS = (
    *("network", "images", "batch", "precision", "compiled", "training images/s", "inference images/s"),
    *("peak MiB", "published images/s", "published GPUs", "ratio"),
)


@dataclass(frozen=True)
class Row:
    """Describes a measurement.

    Attributes:
        model: name of the network.
        batch: number of images in a batch.
        precision: float32, or the format of mixed precision, float16 or bfloat16.
        compiled: True if the network is compiled.
        images: source of the images: random, or the pipeline of CIFAR.
    """

    model: str
    batch: int
    precision: str
    compiled: bool
    images: str = "random"


def gpu_rows() -> Iterator[Row]:
    """Yield the rows for a GPU, the most important first: compiled, then uncompiled, also with twice the batch."""
    yield from (Row(model, 128, precision, True) for precision in ("float16", "bfloat16") for model in IMAGENET)
    yield from (Row(model, 128, precision, True) for precision in (FULL, "bfloat16") for model in CIFAR)
    yield Row(RESNET32, 128, FULL, True, "pipeline")
    yield from (
        Row(model, batch, precision, False)
        for batch, precision, model in itertools.product((128, 256), ("float16", "bfloat16", FULL), IMAGENET)
    )
    yield from (Row(model, 128, precision, False) for precision in (FULL, "bfloat16") for model in CIFAR)


def cpu_rows() -> Iterator[Row]:
    """Yield the rows for a CPU."""
    for precision in (FULL, "bfloat16"):
        yield Row(RESNET32, 32, precision, False)
        yield Row("aff_resnet50", 8, precision, False)
    yield Row(RESNET32, 32, FULL, False, "pipeline")


def published_rate(model: str) -> Tuple[float, int]:
    """Return the images per second of the fastest published run of `model`, and its number of GPUs.

    The logs of CIFAR runs have only the seconds of an epoch, which include its validation.
    """
    rates = []
    for run in published_runs().values():
        if run.model == model and run.status != "aborted":
            figures = curve(run)
            if "samples_per_sec" in figures:
                rates.append((float(np.median(figures["samples_per_sec"])), run.gpus))
            else:
                rates.append((CIFAR_IMAGES / float(np.median(figures["seconds"])), run.gpus))
    return max(rates)


def settings_of(record: ModelRecord, batch: int, amp: Optional[str], compiled: bool) -> LearnerSettings:
    """Return the settings of a learner that trains a network as the published commands do."""
    return LearnerSettings(
        record.architecture(),
        (batch, 3, record.input_size, record.input_size),
        Classification(record.classes, smoothing=0.1, mixup=True),
        Optimizer("nag", 0.01, 1e-4, 0.9),
        seed=0,
        amp=amp,
        compiled=compiled,
    )


def measure(row: Row, devices: Devices, seconds: float) -> Dict[str, Any]:
    """Measure the figures of a row; return them by the names in `COLUMNS`.

    Args:
        row: what to measure.
        devices: the GPU or CPU that computes.
        seconds: least duration of the measurement of training; that of inference takes half as long.

    Raises:
        InputError: the device does not support the precision.
    """
    on_gpu = devices.kind == "gpu"
    record = model_record(row.model)
    settings = settings_of(record, row.batch, None if row.precision == FULL else row.precision, row.compiled)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    trained = learner(settings, devices, TorchCluster())
    training = _rate(_steps(trained, row, record.input_size, record.classes), row.batch, seconds, 8 if on_gpu else 1)
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None
    images = random_images(row.batch, record.input_size)
    network = trained.validated()
    inference = _rate(lambda: network.infer(images), row.batch, seconds / 2, 3 if on_gpu else 1)
    published, gpus = published_rate(row.model)
    figures = (training, inference, peak, published, gpus, training / published)
    return dict(zip(COLUMNS, (row.model, row.images, row.batch, row.precision, row.compiled, *figures)))


def _steps(trained: TorchLearner, row: Row, side: int, classes: int) -> Callable[[], Callable[[], object]]:
    """Return a function that starts the next training step, and returns a function that waits for it."""
    if row.images == "random":
        images, labels = random_images(row.batch, side), np.arange(row.batch, dtype="float32") % classes
        return lambda: trained.step(images, labels, 0.3, False)
    batches = _cifar_batches(row.batch, classes)
    return lambda: trained.step(*next(batches), 0.3, False)


def random_images(batch: int, side: int) -> np.ndarray:
    """Return images of noise, float32 (batch, 3, side, side)."""
    return np.random.default_rng(0).normal(size=(batch, 3, side, side)).astype("float32")


def _cifar_batches(batch: int, classes: int) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Yield batches of random pictures, cropped and flipped as `train_cifar.py` does."""
    from gluon_aff.data.cifar.batches import TrainBatches  # here because it needs Pillow, and the other rows do not
    from gluon_aff.data.cifar.files import LabelledImages

    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (50 * batch, CIFAR_SIZE, CIFAR_SIZE, 3), dtype=np.uint8)
    data = LabelledImages(pictures, random.integers(0, classes, len(pictures)), classes, official=False)
    with TrainBatches(data, batch, 0, False, 0) as batches:
        for epoch in itertools.count():
            yield from batches.epoch(epoch)


def _rate(start: Callable[[], Callable[[], object]], images: int, seconds: float, warm_up: int) -> float:
    """Return the images per second; as in training, each batch is started before the previous one is waited for.

    Args:
        start: starts a batch, and returns a function that waits for it.
        images: number of images in a batch.
        seconds: least duration of the measurement.
        warm_up: number of batches that do not count.
    """
    for _ in range(warm_up):
        start()()
    begun, done, waiting = time.perf_counter(), 0, start()
    while time.perf_counter() - begun < seconds or done < 1:
        following = start()
        waiting()
        waiting, done = following, done + 1
    waiting()
    return images * (done + 1) / (time.perf_counter() - begun)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        "python -m benchmarks gpu", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "--minutes", type=float, default=5.0, help="minutes after which no new row is started (default: 5)"
    )
    result.add_argument("--seconds", type=float, default=3.0, help="seconds for each measurement (default: 3)")
    result.add_argument(
        "--csv", default="build/gpu.csv", metavar="FILE", help="file for the table (default: build/gpu.csv)"
    )
    return result


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line; return its exit code."""
    options = parser().parse_args(argv)
    begun = time.perf_counter()
    on_gpu = torch.cuda.is_available()
    devices = Devices("gpu", (0,)) if on_gpu else Devices()
    name = torch.cuda.get_device_name(0) if on_gpu else f"{processor()}, {torch.get_num_threads()} threads"
    machine = f"{name}; PyTorch {torch.__version__}, NumPy {np.__version__}, gluon_aff {__version__}"
    print(machine)
    results: List[Dict[str, Any]] = []
    rows = list(gpu_rows() if on_gpu else cpu_rows())
    for row in rows:
        if time.perf_counter() - begun > 60 * options.minutes:
            break
        try:
            results.append(measure(row, devices, options.seconds))
        except (RuntimeError, ValueError, ImportError) as error:  # out of memory, or not supported by this machine
            print(f"{row}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        print(f"{row.model} {row.batch} {row.precision}: {results[-1]['ratio']:.2f}", file=sys.stderr)
        if row.compiled:
            torch.compiler.reset()
    print(f"\n{_table(results)}")
    if len(rows) > len(results):
        print(f"\n{len(rows) - len(results)} rows were not measured: raise --minutes {options.minutes:g}, or see above")
    _write(options.csv, results, machine)
    print(f"\nwritten: {options.csv}", file=sys.stderr)
    return 0


def _table(results: List[Dict[str, Any]]) -> str:
    lines = [COLUMNS, *([_text(result[column]) for column in COLUMNS] for result in results)]
    return columns_text(lines, right=tuple(range(5, len(COLUMNS))))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if not isinstance(value, float) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _write(path: str, results: List[Dict[str, Any]], machine: str) -> None:
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "machine"])
        writer.writeheader()
        writer.writerows({**result, "machine": machine} for result in results)
