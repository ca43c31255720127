"""Sample data that several rooms' tests train on."""

import os
import signal
import sys
from pathlib import Path

import pytest

from gluon_aff.data.sample import write_shapes

sys.path.append(str(Path(__file__).parents[1]))  # for benchmarks and tools, which are not installed with the package


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Tests send SIGINT, which the background jobs of a shell, and all their children, would ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def few_shapes(tmp_path_factory):
    """100 training and 100 test images in CIFAR-100's layout: every fine kind once."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(str(folder), train_images=100, test_images=100)
    return str(folder)


@pytest.fixture(autouse=True)
def environment():
    """What a test or a command in it starts in MXNet, or changes in the environment (threads, above all), ends with it.

    In this order: oneDNN reads the environment in MXNet's threads, which ends the process where it is being changed.
    """
    before = dict(os.environ)
    yield
    if "mxnet" in sys.modules:
        sys.modules["mxnet"].nd.waitall()
    for name in {*before, *os.environ} - {"PYTEST_CURRENT_TEST"}:
        if before.get(name) != os.environ.get(name):
            os.environ.pop(name, None)
            os.environ.update({name: before[name]} if name in before else {})
