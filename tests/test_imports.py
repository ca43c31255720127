"""Who may import what: a room those below it; MXNet is reached by one door, PyTorch by the other."""

import ast
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest

import gluon_aff
from gluon_aff._platform import torch_problem

PACKAGE = Path(gluon_aff.__file__).parent

# What a top-level room alone may import, as a part of a dotted name: horovod.mxnet is MXNet's too.
ROOMS = {"mxnet": "gluon", "gluoncv": "gluon", "torch": "pytorch"}
DOORS = ("engines.py", "__init__.py")
# Rooms, folders and single modules of the package: each imports those before it only, so that there are no circles
ORDER = (
    *(
        "_version",
        "citation",
        "errors",
        "iteration",
        "schedule",
        "_platform",
        "interpreter",
        "extras",
        "files",
        "printing",
    ),
    *("locks", "download", "registry", "published", "models", "operators", "builders", "afinets", "engines"),
    *("data", "machine", "distributed", "settings", "run_names", "weights", "export", "evaluation"),
    *("gluon", "pytorch", "training", "inspection", "results", "commands", "cli", "__main__", "__init__"),
)


def imported(tree, package):
    """Line and dotted name of every import in it, also in functions, and of `import_module` of a written-out name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "import_extra", "__import__"):
                yield node.lineno, str(node.args[0].value)


def offences(file, text):
    """What a module at `file`, a path in the package, imports and may not, as file:line: name."""
    room = Path(file).parts[0]
    package = ".".join(["gluon_aff", *Path(file).parent.parts])
    for line, name in sorted(imported(ast.parse(text), package)):
        foreign = any(ROOMS.get(part, room) != room for part in name.split("."))
        inside = [other for other in ROOMS.values() if f"{name}.".startswith(f"gluon_aff.{other}.")]
        if foreign or (inside and room not in inside and file not in DOORS):
            yield f"gluon_aff/{file}:{line}: {name}"


def rooms_above(file, text):
    """Rooms that a module at `file`, a path in the package, imports though they come after its own."""
    room, package = Path(file).with_suffix("").parts[0], ".".join(["gluon_aff", *Path(file).parent.parts])
    for line, name in sorted(imported(ast.parse(text), package)):
        outer, _, inner = name.partition(".")
        other = inner.partition(".")[0]
        if outer == "gluon_aff" and other in ORDER and ORDER.index(other) > ORDER.index(room) and file not in DOORS:
            yield f"gluon_aff/{file}:{line}: {name}"


@pytest.fixture(scope="module")
def files():
    """Text of the package's modules by path."""
    return {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


def test_each_framework_is_imported_in_its_room_and_reached_through_the_door(files):
    assert [each for file, text in sorted(files.items()) for each in offences(file, text)] == []


def test_a_room_imports_those_below_it_only(files):
    assert {Path(file).with_suffix("").parts[0] for file in files} == set(ORDER)
    assert [each for file, text in sorted(files.items()) for each in rooms_above(file, text)] == []


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("weights/x.py", "def f():\n    from gluon_aff.training import run", ["2: gluon_aff.training.run"]),
        ("models.py", "from gluon_aff import data", ["1: gluon_aff.data"]),
        ("settings/x.py", "import gluon_aff.run_names", ["1: gluon_aff.run_names"]),
        ("training/x.py", "from .run import y\nfrom gluon_aff.weights.card import Card", []),
        ("engines.py", "from importlib import import_module\nimport_module('gluon_aff.gluon.engine')", []),
    ],
)
def test_an_import_of_a_room_above_is_named(file, text, names):
    assert list(rooms_above(file, text)) == [f"gluon_aff/{file}:{name}" for name in names]


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("data/x.py", "def f():\n    import mxnet as mx", ["2: mxnet"]),
        ("data/x.py", "from mxnet import gluon, nd", ["1: mxnet.gluon", "1: mxnet.nd"]),
        ("data/x.py", "import gluoncv.data", ["1: gluoncv.data"]),
        ("pytorch/x.py", "import torch, mxnet", ["1: mxnet"]),
        ("gluon/networks/x.py", "import mxnet, torch.nn", ["1: torch.nn"]),
        ("data/x.py", "from importlib import import_module\nimport_module('horovod.mxnet')", ["2: horovod.mxnet"]),
        ("data/x.py", "import importlib\nimportlib.import_module('torch')", ["2: torch"]),
        ("data/x.py", "from gluon_aff import gluon", ["1: gluon_aff.gluon"]),
        ("data/x.py", "from gluon_aff.gluon.devices import x", ["1: gluon_aff.gluon.devices.x"]),
        ("data/x.py", "from ..gluon import x", ["1: gluon_aff.gluon.x"]),
        ("gluon/x.py", "from gluon_aff.pytorch import x", ["1: gluon_aff.pytorch.x"]),
        ("gluon/x.py", "from gluon_aff.gluon import x\nfrom gluon_aff.data import y\nimport mxnet", []),
        ("engines.py", "from gluon_aff.gluon import engine", []),
        ("engines.py", "import mxnet", ["1: mxnet"]),
        ("__init__.py", "from gluon_aff.gluon.networks.zoo import get_model", []),
        ("data/x.py", "from gluon_aff import gluon_like\nimport numpy, torchlike", []),
        ("machine/x.py", "from gluon_aff.machine.mxnet_build import x", []),
    ],
)
def test_an_import_that_is_not_allowed_is_named(file, text, names):
    assert list(offences(file, text)) == [f"gluon_aff/{file}:{name}" for name in names]


def test_tests_share_modules_by_a_name_that_no_package_has():
    here = Path(__file__).parent
    own = {path.stem for path in here.iterdir()} - {"shared_by_tests"}
    texts = {path: ast.parse(path.read_text(encoding="utf-8")) for path in here.rglob("*.py")}
    assert [
        (str(path), name) for path, text in texts.items() for _, name in imported(text, "") if name.split(".")[0] in own
    ] == []


@pytest.mark.skipif(bool(torch_problem()), reason="PyTorch is not here")
def test_the_networks_in_pytorch_need_pytorch_and_numpy_only():
    program = """
import sys
class Elsewhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("requests", "tqdm", "matplotlib", "cv2", "filelock", "PIL", "sklearn", "mxnet"):
            raise ImportError(name)
sys.meta_path.insert(0, Elsewhere())
import torch
from gluon_aff.pytorch import AFF, get_model, list_models, load_params
print(tuple(get_model("resnet20_b1")(torch.zeros(2, 3, 32, 32)).shape))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.returncode) == ("(2, 100)\n", 0), ran.stderr
