"""Sample data that several rooms' tests train on; and which tests need an engine that is not here."""

import ast
import contextlib
import gc
import os
import signal
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from gluon_aff._platform import platform_problem, torch_problem
from gluon_aff.engines import engine
from gluon_aff.errors import NoEngineError

HERE = Path(__file__).parent
NO_ENGINE = str(platform_problem() or "")
NOT_HERE = (
    *(("mxnet", "gluoncv", "gluon_aff.gluon") if NO_ENGINE else ()),
    *(("torch", "gluon_aff.pytorch") if torch_problem() else ()),
)

sys.path.append(str(Path(__file__).parents[1]))  # for benchmarks and tools, which are not installed with the package


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Tests send SIGINT, which the background jobs of a shell, and all their children, would ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@lru_cache(maxsize=None)
def imports_what_is_not_here(path):
    """Whether the file does, in a function or not, or one that it imports and that is no part of the package."""
    return any(
        f"{name}.".startswith(tuple(f"{framework}." for framework in NOT_HERE))
        or any(imports_what_is_not_here(file) for file in beside_the_package(name))
        for name in imported(path)
    )


def imported(path):
    """Names of the modules, and of what is in them, that the file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module


def beside_the_package(module):
    """The file of a module of the tests, the benchmarks or the tools."""
    places = (Path(root, *module.split(".")).with_suffix(".py") for root in (HERE, HERE.parent))
    return [place for place in places if place.exists() and not module.startswith("gluon_aff")]


def pytest_ignore_collect(collection_path):
    """Leave out what imports a framework that is not here, and folders whose fixtures do."""
    path = collection_path / "conftest.py" if collection_path.is_dir() else collection_path
    is_python = path.suffix == ".py" and path.exists()
    return True if NOT_HERE and is_python and imports_what_is_not_here(path) else None


def pytest_collection_finish():
    """Keep the thousands of tests out of the garbage collector's rounds, which takes a tenth of the time off."""
    gc.freeze()


@contextlib.contextmanager
def skipped_without_engine():
    try:
        yield
    except NoEngineError:
        if not NO_ENGINE:
            raise
        pytest.skip(NO_ENGINE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """Without an engine, skip the tests that are marked, and those whose fixtures ask for one."""
    with skipped_without_engine():
        if item.get_closest_marker("engine"):
            engine("mxnet")
        if item.get_closest_marker("inference"):
            engine()
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Without an engine, skip the tests that come to ask for one."""
    with skipped_without_engine():
        return (yield)


@pytest.fixture(scope="session")
def few_shapes(tmp_path_factory):
    """100 training and 100 test images in CIFAR-100's layout: every fine kind once."""
    from gluon_aff.data.samples.cifar_layout import write_shapes

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
