"""Sample data that several rooms' tests train on."""

import os
import signal

import pytest

from gluon_aff.data.sample import write_shapes


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
    """What a test or a command in it does to the environment (threads, above all) ends with it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
