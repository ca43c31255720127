"""Memory of training and inference, and the command that measures it."""

import json

import pytest

from gluon_aff._platform import ENGINES, torch_problem
from gluon_aff.cli import main
from gluon_aff.commands.memory import MODES
from gluon_aff.engines import Devices, engine
from gluon_aff.machine.children import Answer
from gluon_aff.models import model_record


@pytest.mark.inference
@pytest.mark.long
def test_processes_of_their_own(capsys):
    """Training holds what inference need not, and twice the images need more: 256 are 3 MiB, their features more."""
    held = {}
    for batch in (128, 256):
        assert main(["memory", "--model", "resnet20_b1", "--batch-size", str(batch), "--json"]) == 0
        (facts,) = json.loads(capsys.readouterr().out)
        assert (facts["network"], facts["input_size"], facts["batch_size"]) == ("resnet20_b1", 32, batch)
        assert facts["paper_training"] is None
        for mode in MODES:
            assert facts[mode]["device"] == "cpu(0)"
            held[mode, batch] = facts[mode]["peak"] - facts[mode]["before"]
    assert held["training", 256] > 1.5 * held["inference", 256] > 4.5
    for mode in MODES:
        assert held[mode, 256] > 1.3 * held[mode, 128]


@pytest.fixture
def answers(monkeypatch):
    """What was asked; each answer is a figure of its own, and MXNet can tell less."""
    asked = []

    def ask(probe, engine, model, batch, training, gpus, seconds):
        asked.append((probe, engine, model, batch, training, gpus))
        more = {"saved": 10.0 * len(asked)} if engine == "torch" and training else {}
        return Answer({"device": "cpu(0)", "of": "a process", "before": 100.0, "peak": 1000.0 * len(asked), **more})

    monkeypatch.setattr("gluon_aff.machine.children.ask", ask)
    return asked


@pytest.mark.inference
@pytest.mark.parametrize("name", ENGINES)
def test_the_engine_that_is_asked_for_is_asked(answers, capsys, name):
    framework = engine(name)
    assert main(["memory", "--engine", name, "--model", "resnet50", "--compare", "afi_resnet50", "--gpus", "1"]) == 0
    assert answers == [
        ("memory", name, model, 64, training, "1")
        for model in ("resnet50", "afi_resnet50")
        for training in (True, False)
    ]
    head = f"Memory of a process on cpu(0) with {framework.NAME} {framework.VERSION}, MiB, 64 images at a time"
    assert capsys.readouterr().out.splitlines()[0] == head


@pytest.mark.engine
def test_table_beside_the_papers(answers, capsys):
    assert main(["memory", "--engine", "mxnet", "--model", "resnet50", "--compare", "afi_resnet50"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "network       mode        peak  without network  difference  paper",
        "resnet50      training   1,000              100         900  7,447",
        "resnet50      inference  2,000              100       1,900  3,827",
        "afi_resnet50  training   3,000              100       2,900  7,001",
        "afi_resnet50  inference  4,000              100       3,900  2,671",
    ]


@pytest.mark.skipif(bool(torch_problem()), reason="PyTorch is not here")
def test_what_only_pytorch_tells_has_a_column(answers, capsys):
    assert main(["memory", "--engine", "torch", "--model", "resnet50"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "network   mode        peak  without network  difference  for backward  paper",
        "resnet50  training   1,000              100         900            10  7,447",
        "resnet50  inference  2,000              100       1,900             -  3,827",
    ]


@pytest.mark.inference
def test_the_papers_figures_are_for_its_batch_size(answers, capsys):
    assert main(["memory", "--model", "resnet50", "--batch-size", "32", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert facts["paper_training"] is facts["paper_inference"] is None
    framework = engine()
    assert facts["engine"] == f"{framework.NAME} {framework.VERSION}"


@pytest.mark.inference
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "resnet49"], 2, "unknown model 'resnet49'"),
        (["--model", "resnet20_fpn_b1"], 2, "resnet20_fpn_b1 is a segmentation network"),
        (["--model", "resnet50", "--gpus", "x"], 2, "error: --gpus 'x' is not a list of GPU ids such as 0,1"),
        (["--model", "resnet50", "--gpus", "0,1"], 2, "--gpus 0,1: memory is measured on a single GPU"),
        (
            ["--model", "resnet50"],
            1,
            "resnet50: crashed with SIGKILL (Killed). If it ran out of memory, lower --batch-size",
        ),
    ],
)
def test_what_cannot_be_measured(arguments, code, message, monkeypatch, capsys):
    killed = Answer(problem="crashed with SIGKILL (Killed)")
    monkeypatch.setattr("gluon_aff.machine.children.ask", lambda *_, seconds: killed)
    assert main(["memory", *arguments]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.inference
@pytest.mark.parametrize("name", ENGINES)
def test_on_a_cpu_the_figures_are_of_the_process(name):
    found = engine(name).measure_memory(model_record("resnet20_b1").architecture(), 2, False, Devices())
    assert (found["device"], found["of"]) == ("cpu(0)", "a process")
    assert found["peak"] >= found["before"] > 0
