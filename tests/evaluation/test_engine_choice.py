"""Which engine evaluates where nothing is said: the reference, unless only the other one has the GPU."""

from types import SimpleNamespace

import pytest

from gluon_aff.engines import Devices, engine
from gluon_aff.errors import InputError, NoEngineError
from gluon_aff.evaluation import engine_choice
from gluon_aff.evaluation.engine_choice import engine_for_inference
from gluon_aff.evaluation.model import load

CPU, GPU = (Devices(), "device: CPU"), (Devices("gpu", (0,)), "devices: GPU 0")
TOO_NEW = InputError("this MXNet cannot run on GPU 0")


@pytest.fixture
def machine(monkeypatch):
    """A machine with or without a GPU, on which the engines find these devices; None: the engine is missing."""
    monkeypatch.delenv("GLUON_AFF_ENGINE", raising=False)

    def make(mxnet, torch, gpus=1):
        def stand_in(name, found):
            def find_devices(gpus, strict=False):
                if isinstance(found, Exception):
                    raise found
                return found

            return SimpleNamespace(NAME=name, find_devices=find_devices)

        def engine(name):
            if name == "torch" or mxnet is None:
                return stand_in("PyTorch", torch)
            return stand_in("MXNet", mxnet)

        monkeypatch.setattr(engine_choice, "engine", engine)
        monkeypatch.setattr(engine_choice, "torch_problem", lambda: "PyTorch" if torch is None else None)
        monkeypatch.setattr(engine_choice, "find_driver", lambda: SimpleNamespace(gpus=("a GPU",) * gpus))

    return make


@pytest.mark.parametrize(
    ("mxnet", "torch", "gpus", "name", "reason"),
    [
        (CPU, CPU, 0, "mxnet", "the reference"),
        (CPU, None, 1, "mxnet", "the reference"),
        (CPU, CPU, 1, "mxnet", "the reference"),
        (GPU, GPU, 1, "mxnet", "the reference"),
        (CPU, GPU, 1, "torch", "since it can use the GPU and this MXNet cannot"),
        (TOO_NEW, GPU, 1, "torch", "since it can use the GPU and this MXNet cannot"),
        (TOO_NEW, CPU, 1, "mxnet", "the reference"),
        (None, CPU, 0, "torch", "since MXNet does not work here"),
    ],
)
def test_the_reference_unless_only_pytorch_has_the_gpu(mxnet, torch, gpus, name, reason, machine):
    machine(mxnet, torch, gpus)
    assert engine_for_inference(None, "0") == (name, reason)


def test_no_gpu_is_looked_for_where_none_is_to_be_used(machine):
    machine(CPU, GPU)
    assert engine_for_inference(None, "") == ("mxnet", "the reference")


def test_what_is_asked_for_is_taken(machine, monkeypatch):
    machine(CPU, GPU)
    assert engine_for_inference("mxnet", "0") == ("mxnet", "as asked for")
    monkeypatch.setenv("GLUON_AFF_ENGINE", "torch")
    assert engine_for_inference(None, "") == ("torch", "as asked for")
    assert engine_for_inference("auto", "") == ("mxnet", "the reference")


def test_no_engine_at_all(monkeypatch):
    def engine(name):
        raise NoEngineError("neither works")

    monkeypatch.setattr(engine_choice, "engine", engine)
    with pytest.raises(NoEngineError):
        engine_for_inference("auto", "0")


@pytest.mark.parametrize(("name", "hint"), [("jax", "there are auto, mxnet, torch"), ("Torch", "did you mean torch")])
def test_an_engine_that_does_not_exist_is_refused_before_the_weights_are_looked_for(name, hint):
    for ask in (engine, lambda each: load("none.params", engine=each), lambda each: engine_for_inference(each, "0")):
        with pytest.raises(InputError, match=f"^unknown engine '{name}': .*{hint}"):
            ask(name)
