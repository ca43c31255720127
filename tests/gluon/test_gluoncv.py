"""GluonCV beside torch 2, beside which it refuses to be imported."""

import sys
from importlib import import_module
from types import ModuleType

import mxnet as mx
import pytest

from gluon_aff.gluon.gluoncv import import_gluoncv
from gluon_aff.gluon.optimizer_states import save_states
from gluon_aff.gluon.schedule import Scheduler
from gluon_aff.schedule import Schedule


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


def test_states_are_written_where_a_refused_import_has_dropped_gluoncv(torch_2, tmp_path, monkeypatch):
    """Python leaves the parts of a package that it imported before."""
    import_gluoncv("gluoncv.utils.lr_scheduler")
    monkeypatch.delitem(sys.modules, "gluoncv")
    net = mx.gluon.nn.Dense(1, in_units=1)
    net.initialize()
    schedule = Scheduler(Schedule("cosine", 0.1, 1, 3, 2))
    save_states(mx.gluon.Trainer(net.collect_params(), "nag", {"lr_scheduler": schedule}), str(tmp_path / "a.states"))
    assert b"LRSequential" in (tmp_path / "a.states").read_bytes()
