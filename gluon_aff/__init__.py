"""Attentional Feature Fusion in MXNet/Gluon.

Importing the package takes milliseconds: what needs MXNet is imported when it is first asked for.

Where MXNet 1.9.1 cannot work, importing raises ImportError with the remedy. `GLUON_AFF_SKIP_CHECK=1` in the environment
leaves that check out, for an MXNet or a Python patched to work together all the same.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, List

from gluon_aff._platform import SKIP_CHECK, platform_problem, several_mxnet_builds
from gluon_aff._version import __version__

if TYPE_CHECKING:
    from gluon_aff.gluon.networks.zoo import get_model
    from gluon_aff.models import list_models

__all__ = ["__version__", "get_model", "list_models"]

_MODULES = {"get_model": "gluon_aff.gluon.networks.zoo", "list_models": "gluon_aff.models"}


def _check_platform() -> None:
    # `python -m gluon_aff doctor` comes here first, with "-m" for the name of the module that is being located
    if os.environ.get(SKIP_CHECK) == "1" or sys.argv[:2] == ["-m", "doctor"]:
        return
    problem = platform_problem()
    if problem is not None:
        raise ImportError(f"{problem}; to have all else checked: python -m gluon_aff doctor")
    several_builds = several_mxnet_builds()
    if several_builds is not None:
        warnings.warn(str(several_builds), stacklevel=3)


_check_platform()


def __getattr__(name: str) -> Any:
    """get_model and list_models, imported on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
