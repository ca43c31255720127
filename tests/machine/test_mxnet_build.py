"""MXNet's import, features and training step."""

import math

import numpy as np
import pytest

from gluon_aff._platform import torch_problem
from gluon_aff.machine import mxnet_build, training_steps
from gluon_aff.machine.children import Answer, ask
from gluon_aff.machine.findings import MEND, NOTE, OK
from gluon_aff.machine.gpus import CU112, GPU, Driver
from gluon_aff.machine.mxnet_build import (
    InstalledMXNet,
    check_build,
    check_import,
    check_training,
    find_mxnet,
)
from gluon_aff.machine.training_steps import LOSS_AFTER_STEP

CUDA_MXNET = InstalledMXNet(("mxnet-cu112",), Answer({}), "libmxnet.so", ("libcudart.so.11.0",), CU112)
GPUS = Driver((12, 2), (GPU(0, "Tesla T4", (7, 5), 2**34), GPU(1, "NVIDIA H200", (9, 0), 2**34)))


@pytest.fixture(scope="module")
def installed():
    return find_mxnet()


@pytest.mark.engine
def test_installed_mxnet(installed):
    assert installed.works
    assert check_build(installed).state == OK
    (finding,) = check_import(installed)
    assert finding.message.startswith("1.9.1 with ")
    with_, _, without = finding.message.partition("; without ")
    assert "DIST_KVSTORE" in with_
    assert ("CUDA" in with_) == (installed.cuda == 11)
    assert ("CUDA" in without) == (installed.cuda == 0)


@pytest.mark.parametrize(
    ("needed", "cuda"), [((), 0), (("libcudart.so.11.0",), 11), (("libc.so.6", "libcudart.so.10.2"), 10)]
)
def test_cuda_version_of_a_build(needed, cuda):
    assert InstalledMXNet(needed=needed).cuda == cuda


def loss_by_hand():
    """Loss before and after the probe's step, from the formulas of convolution, cross-entropy and NAG."""
    images = np.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8) / 384
    patches = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))  # image, channel, 6, 6, 3, 3
    patches = patches.transpose(0, 2, 3, 1, 4, 5).reshape(2, 36, 27)
    kernels, biases = np.full((4, 27), 0.1), np.zeros(4)
    weights, offsets = np.full((2, 4, 36), 0.1), np.zeros(2)
    labels, rate, momentum = np.eye(2), 0.001, 0.9

    def forward():
        features = np.maximum(np.einsum("ipk,ck->icp", patches, kernels) + biases[:, None], 0)
        logits = np.einsum("icp,jcp->ij", features, weights) + offsets
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return features, chances, -np.log((chances * labels).sum(axis=1)).mean()

    features, chances, before = forward()
    error = (chances - labels) / 2
    to_features = np.einsum("ij,jcp->icp", error, weights) * (features > 0)
    step = rate * (1 + momentum)  # NAG's first: the gradient and the momentum it leaves
    weights -= step * np.einsum("ij,icp->jcp", error, features)
    offsets -= step * error.sum(axis=0)
    kernels -= step * np.einsum("icp,ipk->ck", to_features, patches)
    biases -= step * to_features.sum(axis=(0, 2))
    return before, forward()[2]


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("mxnet", marks=pytest.mark.engine),
        pytest.param("torch", marks=pytest.mark.skipif(torch_problem() is not None, reason="needs PyTorch")),
    ],
)
def test_training_step_is_what_the_formulas_say(engine):
    before, after = loss_by_hand()
    assert before == pytest.approx(math.log(2))
    assert after == pytest.approx(LOSS_AFTER_STEP, abs=1e-4)
    measured = ask("training_step", engine, "cpu", 0).value
    assert measured["before"] == pytest.approx(before, abs=1e-5)
    assert measured["after"] == pytest.approx(after, abs=1e-5)


def steps(monkeypatch, answers):
    """Training steps answered by device: 'cpu 0', 'gpu 0'."""
    monkeypatch.setattr(training_steps, "ask", lambda probe, engine, device, number: answers[f"{device} {number}"])


def loss(after):
    return Answer({"before": 0.6931, "after": after, "seconds": 0.1})


def test_gpus_that_mxnet_can_run_on_train_too(monkeypatch):
    steps(monkeypatch, {"cpu 0": loss(0.6404), "gpu 0": loss(0.6401)})
    findings = check_training(CUDA_MXNET, GPUS)
    assert [(finding.state, finding.message[:5]) for finding in findings] == [(OK, "CPU: "), (OK, "GPU 0")]


def test_a_cpu_build_leaves_gpus_alone(monkeypatch, installed):
    steps(monkeypatch, {"cpu 0": loss(0.6404)})
    cpu_build = InstalledMXNet(("mxnet",), Answer({}), "libmxnet.so", ("libc.so.6",))
    assert [finding.state for finding in check_training(cpu_build, GPUS)] == [OK]


@pytest.mark.parametrize(
    ("answer", "message", "remedy"),
    [
        (Answer(problem="crashed with SIGILL (Illegal instruction)"), "crashed with SIGILL", "this processor lacks"),
        (Answer(problem="crashed with SIGSEGV (Segmentation fault)"), "crashed with SIGSEGV", "nvidia-smi"),
        (loss(0.7), "loss from 0.6931 to 0.7000", "reinstall"),
        (loss(math.nan), "to nan", "reinstall"),
    ],
)
def test_steps_that_fail(monkeypatch, answer, message, remedy):
    steps(monkeypatch, {"cpu 0": loss(0.6404), "gpu 0": answer})
    _, finding = check_training(CUDA_MXNET, GPUS)
    assert finding.state == MEND
    assert message in finding.message
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("problem", "remedy"),
    [
        ("OSError: libcudnn.so.8: cannot open shared object file: No such file or directory", "see libraries"),
        ("AttributeError: module 'numpy' has no attribute 'bool'.", "see NumPy"),
        ("crashed with SIGILL (Illegal instruction)", mxnet_build.OTHER_PROCESSOR),
        ("crashed with SIGSEGV (Segmentation fault)", "pip install --force-reinstall --no-deps mxnet-cu112==1.9.1"),
    ],
)
def test_imports_that_fail(problem, remedy):
    broken = InstalledMXNet(("mxnet-cu112",), Answer(problem=problem), "libmxnet.so")
    (finding,) = check_import(broken)
    assert (finding.state, finding.message, finding.remedy) == (MEND, problem, remedy)
    assert check_training(broken, GPUS)[0].state == NOTE


def test_no_mxnet(monkeypatch):
    monkeypatch.setattr(mxnet_build, "mxnet_folder", lambda: None)
    assert find_mxnet() == InstalledMXNet()
    assert not find_mxnet().works
    assert check_import(find_mxnet()) == []
