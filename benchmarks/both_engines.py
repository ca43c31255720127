"""Compare MXNet, PyTorch and ONNX Runtime on this machine's CPU: `python -m benchmarks engines`."""

from __future__ import annotations

import argparse
import contextlib
import csv
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional

import numpy as np
import torch

from benchmarks.gpu import CIFAR, IMAGENET, random_images, settings_of
from benchmarks.machine import description
from gluon_aff.commands import positive
from gluon_aff.engines import Devices, engine
from gluon_aff.errors import InputError
from gluon_aff.export.onnx_file import write_onnx
from gluon_aff.export.onnx_runtime import open_onnx
from gluon_aff.files import replacing
from gluon_aff.models import CIFAR_SIZE, ModelRecord, model_record
from gluon_aff.pytorch import get_model, save_params
from gluon_aff.pytorch.folding import faster_on_cpu
from gluon_aff.results.text import columns_text
from gluon_aff.weights.card import Card

DESCRIPTION = """\
Measure a training step and the inference of the seven published networks with MXNet,
PyTorch and ONNX Runtime on the CPU, alternately in one run. The table has the shortest
times in milliseconds, which depend least on what else the machine does. Inference is
also measured as `evaluate` uses it: MXNet fused by oneDNN, and PyTorch with BatchNorm
folded into the convolutions. The networks have random weights. This takes about 15
minutes on two cores. --compiled adds a minute or two for each network and batch size.
A dash means that this machine cannot run it.

On a busy machine, --processor-time measures only the time that this process computes.
This is the sum over all threads, so use one:
  OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks engines --processor-time
"""
INFERENCE = ("MXNet", "MXNet fused", "PyTorch", "PyTorch folded", "PyTorch bfloat16", "ONNX Runtime")
COMPILED, COMPILING = "PyTorch compiled", "compilation, s"
TRAINING = ("MXNet", "PyTorch", "PyTorch bfloat16")
STEP_BATCHES = {CIFAR_SIZE: 32}  # images of a training step by their side; 8 for larger images
INFERENCE_BATCHES = (1, 32)
Clock = Callable[[], float]
Works = Dict[str, Callable[[], object]]


def inferences(record: ModelRecord, images: np.ndarray) -> Works:
    """Return functions that infer a batch, by the names in `INFERENCE`; without bfloat16 if the processor lacks it."""
    card = Card(record.name, record.input_size == CIFAR_SIZE, record.input_size, record.classes, "", None, None)
    with tempfile.TemporaryDirectory() as folder:
        path, exported = Path(folder, "weights.params"), Path(folder, "net.onnx")
        save_params(get_model(record.name), str(path))
        mxnet, pytorch = (
            engine(name).load_network(record.architecture(), str(path), Devices(), "float32")
            for name in ("mxnet", "torch")
        )
        infers = [mxnet.infer, mxnet.for_many_images(), pytorch.infer, pytorch.for_many_images()]
        works: Works = {name: lambda infer=infer: infer(images)() for name, infer in zip(INFERENCE, infers)}  # type: ignore[misc]
        with contextlib.suppress(InputError):
            half = engine("torch").load_network(record.architecture(), str(path), Devices(), "bfloat16")
            infer_half = half.for_many_images()
            works["PyTorch bfloat16"] = lambda: infer_half(images)()
        write_onnx(pytorch, str(exported), card)
        logits, _ = open_onnx(str(exported))
    return {**works, "ONNX Runtime": lambda: logits(images)}


def compiled(record: ModelRecord, images: np.ndarray) -> Callable[[], object]:
    """Return a function that infers a batch with the code that torch.compile makes of the folded network."""
    net = torch.compile(faster_on_cpu(get_model(record.name).eval()), dynamic=False)

    @torch.inference_mode()
    def infer() -> np.ndarray:
        return net(torch.from_numpy(images)).numpy()

    return infer


def steps(record: ModelRecord) -> Works:
    """Return functions that make a training step, by the names in `TRAINING`; without bfloat16 if it is lacking."""
    batch = step_batch(record)
    images, labels = random_images(batch, record.input_size), np.arange(batch, dtype="float32")
    works: Works = {}
    for column, name, amp in zip(TRAINING, ("mxnet", "torch", "torch"), (None, None, "bfloat16")):
        framework = engine(name)
        settings = settings_of(record, batch, amp, compiled=True)
        with contextlib.suppress(InputError):
            learner = framework.learner(settings, Devices(), framework.join_cluster("device"))
            works[column] = lambda learner=learner: learner.step(images, labels, 0.3, False)()  # type: ignore[misc]
    return works


def step_batch(record: ModelRecord) -> int:
    """Return the number of images in a training step."""
    return STEP_BATCHES.get(record.input_size, 8)


def measured(works: Works, repeats: int, clock: Clock) -> Dict[str, float]:
    """Return the shortest time of each function in milliseconds.

    The functions are called alternately, and the first call of each does not count.
    """
    taken: Dict[str, List[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            start = clock()
            work()
            if turn:
                taken[name].append(1000 * (clock() - start))
    return {name: min(each) for name, each in taken.items()}


def rows_of(name: str, repeats: int, with_compiled: bool, clock: Clock) -> Iterator[Dict[str, object]]:
    """Yield the rows of the table for a network."""
    record = model_record(name)
    for batch in INFERENCE_BATCHES:
        images = random_images(batch, record.input_size)
        works, seconds = inferences(record, images), {}
        if with_compiled:
            works[COMPILED], start = compiled(record, images), time.perf_counter()
            works[COMPILED]()
            seconds[COMPILING] = time.perf_counter() - start
        yield {"network": name, "what": f"infer {batch}", **measured(works, repeats, clock), **seconds}
        torch.compiler.reset()
    figures = measured(steps(record), max(1, repeats // 2), clock)
    yield {"network": name, "what": f"step {step_batch(record)}", **figures}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        "python -m benchmarks engines", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "--only",
        nargs="+",
        default=[*CIFAR, *IMAGENET],
        choices=[*CIFAR, *IMAGENET],
        metavar="NETWORK",
        help="measure only these (default: all)",
    )
    result.add_argument(
        "--repeats", type=positive, default=5, metavar="N", help="number of measurements of each inference (default: 5)"
    )
    result.add_argument("--compiled", action="store_true", help="also measure inference with torch.compile")
    result.add_argument("--processor-time", action="store_true", help="measure it instead of the time that passes")
    result.add_argument(
        "--csv", default="build/engines.csv", metavar="FILE", help="file for the table (default: build/engines.csv)"
    )
    return result


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line; return its exit code."""
    options = parser().parse_args(argv)
    machine = description()
    machine["versions"] += f", torch {torch.__version__}, onnxruntime {version('onnxruntime')}"
    machine["time"] = "processor" if options.processor_time else "clock"
    clock = time.process_time if options.processor_time else time.perf_counter
    rows: List[Dict[str, object]] = []
    for name in options.only:
        for row in rows_of(name, options.repeats, options.compiled, clock):
            rows.append(row)
            print(", ".join(f"{key} {_text(value)}" for key, value in row.items()), file=sys.stderr)
    columns = ["network", "what", *INFERENCE, *([COMPILED, COMPILING] if options.compiled else [])]
    lines = [columns, *([_text(row.get(column)) for column in columns] for row in rows)]
    for key, value in machine.items():
        print(f"{key}: {value}")
    print(f"\n{columns_text(lines, right=range(2, len(columns)))}")
    with replacing(options.csv) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, *machine])
        writer.writeheader()
        writer.writerows({**row, **machine} for row in rows)
    print(f"\nwritten: {options.csv}", file=sys.stderr)
    return 0


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return "-" if value is None else str(value)
