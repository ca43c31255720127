"""Operators and networks of the user's own, as docs/operators.md prints them, in every command that knows a fusion."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from gluon_aff import cli, models, operators, registry
from gluon_aff._platform import platform_problem, torch_problem
from gluon_aff.errors import InputError

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/operators.md").read_text(encoding="utf-8"), re.DOTALL)
mxnet = pytest.mark.skipif(bool(platform_problem()), reason="MXNet is not here")
torch = pytest.mark.skipif(bool(torch_problem()), reason="PyTorch is not here")


@pytest.fixture(autouse=True)
def as_before(monkeypatch, tmp_path):
    """What a test registers is gone after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(registry.VARIABLE, raising=False)
    tables = (operators.OPERATORS, models.MODELS, registry._IMPLEMENTATIONS)
    before = [dict(table) for table in tables]
    yield
    os.environ.pop(registry.VARIABLE, None)
    for table, rows in zip(tables, before):
        table.clear()
        table.update(rows)
    for name in [name for name in sys.modules if name.endswith("_operators.py")]:
        del sys.modules[name]


@pytest.fixture
def mine():
    Path("my_operators.py").write_text(BLOCKS[0], encoding="utf-8")
    return "my_operators.py"


@pytest.fixture
def gluon_aff(capsys):
    """Runs a command and returns what it prints; what the one before has imported is forgotten, as in a new process."""

    def run(*arguments):
        sys.modules.pop(os.path.abspath("my_operators.py"), None)
        operators.OPERATORS.pop("Gate", None)
        operators.OPERATORS.pop("Maximum", None)
        os.environ.pop(registry.VARIABLE, None)
        code = cli.main(list(map(str, arguments)))
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    return run


@mxnet
def test_the_printed_operators_work_in_every_command(mine, few_shapes, gluon_aff):
    """Trained, stopped and gone on with, evaluated, recognised by its file's name, and a row of an ablation."""
    said = json.loads(gluon_aff("--import", mine, "summary", "resnet20_b1", "--fusion", "Gate", "--json"))
    assert "features.4.0.attention.conv" in [layer["name"] for layer in said]
    train = (
        "train-cifar", "--fusion", "Gate", "--blocks", "1", "--channel-times", "1", "--batch-size", "50",
        "--data-dir", str(few_shapes), "--seed", "1", "--import", "my_operators",
    )  # fmt: skip
    gluon_aff(*train, "--num-epochs", "1")
    gluon_aff(*train, "--num-epochs", "1", "--resume", "auto")
    weights = next(Path("params").glob("*-Gate-resnet-8-*.params"))
    described = gluon_aff("--import=my_operators.py", "params", str(weights))
    assert "attention.conv.weight" in described
    assert "fits: cifar100-Gate-resnet-8-c-1-s-1" in described
    evaluated = gluon_aff(
        "--import",
        mine,
        "evaluate",
        "--params",
        str(weights),
        "--data-dir",
        str(few_shapes),
        "--superclass",
        "--csv",
        "",
        "--json",
    )
    assert json.loads(evaluated)["network"] == "cifar100-Gate-resnet-8-c-1-s-1"
    plan = gluon_aff(
        "--import", mine, "ablation", "table4", "--host", "resnet", "--blocks", "1", "--fusions", "AFF", "Gate", "Max",
        "--dry-run",
    )  # fmt: skip
    assert re.findall(r"^(\w+) +1 ", plan, re.MULTILINE) == ["AFF", "Gate", "Maximum"]
    assert "--fusion Gate" in plan


@mxnet
def test_the_printed_operators_compute_what_they_say(mine):
    import mxnet as mx
    import numpy as np

    registry.import_registered(["--import", mine])
    from gluon_aff import get_model
    from gluon_aff.gluon.fusion import FeatureFusion, Fusing

    y, x = (mx.nd.array(np.random.default_rng(seed).normal(size=(2, 4, 3, 3))) for seed in (0, 1))
    np.testing.assert_array_equal(Fusing("Max")(4)(y, x).asnumpy(), mx.nd.maximum(y, x).asnumpy())
    net = get_model("resnet20_b1", fusion="Gate", ctx=mx.cpu())
    assert "features.2.0.attention.norm.gamma" in net._collect_params_with_prefix()
    assert FeatureFusion([4, 4], operator="Gate") is not None


@torch
def test_the_printed_module_and_network_in_pytorch():
    import torch

    Path("torch_operators.py").write_text(BLOCKS[1], encoding="utf-8")
    registry.import_registered(["--import", "torch_operators.py"])
    from gluon_aff.pytorch import get_model

    net = get_model("aff_resnet18", fusion="Gate")
    assert net.layer4[1].attention.conv.weight.shape == (512, 512, 1, 1)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)
    assert get_model("tiny")(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert get_model("tiny", classes=4)[2].weight.shape == (4, 3)
    assert "tiny" in models.list_models()


@mxnet
def test_a_registered_network_trains_under_its_name(few_shapes, gluon_aff):
    Path("my_operators.py").write_text(
        "from mxnet.gluon import nn\n"
        "from gluon_aff import register_network\n"
        "@register_network('small', classes=10)\n"
        "def small(classes) -> nn.HybridSequential:\n"
        "    net = nn.HybridSequential()\n"
        "    net.add(nn.Conv2D(8, 3, in_channels=3), nn.GlobalAvgPool2D(), nn.Dense(classes, in_units=8))\n"
        "    return net\n",
        encoding="utf-8",
    )
    assert re.search(r"^small +small +parameters", gluon_aff("--import", "my_operators", "models"), re.MULTILINE)
    gluon_aff(
        "train-cifar", "--import", "my_operators", "--model", "small", "--num-epochs", "1", "--batch-size", "50",
        "--data-dir", str(few_shapes),
    )  # fmt: skip
    assert list(Path("params").glob("*-cifar100-small-best.params"))


class Kind(type):
    pass


def of(framework):
    """A class as that framework's are."""
    base = type("Base", (), {"__module__": f"{framework}.blocks"})
    return type("Own", (base,), {})


def test_what_cannot_be_registered():
    for name, message in (
        ("AFF", "AFF has this name already"),
        ("ASKCFuse", "AFF has this name already"),
        ("Global+Local", "AFF has this name already"),
        ("my fusion", "only letters, digits, underscores, [+] and - are allowed"),
    ):
        with pytest.raises(InputError, match=message):
            operators.register_operator(name)(of("torch"))
    with pytest.raises(
        InputError, match=r"Kind is neither a class derived from Gluon's HybridBlock or PyTorch's nn\.Module"
    ):
        operators.register_operator("Own")(Kind)
    with pytest.raises(InputError, match="the package has a network of that name"):
        models.register_network("resnet50")(of("torch"))
    with pytest.raises(InputError, match="use lower-case letters, digits and underscores only"):
        models.register_network("My-Net")(of("torch"))


def test_help_lists_what_is_registered(capsys):
    operators.register_operator("Own")(of("torch"))
    with pytest.raises(SystemExit):
        cli.main(["train-cifar", "--help"])
    assert "Local+Local or Own, or a flag of the original" in " ".join(capsys.readouterr().out.split())


def test_the_same_name_may_be_registered_for_both_engines_and_again():
    for framework in ("mxnet", "torch", "torch"):
        operators.register_operator("Own", flags=["Mine"])(of(framework))
    assert operators.fusion_operator("Mine").name == "Own"
    with pytest.raises(InputError, match="Own has this name already"):
        operators.register_operator("Mine")(of("torch"))
    operators.register_operator("Other")(of("torch"))
    with pytest.raises(InputError, match="Other was registered for torch, not for mxnet: register one for it"):
        registry.implementation("Other", "mxnet")


def test_what_cannot_be_imported_is_one_line(capsys):
    Path("broken.py").write_text("import nowhere_at_all\n")
    for arguments, message in (
        (["--import", "broken", "models"], "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        (["models", "--import", "not_there"], "--import not_there: ModuleNotFoundError"),
        (["models", "--import"], "--import: name a module or its file"),
    ):
        assert cli.main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
        os.environ.pop(registry.VARIABLE, None)


def test_a_fusion_that_is_not_imported_says_how_to():
    with pytest.raises(
        InputError, match=r"unknown fusion .*; for an operator of your own, name its module with --import"
    ):
        operators.fusion_operator("Gate")


def test_arguments_of_another_command_stay():
    """Workers on other machines have no environment of this one's: their own command has to say it."""
    Path("mine.py").write_text("")
    argv = ["launch", "--import", "mine", "-n", "2", "--", "train-cifar", "--import", "other"]
    assert registry.import_registered(argv) == ["launch", "-n", "2", "--", "train-cifar", "--import", "other"]
    sys.modules.pop(os.path.abspath("mine.py"))


def test_a_file_called_as_a_module_of_the_library_is_imported():
    Path("json.py").write_text("raise ValueError('this one')\n")
    with pytest.raises(InputError, match=r"--import .*json\.py: ValueError: this one"):
        registry.import_registered(["--import", "json.py"])
    sys.modules.pop(os.path.abspath("json.py"))


def test_what_an_installed_package_registers(monkeypatch, capsys):
    class Point:
        name = "mine"

        def load(self):
            raise ValueError("broken")

    monkeypatch.setattr(registry.metadata, "entry_points", lambda: {"gluon_aff": [Point()]})
    assert cli.main(["models"]) == 2
    said = "gluon-aff: error: the entry point mine of the group gluon_aff: ValueError: broken\n"
    assert capsys.readouterr().err == said
