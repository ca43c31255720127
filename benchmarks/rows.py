"""The list of benchmarks. To add one, append a `Benchmark`, whose functions import what they need themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from typing import Dict, Optional, Sequence, Tuple

from benchmarks.measure import Benchmark, Measure
from gluon_aff.machine.threads import SPINS, THREADS

BOTH = ("literal", "ours")

# The original's scripts import these before they look at their arguments.
LITERAL_HELP = (
    "import sys; sys.modules['torch'] = None; "  # GluonCV refuses to be imported together with PyTorch
    "import mxnet, gluoncv, matplotlib.pyplot; from gluon_aff_command import main; main()"
)
HELP = {
    "literal": [sys.executable, "-W", "ignore", "-c", LITERAL_HELP, "--help"],
    "ours": [sys.executable, "-m", "gluon_aff_command", "--help"],
}


def _steps(model: str, batch: int) -> Tuple[Measure, Measure]:
    from benchmarks.workloads import milliseconds, training_step

    literal, ours = (milliseconds(training_step(model, batch, formulation)) for formulation in BOTH)
    return literal, ours


def _inferences(model: str, batch: int, mine: str = "ours") -> Tuple[Measure, Measure]:
    from benchmarks.workloads import inference, milliseconds

    literal, ours = (milliseconds(inference(model, batch, formulation)) for formulation in ("literal", mine))
    return literal, ours


def _pipelines(auto_augment: bool) -> Tuple[Measure, Measure]:
    from benchmarks.workloads import pipeline

    literal, ours = (pipeline(auto_augment, formulation) for formulation in BOTH)
    return literal, ours


def _helps() -> Tuple[Measure, Measure]:
    literal, ours = (partial(_start, HELP[formulation]) for formulation in BOTH)
    return literal, ours


def _start(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def _peaks(model: str, batch: int) -> Tuple[Measure, Measure]:
    command = [sys.executable, "-m", "benchmarks.peak", model, str(batch)]
    literal, ours = (partial(_printed, [*command, formulation]) for formulation in BOTH)
    return literal, ours


def _commands(model: str, batch: int) -> Tuple[Measure, Measure]:
    """Measure steps of whole commands: the original's leaves the number of threads to MXNet, ours chooses it."""
    command = [sys.executable, "-m", "benchmarks.step", model, str(batch)]
    as_found = {name: value for name, value in os.environ.items() if name not in (THREADS, SPINS)}
    literal, ours = (
        partial(_printed, [*command, formulation], environment)
        for formulation, environment in zip(BOTH, (as_found, dict(os.environ)))
    )
    return literal, ours


def _printed(command: Sequence[str], environment: Optional[Dict[str, str]] = None) -> float:
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout)


RESNET32, RESNEXT38, RESNET50 = "aff_resnet32_cifar100", "aff_resnext38_32x4d_cifar100", "aff_resnet50"

BENCHMARKS = (
    Benchmark(
        "step-resnet32",
        "training step of AFF-ResNet-32, 32 images",
        "ms",
        ">= 1.9",
        partial(_steps, RESNET32, 32),
        quick=True,
    ),
    Benchmark(
        "step-resnext38",
        "training step of AFF-ResNeXt-38-32x4d, 32 images",
        "ms",
        ">= 1.5",
        partial(_steps, RESNEXT38, 32),
    ),
    Benchmark(
        "step-resnet50", "training step of AFF-ResNet-50, 8 images", "ms", ">= 1.5", partial(_steps, RESNET50, 8)
    ),
    Benchmark(
        "command-resnet32",
        "training step of AFF-ResNet-32, 32 images, each with its own threads",
        "ms",
        ">= 1.9",
        partial(_commands, RESNET32, 32),
        0,
        quick=True,
    ),
    Benchmark(
        "infer-resnet32-1",
        "logits of AFF-ResNet-32, 1 image",
        "ms",
        ">= 1.3",
        partial(_inferences, RESNET32, 1),
        quick=True,
    ),
    Benchmark(
        "infer-resnet32-32", "logits of AFF-ResNet-32, 32 images", "ms", ">= 1.3", partial(_inferences, RESNET32, 32)
    ),
    Benchmark(
        "infer-resnet50-1", "logits of AFF-ResNet-50, 1 image", "ms", ">= 1.3", partial(_inferences, RESNET50, 1)
    ),
    Benchmark(
        "infer-resnet50-32", "logits of AFF-ResNet-50, 32 images", "ms", ">= 1.3", partial(_inferences, RESNET50, 32)
    ),
    Benchmark(
        "onnx-resnet50-1",
        "logits of AFF-ResNet-50 exported to ONNX, 1 image",
        "ms",
        ">= 2.2",
        partial(_inferences, RESNET50, 1, "exported"),
        quick=True,
    ),
    Benchmark(
        "pipeline-autoaugment",
        "CIFAR batches with AutoAugment, one process",
        "images/s",
        ">= 4",
        partial(_pipelines, True),
        quick=True,
    ),
    Benchmark(
        "pipeline",
        "CIFAR batches of crop and flip, one process",
        "images/s",
        ">= 8",
        partial(_pipelines, False),
        quick=True,
    ),
    Benchmark("help", "gluon-aff --help, from start to end", "s", "< 0.3 s", _helps, quick=True),
    Benchmark(
        "memory-resnet32",
        "peak of a process that trains AFF-ResNet-32, 32 images",
        "MB",
        ">= 1",
        partial(_peaks, RESNET32, 32),
        0,
        quick=True,
    ),
    Benchmark(
        "memory-resnext38",
        "the same with AFF-ResNeXt-38-32x4d, 32 images",
        "MB",
        ">= 1",
        partial(_peaks, RESNEXT38, 32),
        0,
    ),
    Benchmark(
        "memory-resnet50", "the same with AFF-ResNet-50, 8 images", "MB", ">= 1", partial(_peaks, RESNET50, 8), 0
    ),
)
