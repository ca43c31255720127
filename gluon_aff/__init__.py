"""Attentional Feature Fusion (WACV 2021) in MXNet/Gluon and PyTorch.

`load` returns a network with its weights in the engine of this machine, `get_model` builds a network of Gluon, and
`gluon_aff.pytorch` has the networks of PyTorch.

Importing the package takes milliseconds and works on any Python from 3.8, because modules that need MXNet are imported
on first use. If MXNet 1.9.1 cannot work here, that import raises ImportError and says what to do. Set
`GLUON_AFF_SKIP_CHECK=1` in the environment to skip this check, for an MXNet or a Python that has been patched.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, List

from gluon_aff._version import __version__

if TYPE_CHECKING:
    from gluon_aff.evaluation.model import load
    from gluon_aff.gluon.networks.zoo import get_model
    from gluon_aff.models import list_models, register_network
    from gluon_aff.operators import register_operator

__all__ = ["__version__", "get_model", "list_models", "load", "register_network", "register_operator"]

_MODULES = {
    "get_model": "gluon_aff.gluon.networks.zoo",
    "list_models": "gluon_aff.models",
    "load": "gluon_aff.evaluation.model",
    "register_network": "gluon_aff.models",
    "register_operator": "gluon_aff.operators",
}

if sys.version_info < (3, 8):  # noqa: UP036 (pip would have refused, but a copy or a path may have been used)
    raise ImportError(f"gluon_aff needs Python 3.8 or newer, and this is Python 3.{sys.version_info[1]}")


def __getattr__(name: str) -> Any:
    """Import a public function of the package on its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
