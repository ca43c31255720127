"""The command lines as a user types them, most in processes of their own."""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from shared_by_tests.documented_commands import DOCUMENTED

from gluon_aff import cli, engines
from gluon_aff._platform import torch_problem
from gluon_aff.cli import COMMANDS, main
from gluon_aff.data.cifar.files import load_cifar
from gluon_aff.engines import engine
from gluon_aff.models import list_models

ROOT = Path(__file__).parents[1]


def run(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=280)


def gluon_aff(*arguments, cwd=ROOT):
    return run("-m", "gluon_aff", *arguments, cwd=cwd)


@pytest.fixture
def in_process(capsys):
    """What a command line gives where it makes no difference that it has no process of its own."""

    def answer(*arguments):
        code = main(list(arguments))
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return answer


def assert_one_line(result, code, *parts):
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.returncode == code, result.stderr
    assert len(lines) == 1, result.stderr
    assert all(part in lines[0] for part in parts), lines[0]


@pytest.mark.long
@pytest.mark.parametrize("which", DOCUMENTED)
def test_documented_commands_start_on_sample_data(which, few_shapes, tmp_path):
    """Unchanged but for what makes them short; what they leave is held by the golden runs (tests/goldens/runs)."""
    short = ["--data-dir", few_shapes, "--num-epochs", "1", "--batch-size", "20", "--channel-times", "1"]
    short += ["--mixup-off-epoch", "0"]
    head = ["--classes", "20", "--seed", "0"]  # even a guess is right sometimes then, and weights are written
    result = run(str(ROOT / "train_cifar.py"), *DOCUMENTED[which][0].split(), *short, *head, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "20 superclasses, the original's default" in result.stderr
    assert "INFO:root:[Epoch 0] train=" in result.stderr
    assert "epoch 0:" not in result.stderr  # no progress bar outside a terminal
    for line in result.stdout.splitlines()[1:]:
        assert (tmp_path / line.split(None, 1)[1]).is_file()


@pytest.mark.engine
@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["--model", "vgg"], 2, ["unknown --model 'vgg'"]),
        (["--askc-type", "xxx"], 2, ["unknown fusion (--fusion, --askc-type) 'xxx'", "ASKCFuse"]),
        (["--dataset", "mnist"], 2, ["--dataset", "'mnist'", "--help"]),
        (["--batch-siz", "ten"], 2, ["--batch-size", "ten"]),
        (["--data-dir", "nowhere"], 2, ["nowhere", "--data-dir"]),
        (["--gpus", "all"], 2, ["--gpus 'all'"]),
        (["--fine-label", "--superclass"], 2, ["not allowed with"]),
        (["--resume-from", "gone.params"], 2, ["gone.params: No such file"]),
        (["--data-dir", "x" * 300], 2, ["File name too long", "--data-dir"]),
        (["--data-dir", ""], 2, ["--data-dir is empty"]),
        (["--resume", ""], 2, ["--resume is empty"]),
        (["--blocks", "3000000000"], 2, ["--blocks 3000000000: must be from 1 to 1000"]),
        (["--logging-dir", "file/logs"], 2, ["--logging-dir file/logs: "]),
        (["--lr-decay-epoch", "many"], 2, ["--lr-decay-epoch 'many'"]),
        (["--lr", "1e30", "--num-epochs", "3"], 1, ["the loss is", "at epoch", "step"]),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(arguments, code, parts, few_shapes, tmp_path, monkeypatch, capfd):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    usual = ["--data-dir", few_shapes, "--channel-times", "1", "--batch-size", "20", "-j", "0"]
    try:
        returned = main([*usual, *arguments], "train_cifar.py", "train-cifar")
    except SystemExit as end:  # argparse's way
        returned = end.code
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert returned == code, lines
    assert lines[-1].startswith("train_cifar.py: error: ")
    assert all(part in lines[-1] for part in parts), lines[-1]
    if code == 2:  # a run that started has said more
        assert len(lines) == 1
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.engine
def test_the_script_ends_with_that_code(few_shapes, tmp_path):
    result = run(str(ROOT / "train_cifar.py"), "--data-dir", few_shapes, "--gpus", "all", cwd=tmp_path)
    assert_one_line(result, 2, "train_cifar.py: error: ", "--gpus 'all'")


@pytest.mark.engine
def test_summary_flag_prints_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--summary", "--blocks", "5"], "train_cifar.py", "train-cifar") == 0
    assert "trainable parameters: 7,897,156" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.engine
def test_summary_command(in_process):
    assert "multiply-adds at batch 1: 1,132,375,040" in in_process("summary", "aff_resnet32_cifar100").stdout
    original = in_process("summary", "aff_resnet32_cifar100", "--as-original").stdout
    assert "FLOPs as original at batch 1: 1,133,120,084" in original
    layers = json.loads(in_process("summary", "aff_resnet32_cifar100", "--json").stdout)
    assert sum(layer["trainable"] for layer in layers) == 7_897_156


@pytest.mark.engine
def test_summary_of_an_unknown_model(in_process):
    assert_one_line(in_process("summary", "aff_resnet"), 2, "gluon-aff: error: unknown model", "did you mean")


@pytest.mark.parametrize("flags", [["--classes", "0"], ["--input-size", "-3"]])
def test_summary_of_impossible_sizes(flags):
    assert_one_line(gluon_aff("summary", "aff_resnet50", *flags), 2, flags[0], flags[1])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["evaluate", "--dataset"], ["argument --dataset: expected one argument"]),
        (["report", "--recipe"], ["gluon-aff", "error"]),
        (["train-cifar", "--recipe"], ["argument --recipe: expected one argument"]),
        (["evaluate", "-j", "-5"], ["argument -j/--num-workers: invalid"]),
        (["make-records", "a", "b", "-j", "-1"], ["argument -j/--num-workers: invalid"]),
        (["export", "--params", "none.params", "--format", "symbol", "-o", ""], ["-o '' is not the name of a file"]),
        (["gradcam", "--params", "x.params", "a.png", "-o", "folder.png"], ["'folder.png' is not the name of a file"]),
    ],
)
def test_bad_arguments_of_any_command(arguments, parts, tmp_path, monkeypatch, capsys):
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    try:
        returned = main(arguments)
    except SystemExit as end:
        returned = end.code
    (line,) = capsys.readouterr().err.splitlines()
    assert returned == 2
    assert all(part in line for part in parts), line


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_stream_that_is_closed_changes_nothing(closed):
    command = f"{shlex.quote(sys.executable)} -m gluon_aff published {closed}"
    result = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert ("aff_resnet50" in result.stdout) == (closed == "2>&-")


@pytest.mark.engine
def test_an_mxnet_error_is_one_line(in_process):
    result = in_process("summary", "aff_resnet32_cifar100", "--classes", "9999999999")
    assert_one_line(result, 1, "gluon-aff: error: MXNet stopped: ")


def test_models_command(in_process):
    assert_one_line(in_process("models", "vgg*"), 2, "no model matches vgg*")
    lines = in_process("models", "iaff*").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list_models("iaff*")
    records = json.loads(in_process("models", "--json").stdout)
    assert [record["name"] for record in records] == list_models()


def test_make_data_command(tmp_path):
    assert gluon_aff("make-data", "shapes", "shapes", cwd=tmp_path).returncode == 0
    data = load_cifar("cifar100", True, fine_label=True, data_dir=str(tmp_path / "shapes"))
    assert data.classes == 100


def test_version_and_help():
    assert gluon_aff("--version").stdout.startswith("gluon_aff ")
    text = gluon_aff("--help").stdout
    assert all(f"\n    {command}" in text for command in COMMANDS)
    assert "usage: train_cifar.py" in run("train_cifar.py", "--help").stdout


def test_options_of_every_command_have_words(capsys):
    """Each says what it is, and its default unless it has to be given or switches something on."""
    parser = cli.OneLineParser("gluon-aff")
    cli._add_commands(parser, [])
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for name, subparser in subparsers.choices.items():
        if name.startswith("train-"):  # their options are declared in gluon_aff.settings
            continue
        for action in subparser._actions:
            assert action.help, (name, action.dest)
            if action.help == argparse.SUPPRESS:
                continue
            optional = action.option_strings and not action.required and action.nargs != 0
            if optional and action.dest not in ("stages", "attention"):
                assert "default" in action.help, (name, action.dest, action.help)


def test_help_does_not_import_mxnet():
    code = "import sys; from gluon_aff.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    assert run("-c", code + "assert 'mxnet' not in sys.modules").returncode == 0


def test_no_command_says_which_there_are():
    assert_one_line(gluon_aff(), 2, "COMMAND", "gluon-aff --help")


@pytest.mark.engine
def test_a_reader_that_stops_early_is_no_error():
    command = f"{shlex.quote(sys.executable)} -m gluon_aff summary aff_resnet32_cifar100 | head -2"
    result = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert result.stdout.startswith("layer ")
    assert result.stderr == ""


@pytest.mark.engine
def test_a_missing_system_library_is_named(tmp_path):
    """As mxnet-cu112 without cuDNN: MXNet's import is a traceback from ctypes."""
    (tmp_path / "mxnet").mkdir()
    (tmp_path / "mxnet" / "__init__.py").write_text("import ctypes\nctypes.CDLL('libmissing.so.8')\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "gluon_aff", "summary", "aff_resnet50"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert_one_line(result, 2, "libmissing.so.8: cannot open shared object file", "gluon-aff doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_its_use(command):
    result = gluon_aff(command, "--help")
    assert result.returncode == 0
    assert f"usage: gluon-aff {command}" in result.stdout
    assert "examples:" in result.stdout
    assert "\nEngine: " in result.stdout


@pytest.mark.engine
def test_bad_weights_are_one_line(in_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.params").write_text("<!DOCTYPE html><html></html>")
    result = in_process("evaluate", "--params", "page.params")
    assert_one_line(result, 2, "gluon-aff: error: page.params", "a web page")
    assert [p.name for p in tmp_path.iterdir()] == ["page.params"]


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_closed_pipe_and_a_full_disk_are_no_traceback(buffered):
    command = [sys.executable, "-m", "gluon_aff", "published", "aff_resnet50"]
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert_one_line(result, 1, "No space left on device")
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize(
    ("mxnet", "torch", "said"),
    [
        (
            None,
            None,
            "Engines here: mxnet and torch; mxnet computes, unless --engine or $GLUON_AFF_ENGINE names torch.",
        ),
        (None, "no", "Engines here: mxnet."),
        ("no", None, "Engines here: torch."),
        ("no", "no", "Engines here: none, so commands that compute do not work; `gluon-aff doctor` says"),
    ],
)
def test_help_says_which_engines_are_here(monkeypatch, capsys, mxnet, torch, said):
    monkeypatch.setattr(cli, "platform_problem", lambda: mxnet)
    monkeypatch.setattr(cli, "torch_problem", lambda: torch)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert said in " ".join(capsys.readouterr().out.split())


def test_home_is_found_behind_an_equals_sign(monkeypatch, tmp_path, capsys):
    """Shells write out ~ at the beginning of a word only."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cli.main(["compare", "a.log", "--plot=~/b.txt"]) == 2
    assert str(tmp_path / "b.txt") in capsys.readouterr().err
    assert cli._with_home(["--save-dir=~/runs", "--x=~", "--x=a~", "~/y", "--", "--save-dir=~/runs"]) == [
        f"--save-dir={tmp_path}/runs",
        f"--x={tmp_path}",
        "--x=a~",
        "~/y",
        "--",
        "--save-dir=~/runs",
    ]


def test_a_current_folder_that_has_been_deleted_is_a_line(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    for command in (["doctor"], ["compare", "a.log"], ["report", "."], ["train-cifar"], ["models"]):
        assert cli.main(command) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("gluon-aff: error: the current folder does not exist any more")
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("evalute --params x", ["gluon-aff: error: ", "'evalute': did you mean evaluate? (choose from"]),
        ("train-cifar --fusoin AFF", ["gluon-aff train-cifar: error: ", "--fusoin AFF: did you mean --fusion? "]),
        ("evaluate --dtpye=float16", ["--dtpye=float16: did you mean --dtype? "]),
        ("evaluate --dataset cifar1", ["'cifar1': did you mean cifar10? (choose from"]),
        ("predict x.png --zzz", ["unrecognized arguments: --zzz (see gluon-aff predict --help)"]),
    ],
)
def test_a_slip_in_a_command_or_a_flag_names_the_most_similar_one(line, parts, capsys):
    with pytest.raises(SystemExit) as end:
        main(line.split())
    (said,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert all(part in said for part in parts), said


@pytest.mark.skipif(bool(torch_problem()), reason="PyTorch is not here")
@pytest.mark.parametrize(
    ("command", "more"), [("summary", ("aff_resnet32_cifar100",)), ("train-cifar", ("--summary",))]
)
def test_a_summary_is_counted_by_the_engine_that_is_named(command, more, in_process, monkeypatch):
    asked = []
    monkeypatch.setattr(engines, "engine", lambda name=None: asked.append(name) or engine(name))
    assert in_process(command, *more, "--engine", "torch").returncode == 0
    assert asked == ["torch"]


def test_predicts_help_states_its_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    assert "exit code is then 1, or 2 if no image could be read" in " ".join(capsys.readouterr().out.split())
