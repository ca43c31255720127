"""What the package does and says where MXNet 1.9.1 cannot work: mostly real interpreters with doctored paths."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from PIL import Image
from shared_by_tests.written_logs import log_lines

from gluon_aff import _platform
from gluon_aff.cli import COMMANDS
from gluon_aff.engines import engine
from gluon_aff.errors import InputError
from gluon_aff.models import MODELS
from gluon_aff.published import published_runs
from gluon_aff.weights.params_format import write_params_file

SITE_PACKAGES = sysconfig.get_paths()["purelib"]
COMMAND = ("from gluon_aff_command import main", "raise SystemExit(main())")
COMPUTE = ("sys.argv[1:] = ['memory', '--model', 'aff_resnet50']", *COMMAND)
on_mxnets_python = pytest.mark.skipif(_platform.python_problem() is not None, reason="MXNet runs on older Pythons")


@pytest.fixture(scope="module")
def run_isolated(tmp_path_factory):
    """Function that runs statements with the standard library, `path`, the package, and nothing else to import."""
    folder = tmp_path_factory.mktemp("package")
    package = Path(_platform.__file__).parent
    for name in ("gluon_aff", "gluon_aff_command.py"):
        (folder / name).symlink_to(package.parent / name)

    def run(*statements: str, path: tuple = (SITE_PACKAGES,), python: str = sys.executable):
        code = "\n".join(("import sys", f"sys.path += {[str(folder), *map(str, path)]!r}", *statements))
        return subprocess.run([python, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def all_but_mxnet(tmp_path_factory):
    """Folder with what is installed here, but for the engines and NumPy's metadata."""
    folder = tmp_path_factory.mktemp("packages")
    for entry in Path(SITE_PACKAGES).iterdir():
        if not entry.name.startswith(("mxnet", "torch", "numpy-")):
            (folder / entry.name).symlink_to(entry)
    return folder


def add_metadata(folder: Path, distribution: str, version: str) -> Path:
    """Make `distribution` look installed in `folder`."""
    info = folder / f"{distribution}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    return folder


def add_mxnet(folder: Path, *distributions: str) -> Path:
    """Make an importable mxnet that `distributions` say they installed."""
    (folder / "mxnet").mkdir(parents=True)
    (folder / "mxnet" / "__init__.py").write_text("")
    for distribution in distributions:
        add_metadata(folder, distribution, "1.9.1")
    return folder


def assert_one_line(result, *words: str):
    """The command said one line, with these words, and exited with 2."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("gluon-aff: error: ")
    assert result.stderr.endswith("; to check everything else: python -m gluon_aff doctor\n")
    for word in words:
        assert word in result.stderr


def newer_python() -> Optional[str]:
    """An interpreter that MXNet does not run on, if one is installed."""
    names = [f"python3.{minor}" for minor in range(12, 16)]
    pyenv = sorted(str(path) for path in Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python"))
    for python in names + pyenv:
        try:
            answer = subprocess.run(
                [python, "-c", "import sys; print(sys.version_info >= (3, 12))"], capture_output=True
            )
        except FileNotFoundError:
            continue
        if answer.stdout == b"True\n":
            return python
    return None


def test_nothing_is_wrong_where_mxnet_is():
    """The suite runs in a supported environment, so the check has nothing to say."""
    pytest.importorskip("mxnet")
    assert _platform.platform_problem() is None
    assert _platform.several_mxnet_builds() is None


def test_import_loads_neither_numpy_nor_mxnet(run_isolated):
    result = run_isolated("import gluon_aff", "print({'numpy', 'mxnet', 'gluoncv'} & set(sys.modules))")
    assert result.stdout == "set()\n", result.stderr


def test_names_come_with_their_first_use(run_isolated):
    result = run_isolated(
        "import warnings",
        "warnings.simplefilter('ignore')",
        "import gluon_aff",
        "assert {'get_model', 'list_models', '__version__'} <= set(dir(gluon_aff))",
        "assert 'mxnet' not in sys.modules",
        "print(gluon_aff.list_models is gluon_aff.list_models, len(gluon_aff.list_models()) > 0)",
    )
    assert result.stdout == "True True\n", result.stderr


def test_all_names_are_there_with_mxnet():
    pytest.importorskip("mxnet")
    names = {}
    exec("from gluon_aff import *", names)
    assert names["get_model"].__module__ == "gluon_aff.gluon.networks.zoo"


def test_unknown_name_is_an_attribute_error():
    import gluon_aff

    with pytest.raises(AttributeError, match="'gluon_aff' has no attribute 'get_modell'"):
        _ = gluon_aff.get_modell


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 7, 16), (3, 12, 0), (3, 14, 1), (4, 0, 0)])
def test_python_out_of_range(monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    problem = str(_platform.platform_problem())
    assert f"this is Python {version[0]}.{version[1]}:" in problem
    assert "3.8, 3.9, 3.10 or 3.11" in problem


@pytest.mark.parametrize("version", [(3, 8, 0), (3, 9, 18), (3, 11, 7)])
def test_python_in_range(monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(_platform, "mxnet_folder", lambda: Path("mxnet"))
    monkeypatch.setattr(_platform, "_version_of", lambda _: "1.23.5")
    assert _platform.platform_problem() is None


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "aarch64")])
def test_other_machines(monkeypatch, system, machine):
    """MXNet has no wheel for them; one that was built there is taken."""
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(_platform, "mxnet_folder", lambda: None)
    problem = str(_platform.platform_problem())
    assert f"this is {system} {machine}: use such a machine" in problem
    assert _platform.no_wheel()
    monkeypatch.setattr(_platform, "mxnet_folder", lambda: Path("mxnet"))
    assert _platform.machine_problem() is None
    assert _platform.no_wheel() is None


def test_command_on_a_newer_python(run_isolated):
    python = newer_python()
    if python is None:
        pytest.skip("no Python >= 3.12 is installed")
    result = run_isolated("import gluon_aff", "print(gluon_aff.__version__)", python=python, path=())
    assert (result.returncode, result.stderr) == (0, "")


def test_command_on_an_older_python(run_isolated):
    found = sorted(str(path) for path in Path.home().glob(".pyenv/versions/3.7*/bin/python"))
    if not found:
        pytest.skip("no Python 3.7 is installed")
    result = run_isolated(*COMMAND, python=found[0])
    assert (result.returncode, result.stderr) == (
        2,
        "gluon-aff: error: gluon_aff needs Python 3.8 or newer, and this is Python 3.7\n",
    )


@on_mxnets_python
def test_command_without_mxnet(run_isolated, all_but_mxnet):
    result = run_isolated(*COMPUTE, path=(all_but_mxnet,))
    assert_one_line(result, "pip install mxnet==1.9.1", "pip install mxnet-cu112==1.9.1")


@on_mxnets_python
def test_what_an_uninstalled_mxnet_leaves_is_not_mxnet(run_isolated, all_but_mxnet, tmp_path):
    (tmp_path / "mxnet" / "__pycache__").mkdir(parents=True)
    assert_one_line(run_isolated(*COMPUTE, path=(tmp_path, all_but_mxnet)), "pip install mxnet==1.9.1")


@pytest.fixture(scope="module")
def some_files(tmp_path_factory, few_shapes):
    """Folder with a log, weights that fit a network, pictures and CIFAR data."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "data").symlink_to(few_shapes)
    (folder / "logs").mkdir()
    (folder / "logs" / "train.log").write_text("\n".join(log_lines(published_runs()["aff_resnet50"], epochs=3)) + "\n")
    record = MODELS["aff_resnet32_cifar100"]
    heads = {"output.weight": (record.classes, 256), "output.bias": (record.classes,)}
    rest = record.trainable - sum(map(math.prod, heads.values()))
    shapes = {**heads, **{f"other.{number}": (1,) for number in range(9)}, "rest": (rest - 9,)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    write_params_file(str(folder / "net.params"), arrays)
    (folder / "pictures" / "grey").mkdir(parents=True)
    Image.new("RGB", (32, 32), "grey").save(folder / "pictures" / "grey" / "1.png")
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("models", "7,897,156 parameters"),
        ("published aff_resnet50", "0.2028-imagenet-ImageNet-ASKCFuse"),
        ("compare logs/train.log", "aff_resnet50"),
        ("report logs -o report.html", "report.html reports on train.log"),
        ("params net.params", "fits: not known (to compute, gluon_aff needs MXNet"),
        ("params net.params --json", '"networks": null'),
        ("make-data shapes shapes", "shapes are in shapes"),
        ("make-records pictures out", "1 pictures of 1 classes are in out.rec"),
        ("doctor", "models, params, published, compare, report, doctor: some may fail"),
    ],
)
def test_commands_that_need_no_engine(run_isolated, all_but_mxnet, some_files, arguments, said):
    here = (f"import os; os.chdir({str(some_files)!r})", f"sys.argv[1:] = {arguments.split()!r}")
    result = run_isolated(*here, *COMMAND, path=(all_but_mxnet,))
    assert said in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "train-cifar --data-dir data --cosine",
        "train-segmentation --data-dir data",
        "train-imagenet --data-dir pictures --model resnet50",
        "summary aff_resnet50",
        "memory --model aff_resnet50",
        "evaluate --params net.params --data-dir data",
        "predict --params net.params pictures/grey/1.png",
        "segment --params net.params pictures/grey/1.png",
        "gradcam --params net.params pictures/grey/1.png -o maps.png",
        "selectivity --params net.params --data-dir data -o selectivity.png",
        "export --params net.params -o net.onnx",
        "ablation table4 --host resnet --data-dir data",
        "launch -n 1 -- gluon-aff train-cifar",
    ],
)
def test_commands_that_compute(run_isolated, all_but_mxnet, some_files, arguments):
    """They say one line, at once, and leave nothing behind."""
    before = sorted(some_files.rglob("*"))
    here = (f"import os; os.chdir({str(some_files)!r})", f"sys.argv[1:] = {arguments.split()!r}")
    assert_one_line(run_isolated(*here, *COMMAND, path=(all_but_mxnet,)), "to compute, gluon_aff needs MXNet")
    assert sorted(some_files.rglob("*")) == before


@pytest.mark.parametrize("module", ["gluon_aff", "gluon_aff.gluon.networks", "gluon_aff.gluon"])
def test_import_error_is_what_the_library_raises(run_isolated, all_but_mxnet, module):
    wanted = f"from {module} import get_model" if module != "gluon_aff.gluon" else "import gluon_aff.gluon.devices"
    result = run_isolated(
        "try:", f"    {wanted}", "except ImportError as error:", "    print(error)", path=(all_but_mxnet,)
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("to compute, gluon_aff needs MXNet")
    assert len(result.stdout.splitlines()) == 1


def test_the_engine_says_the_same(monkeypatch):
    monkeypatch.setattr(_platform, "mxnet_folder", lambda: None)
    for name in [name for name in sys.modules if name.startswith("gluon_aff.gluon")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InputError, match=r"needs MXNet.*pip install.*; to check everything else: python -m gluon_aff"):
        engine("mxnet")


@on_mxnets_python
@pytest.mark.parametrize("version", ["1.24.0", "1.24.4", "1.24rc1", "2.0.0", "10.1"])
def test_command_with_a_newer_numpy(run_isolated, all_but_mxnet, tmp_path, version):
    folder = add_metadata(add_mxnet(tmp_path), "numpy", version)
    result = run_isolated(*COMPUTE, path=(folder, all_but_mxnet))
    assert_one_line(result, f"NumPy {version}", "pip install 'numpy<1.24'")


@on_mxnets_python
@pytest.mark.parametrize("version", ["1.17.0", "1.23.5", "1.3.0", "0.9"])
def test_older_numpy_is_fine(run_isolated, tmp_path, version):
    folder = add_metadata(add_mxnet(tmp_path), "numpy", version)
    result = run_isolated("import gluon_aff.gluon", path=(folder,))
    assert (result.returncode, result.stderr) == (0, "")


def test_the_check_can_be_left_out(run_isolated, tmp_path):
    """For those whose MXNet works all the same, and for the doctor."""
    add_metadata(add_mxnet(tmp_path, "mxnet", "mxnet_cu112"), "numpy", "1.26.4")
    skip = ("import os", "os.environ['GLUON_AFF_SKIP_CHECK'] = '1'")
    result = run_isolated(*skip, "import gluon_aff.gluon", path=(tmp_path,))
    assert (result.returncode, result.stderr) == (0, "")
    result = run_isolated(skip[0], skip[1].replace("1'", "'"), "import gluon_aff.gluon", path=(tmp_path,))
    assert "NoEngineError: " in result.stderr


@pytest.mark.parametrize("command", [name for name in COMMANDS])
def test_help_needs_the_standard_library_only(run_isolated, command):
    result = run_isolated(f"sys.argv[1:] = [{command!r}, '--help']", *COMMAND, path=())
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: gluon-aff {command}")


@on_mxnets_python
@pytest.mark.parametrize(
    ("distributions", "named"),
    [
        (("mxnet", "mxnet_cu112"), "pip uninstall -y mxnet mxnet-cu112, "),
        (("mxnet_cu102", "mxnet_cu112"), "pip uninstall -y mxnet-cu102 mxnet-cu112, "),
        (("mxnet", "mxnet_cu110", "mxnet_mkl"), "pip uninstall -y mxnet mxnet-cu110 mxnet-mkl, "),
    ],
)
def test_builds_over_each_other_are_warned_about(run_isolated, tmp_path, distributions, named):
    add_mxnet(tmp_path, *distributions)
    result = run_isolated("import gluon_aff.gluon", path=(tmp_path,))
    assert result.returncode == 0, result.stderr
    assert "UserWarning" in result.stderr
    assert named in result.stderr


@on_mxnets_python
@pytest.mark.parametrize("distributions", [(), ("mxnet",), ("mxnet_cu112",), ("mxnet", "mxnet_model_server")])
def test_one_build_is_fine(run_isolated, tmp_path, distributions):
    add_mxnet(tmp_path, *distributions)
    result = run_isolated("import gluon_aff.gluon", path=(tmp_path,))
    assert (result.returncode, result.stderr) == (0, "")


def test_installed_command_runs():
    command = Path(sysconfig.get_path("scripts")) / "gluon-aff"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    result = subprocess.run([str(command), "--version"], capture_output=True, text=True, check=False, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("gluon_aff ")


@pytest.mark.parametrize(
    ("name", "value", "is_one"),
    [
        ("OMP_NUM_THREADS", "abc", False),
        ("OMP_NUM_THREADS", "4,2", False),
        ("OMP_NUM_THREADS", " 4 ", True),
        ("OMP_NUM_THREADS", "", True),
        ("MXNET_CPU_WORKER_NTHREADS", "x", False),
        ("MXNET_CPU_WORKER_NTHREADS", "\u0664", False),
        ("MXNET_SAFE_ACCUMULATION", "yes", False),
        ("MXNET_SAFE_ACCUMULATION", "True", True),
        ("MXNET_SAFE_ACCUMULATION", "1", True),
        ("MXNET_ENGINE_TYPE", "NaiveEngine", True),
    ],
)
def test_variables_on_which_mxnet_would_abort_are_refused(name, value, is_one, monkeypatch):
    """An exception in its C++ start or threads ends the process, with a core dump, or leaves it waiting."""
    from gluon_aff.machine.resources import check_settings

    monkeypatch.setenv(name, value)
    if is_one:
        _platform.check_variables()
        assert check_settings().state != "mend"
    else:
        with pytest.raises(InputError, match=f"{name}={value}: MXNet expects .* there; change it, or unset it"):
            _platform.check_variables()
        assert name in check_settings().message
