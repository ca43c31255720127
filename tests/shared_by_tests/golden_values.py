"""What tests/goldens/*.json were measured with (tests/goldens/README.md)."""

import zlib
from pathlib import Path

import numpy as np
import pytest

GOLDENS = {path.stem: path for path in sorted((Path(__file__).parents[1] / "goldens").glob("*.json"))}
# The deeper of two networks alike is long: names, shapes and counts of all are compared elsewhere, too
EACH_GOLDEN = [
    pytest.param(name, marks=pytest.mark.long if name == "aff_resnext47_32x4d_cifar100" else ()) for name in GOLDENS
]
COLOURS = 3


def golden_value(name, shape):
    """The fill that the goldens were measured with (tests/goldens/README.md)."""
    rs = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    if name.endswith(("gamma", "running_var")):
        return rs.uniform(0.5, 1.5, shape).astype("float32")
    if name.endswith("weight"):
        return rs.normal(0, np.sqrt(0.5 / np.prod(shape[1:])), shape).astype("float32")
    return rs.normal(0, 0.1, shape).astype("float32")


def golden_arrays(shapes):
    """The fill of all parameters, by name; a size of 0, which MXNet learns from the first image, is that of colours."""
    return {name: golden_value(name, tuple(size or COLOURS for size in shape)) for name, shape in shapes.items()}


def described_array(text):
    """Evaluate an input's description, `numpy.random.RandomState(s).normal(size=(...)).astype(float32)`."""
    seed = int(text.split("RandomState(")[1].split(")")[0])
    size = tuple(int(n) for n in text.split("size=(")[1].split(")")[0].split(","))
    return np.random.RandomState(seed).normal(size=size).astype("float32")


def check_sums(arrays, expected):
    """The sum of each array, within 1e-4 of the sum of its absolute values, since the means of channels may cancel.

    Another order of operations moves a sum by up to 3e-5 of that (PyTorch beside MXNet, iAFF-ResNet-50).
    """
    for name, value in expected.items():
        if value is not None:
            assert abs(arrays[name].sum() - value) < 1e-4 * np.abs(arrays[name]).sum(), name
