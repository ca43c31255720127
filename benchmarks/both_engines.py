"""Compare MXNet, PyTorch and ONNX Runtime on this machine's CPU: `python -m benchmarks engines`."""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
from typing import Callable, Dict, List, Optional

import numpy as np
from tqdm import tqdm

from benchmarks.gpu import CIFAR, IMAGENET, random_images, settings_of
from benchmarks.machine import description
from gluon_aff.engines import Devices, engine
from gluon_aff.export.onnx_file import write_onnx
from gluon_aff.export.onnx_runtime import open_onnx
from gluon_aff.files import replacing
from gluon_aff.models import CIFAR_SIZE, ModelRecord, model_record
from gluon_aff.pytorch import get_model, save_params
from gluon_aff.results.text import columns_text
from gluon_aff.weights.card import Card

DESCRIPTION = """\
Measure a training step and the inference of the seven published networks with MXNet,
PyTorch and ONNX Runtime on the CPU, alternately in one run; the table has medians in
milliseconds. For MXNet, inference is also measured with fused layers, as `evaluate` uses
it. The networks have random weights. This takes about ten minutes on two cores.
"""
INFERENCE = ("MXNet", "MXNet fused", "PyTorch", "PyTorch bfloat16", "ONNX Runtime")
TRAINING = ("MXNet", "PyTorch", "PyTorch bfloat16")
STEP_BATCHES = {CIFAR_SIZE: 32}  # images in a training step by their side; 8 for larger images
Works = Dict[str, Callable[[], object]]


def inferences(record: ModelRecord, batch: int, folder: str) -> Works:
    """Return functions that infer a batch, by the names in `INFERENCE`; files are written to `folder`."""
    path, architecture = os.path.join(folder, "weights.params"), record.architecture()
    save_params(get_model(record.name), path)
    images = random_images(batch, record.input_size)
    mxnet = engine("mxnet").load_network(architecture, path, Devices(), "float32")
    torch, half = (
        engine("torch").load_network(architecture, path, Devices(), dtype) for dtype in ("float32", "bfloat16")
    )
    fused = mxnet.for_many_images()
    card = Card(record.name, record.input_size == CIFAR_SIZE, record.input_size, record.classes, "", None, None)
    write_onnx(torch, os.path.join(folder, "net.onnx"), card)
    logits, _ = open_onnx(os.path.join(folder, "net.onnx"))
    works = (
        lambda: mxnet.infer(images)(),
        lambda: fused(images)(),
        lambda: torch.infer(images)(),
        lambda: half.infer(images)(),
        lambda: logits(images),
    )
    return dict(zip(INFERENCE, works))


def steps(record: ModelRecord) -> Works:
    """Return functions that make a training step, by the names in `TRAINING`."""
    batch = STEP_BATCHES.get(record.input_size, 8)
    images, labels = random_images(batch, record.input_size), np.arange(batch, dtype="float32")
    learners = []
    for name, amp in (("mxnet", None), ("torch", None), ("torch", "bfloat16")):
        framework = engine(name)
        settings = settings_of(record, batch, amp, compiled=True)
        learners.append(framework.learner(settings, Devices(), framework.join_cluster("device")))
    return {
        name: lambda learner=learner: learner.step(images, labels, 0.3, False)()  # type: ignore[misc]
        for name, learner in zip(TRAINING, learners)
    }


def measured(works: Works, repeats: int) -> Dict[str, float]:
    """Return the median time of each function in milliseconds.

    The functions are called alternately, and the first call of each does not count.
    """
    taken: Dict[str, List[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                taken[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in taken.items()}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        "python -m benchmarks engines", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "--only", nargs="+", default=[*CIFAR, *IMAGENET], metavar="NETWORK", help="measure only these (default: all)"
    )
    result.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="number of measurements of each inference (default: 5)"
    )
    result.add_argument(
        "--csv", default="build/engines.csv", metavar="FILE", help="file for the table (default: build/engines.csv)"
    )
    return result


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line; return its exit code."""
    options = parser().parse_args(argv)
    machine = description()
    rows: List[Dict[str, object]] = []
    for name in tqdm(options.only, leave=False, disable=None):
        record = model_record(name)
        for batch in (1, 32):
            with tempfile.TemporaryDirectory() as folder:
                figures = measured(inferences(record, batch, folder), options.repeats)
            rows.append({"network": name, "what": f"infer {batch}", **figures})
        figures = measured(steps(record), max(2, options.repeats // 2))
        rows.append({"network": name, "what": f"step {STEP_BATCHES.get(record.input_size, 8)}", **figures})
    columns = ["network", "what", *INFERENCE]
    lines = [columns, *([_text(row.get(column)) for column in columns] for row in rows)]
    for key, value in machine.items():
        print(f"{key}: {value}")
    print(f"\n{columns_text(lines, right=range(2, len(columns)))}")
    with replacing(options.csv) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, *machine])
        writer.writeheader()
        writer.writerows({**row, **machine} for row in rows)
    return 0


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)
