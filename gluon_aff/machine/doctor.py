"""Run all checks in order; a check that itself fails is reported and does not stop the others."""

from __future__ import annotations

from typing import Callable, Iterator, List, Sequence, Union

from gluon_aff.errors import last_line
from gluon_aff.machine.children import Answer
from gluon_aff.machine.files import check_data, check_weights
from gluon_aff.machine.findings import Finding, note
from gluon_aff.machine.gpus import Driver, check_gpus, find_driver
from gluon_aff.machine.libraries import check_libraries
from gluon_aff.machine.mxnet_build import InstalledMXNet, check_build, check_import, check_training, find_mxnet
from gluon_aff.machine.packages import (
    REQUIRED,
    check_gluoncv,
    check_numpy,
    check_opencv,
    check_optional,
    check_package,
    check_python,
    check_torch,
)
from gluon_aff.machine.resources import check_disk, check_memory, check_settings, check_threads


def examine(data_dirs: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield each finding as soon as it is made; all together take some seconds.

    Args:
        data_dirs: folders in which to look for data sets, in addition to their usual places.
    """
    mxnet = _find_mxnet()
    yield from _survived("Python", check_python, mxnet.works)
    yield from _survived("NumPy", check_numpy, mxnet.works)
    yield from _survived("MXNet build", check_build, mxnet)
    yield from _survived("libraries", check_libraries, mxnet.library, mxnet.needed)
    yield from _survived("MXNet", check_import, mxnet)
    driver = _find_driver()
    yield from _survived("GPU", check_gpus, driver, mxnet.cuda, mxnet.code)
    yield from _survived("training step", check_training, mxnet, driver)
    yield from _survived("PyTorch", check_torch)
    yield from _survived("GluonCV", check_gluoncv, mxnet.works)
    yield from _survived("OpenCV", check_opencv)
    for name, modules, purpose in REQUIRED:
        yield from _survived(name, check_package, name, modules, purpose)
    yield from _survived("optional", check_optional)
    yield from _survived("threads", check_threads)
    yield from _survived("settings", check_settings)
    yield from _survived("memory", check_memory)
    yield from _survived("disk", check_disk)
    yield from _survived("data sets", check_data, data_dirs)
    yield from _survived("weights", check_weights)


def _survived(name: str, check: Callable[..., Union[Finding, List[Finding]]], *arguments: object) -> List[Finding]:
    try:
        found = check(*arguments)
    except Exception as error:  # a broken machine can raise anything
        return [note(name, f"not checked: {_described(error)}")]
    return found if isinstance(found, list) else [found]


def _find_mxnet() -> InstalledMXNet:
    try:
        return find_mxnet()
    except Exception as error:
        return InstalledMXNet(imported=Answer(problem=_described(error)))


def _find_driver() -> Driver:
    try:
        return find_driver()
    except Exception as error:
        return Driver(problem=_described(error))


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {last_line(error)}"
