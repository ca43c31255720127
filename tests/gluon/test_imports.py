"""GluonCV beside torch 2, beside which it refuses to be imported, and MXNet without scikit-learn."""

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

from gluon_aff.gluon.imports import import_gluoncv


@pytest.fixture
def no_gluoncv(monkeypatch):
    """As where nothing has imported it yet."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "gluoncv":
            monkeypatch.delitem(sys.modules, name)
    yield
    for name in list(sys.modules):  # the fixture's end brings back those from before
        if name.partition(".")[0] == "gluoncv":
            del sys.modules[name]


@pytest.fixture
def torch_2(monkeypatch):
    torch = ModuleType("torch")
    torch.__version__ = "2.4.1"
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


def test_alone_it_refuses(no_gluoncv, torch_2):
    """Else nothing would be needed here."""
    with pytest.raises(RuntimeError, match="torch"):
        import_module("gluoncv.loss")


@pytest.mark.parametrize("module", ["gluoncv.loss", "gluoncv.utils.lr_scheduler", "gluoncv.model_zoo"])
def test_it_is_imported_beside_torch_which_stays(module, no_gluoncv, torch_2):
    assert import_gluoncv(module).__name__ == module
    assert sys.modules["torch"] is torch_2


def test_torch_is_not_hidden_for_good_where_it_was_not_imported(no_gluoncv, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    import_gluoncv("gluoncv.loss")
    assert "torch" not in sys.modules


def test_torch_comes_back_where_the_import_fails(torch_2):
    with pytest.raises(ModuleNotFoundError):
        import_gluoncv("gluoncv.nix")
    assert sys.modules["torch"] is torch_2


def test_mxnet_is_imported_without_scikit_learn_and_pandas():
    """They would take a third of the time, and stay importable."""
    program = (
        "import sys; import gluon_aff.gluon.engine; assert not {'sklearn', 'pandas'} & set(sys.modules); import sklearn"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
