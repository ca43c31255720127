"""The paper's ablations: rows, commands, what is made of results."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from gluon_aff.cli import main
from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.results import ablation
from gluon_aff.results.ablation import RowResult, finished_result, result_of, summaries, summary_text
from gluon_aff.results.ablation_rows import ABLATION_HOSTS, rows_of, training_flags


def test_rows_of_table_4_have_the_papers_numbers():
    rows = rows_of("table4", "resnet", [1, 4], [0, 1])
    assert len(rows) == 7 * 2 * 2
    figures = {(row.fusion, row.blocks): (row.r, row.paper) for row in rows}
    assert figures["Add", 1] == (2, 0.740)
    assert figures["MS-GAU", 4] == (2, 0.819)
    assert figures["iAFF", 1] == (4, 0.772)
    assert figures["iAFF", 4] == (4, None)  # a slash in the paper
    assert {row.seed for row in rows} == {0, 1}


def test_rows_of_the_other_tables():
    table3 = rows_of("table3", "fpn", [2], [0])
    assert [(row.fusion, row.paper_name, row.paper) for row in table3] == [
        ("Global+Global", "Global + Global", 0.923),
        ("Local+Local", "Local + Local", 0.919),
        ("AFF", "Global + Local", 0.935),
    ]
    figure = rows_of("fig7", "inception", [3], [0])
    assert [(row.fusion, row.r, row.paper) for row in figure] == [
        ("Concatenation", 4, 0.772),
        ("SKNet", 4, None),
        ("AFF", 4, None),
        ("iAFF", 4, None),
    ]
    assert {row.r for row in rows_of("table4", "resnet", [1], [0], r=8)} == {8}
    (chosen,) = rows_of("table3", "fpn", [2], [0], fusions=["AFF"])
    assert chosen == table3[2]
    (other,) = rows_of("table4", "fpn", [2], [0], fusions=["SENet"])
    assert (other.fusion, other.paper) == ("SENet", None)


def test_decays_go_with_the_epochs():
    """The first release cut the rate at epochs 300 and 350 of 400 (Table 2 of the paper says 400)."""
    (row,) = rows_of("table3", "resnet", [1], [0])[:1]
    flags = training_flags(row, ABLATION_HOSTS["resnet"], None, [])
    assert flags[flags.index("--num-epochs") + 1] == "400"
    assert flags[flags.index("--lr-decay-epoch") + 1] == "300,350"
    flags = training_flags(row, ABLATION_HOSTS["resnet"], 40, ["--batch-size", "16"])
    assert flags[flags.index("--lr-decay-epoch") + 1] == "30,35"
    assert flags[-2:] == ["--batch-size", "16"]
    flags = training_flags(row, ABLATION_HOSTS["resnet"], 2, [])
    assert flags[flags.index("--lr-decay-epoch") + 1] == "1,1"  # both of them, never before the first epoch


def flags_of(command):
    """Flags of a training command with their words."""
    starts = [i for i, word in enumerate(command) if word.startswith("--")]
    return {command[a]: " ".join(command[a + 1 : b]) for a, b in zip(starts, [*starts[1:], len(command)])}


@pytest.mark.parametrize(
    ("host", "command", "said"),
    [
        ("inception", "train-cifar", {"--model": "inception", "--num-epochs": "400", "--batch-size": "128"}),
        ("resnet", "train-cifar", {"--model": "resnet", "--num-epochs": "400", "--batch-size": "128"}),
        ("fpn", "train-segmentation", {"--num-epochs": "300", "--batch-size": "32", "--lr": "0.01"}),
    ],
)
def test_a_row_is_trained_as_table_2_says(host, command, said):
    """The paper's Table 2; Kaiming's initial values are MXNet's MSRAPrelu. Section 5.1: the 20 superclasses."""
    row = rows_of("table4", host, [3], [5])[-1]
    trained = training_flags(row, ABLATION_HOSTS[host], None, [])
    flags = flags_of(trained)
    assert trained[0] == command
    assert said.items() <= flags.items()
    own = {"--fusion": "iAFF", "--r": "4", "--blocks": "3", "--seed": "5", "--resume": "auto", "--keep-one-best": ""}
    assert own.items() <= flags.items()
    if command == "train-cifar":
        assert {
            "--lr": "0.2",
            "--init": "msraprelu",
            "--superclass": "",
            "--dataset": "cifar100",
        }.items() <= flags.items()
        assert (flags["--channel-times"], flags["--warmup-epochs"]) == ("1", "0")
        assert "--mixup" not in flags
    folders = [flags[name] for name in ("--save-dir", "--logging-dir", "--save-plot-dir")]
    assert folders == ["."] * 3


def test_mode_is_no_short_name_of_a_flag_that_the_ablation_says():
    row = rows_of("table4", "resnet", [1], [0])[0]
    assert training_flags(row, ABLATION_HOSTS["resnet"], None, ["--mode", "symbolic"])[-2:] == ["--mode", "symbolic"]


def result(fusion="AFF", blocks=1, seed=0, score=0.75, paper=0.763):
    return RowResult(fusion, 2, blocks, seed, 95_460, score, paper, 3, 4, "official", "train.log", ["train-cifar"])


def test_mean_and_spread_over_seeds():
    one, other = summaries([result(seed=0, score=0.75), result("iAFF"), result(seed=1, score=0.77)])
    assert (one.fusion, one.seeds, one.mean) == ("AFF", 2, pytest.approx(0.76))
    assert one.spread == pytest.approx(0.02 / 2**0.5)  # with n - 1
    assert (other.fusion, other.seeds, other.spread) == ("iAFF", 1, None)
    lines = summary_text([one, other], {"AFF": "Global + Local", "iAFF": "iAFF"}, "accuracy").splitlines()
    assert lines[1].split()[-8:] == ["1", "2", "95,460", "0.7600", "0.0141", "2", "0.763", "-0.0030"]
    assert lines[2].split()[-4:] == ["-", "1", "0.763", "-0.0130"]


def test_the_best_epoch_of_the_last_run_counts_and_not_its_last(tmp_path):
    """Section 5 of the paper and the original's file names are of best scores."""
    header = (
        "INFO:root:gluon_aff 0.1.0, MXNet 1.9.1, devices cpu(0), 128 images per step, {} data, 20 label values under a "
        "20-way head"
    )
    epoch = "INFO:root:[Epoch {}] train=0.100000 val={} loss=1.000000 lr: 0.200000 time: 1.000000"
    runs = [
        ("other", ["0.900000"]),
        ("official", ["0.500000", "0.763000", "nan", "0.763000", "0.700000"]),
        ("other", []),
    ]
    lines = []
    for data, scores in runs:
        lines += ["INFO:root:Namespace(seed=1)", header.format(data), *map(epoch.format, range(9), scores)]
    log = tmp_path / "train.log"
    log.write_text("\n".join(lines))
    (row,) = [each for each in rows_of("table4", "resnet", [1], [5]) if each.fusion == "AFF"]
    found = result_of(row, 95_460, str(log), "val_acc", ["train-cifar"])
    assert (found.score, found.best_epoch, found.epochs, found.data) == (0.763, 1, 5, "official")
    assert (found.fusion, found.r, found.blocks, found.seed, found.paper) == ("AFF", 2, 1, 5, 0.763)
    assert found.libraries == "MXNet 1.9.1"
    assert (found.parameters, found.log, found.command) == (95_460, "train.log", ["train-cifar"])
    with pytest.raises(GluonAFFError, match=r"has no epoch with a score: remove its folder"):
        result_of(row, 95_460, str(log), "val_iou", [])


def test_what_another_command_left_is_not_taken(tmp_path):
    assert finished_result(str(tmp_path), ["train-cifar"]) is None
    ablation.write_result(result(), str(tmp_path))
    assert finished_result(str(tmp_path), ["train-cifar"]) == result()
    with pytest.raises(InputError, match=r"was trained by another command \(train-cifar\): choose another --out"):
        finished_result(str(tmp_path), ["train-cifar", "--r", "4"])
    edited = (tmp_path / "result.json").read_text()
    (tmp_path / "result.json").write_text(edited, encoding="utf-8-sig")
    assert finished_result(str(tmp_path), ["train-cifar"]) == result()
    (tmp_path / "result.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"result\.json is not the result of a row"):
        finished_result(str(tmp_path), ["train-cifar"])
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(InputError, match=r"result\.json is not the result of a row"):
        finished_result(str(tmp_path), ["train-cifar"])


@pytest.mark.parametrize("score", ["Infinity", "NaN", "-0.1", "1.01"])
@pytest.mark.parametrize("name", ["score", "paper"])
def test_a_result_whose_score_is_no_fraction_is_refused(name, score, tmp_path):
    ablation.write_result(result(), str(tmp_path))
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: json.loads(score)}))
    with pytest.raises(InputError, match=r"not the result of a row \(a score is not between 0 and 1\): remove it"):
        finished_result(str(tmp_path), ["train-cifar"])


@pytest.mark.parametrize(("name", "value"), [("r", "2"), ("paper", "0.7"), ("command", [1])])
def test_a_result_with_a_value_of_another_type_is_refused(name, value, tmp_path):
    ablation.write_result(result(), str(tmp_path))
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(InputError, match=rf"not the result of a row \({name} has the wrong type\): remove it"):
        finished_result(str(tmp_path), ["train-cifar"])


@pytest.mark.parametrize("score", [0, 1])
def test_a_result_that_is_all_or_nothing_is_taken(score, tmp_path):
    ablation.write_result(result(score=score, paper=None), str(tmp_path))
    assert finished_result(str(tmp_path), ["train-cifar"]) == result(score=score, paper=None)


def test_scores_are_drawn_over_parameters_with_their_spread_and_the_papers():
    rows = [result(seed=0, score=0.75), result(seed=1, score=0.77), result("iAFF", score=0.8, paper=None)]
    rows.append(replace(result(blocks=2, score=0.81, paper=0.79), parameters=175_460))
    figure = ablation.draw_summaries(summaries(rows), {"AFF": "Global + Local", "iAFF": "iAFF"}, "accuracy")
    (axes,) = figure.axes
    width, height = figure.get_size_inches()
    assert width > height
    assert axes.get_ylabel() == "accuracy"
    assert figure.get_layout_engine()  # makes room for the words beside the axes
    aff, papers, iaff, none = axes.lines
    np.testing.assert_allclose(aff.get_xydata(), [(95.46, 0.76), (175.46, 0.81)])
    np.testing.assert_allclose(papers.get_xydata(), [(95.46, 0.763), (175.46, 0.79)])
    np.testing.assert_allclose(iaff.get_xydata(), [(95.46, 0.8)])
    assert np.isnan(none.get_ydata()).all()
    (spread, no_spread), _ = (container.lines[2][0].get_segments() for container in axes.containers)
    assert np.ptp(spread[:, 1]) == pytest.approx(2 * 0.02 / 2**0.5)
    assert np.ptp(no_spread[:, 1]) == 0
    assert (aff.get_marker(), papers.get_marker(), papers.get_linestyle()) == ("o", "x", "--")
    assert aff.get_color() == papers.get_color() != iaff.get_color()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Global + Local", "iAFF"]


def test_results_are_written_a_line_each(tmp_path):
    ablation.write_csv([result(), result("iAFF", paper=None)], str(tmp_path / "rows.csv"))
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["fusion"], first["parameters"], first["paper"]) == ("AFF", "95460", "0.763")
    assert (second["fusion"], second["command"], second["paper"]) == ("iAFF", "train-cifar", "")


PLAN = ["ablation", "table4", "--host", "inception", "--blocks", "2"]


@pytest.mark.engine
def test_dry_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                "ablation",
                "table4",
                "--host",
                "inception",
                "--blocks",
                "2",
                "--fusions",
                "AFF",
                "Concatenation",
                "--dry-run",
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["Concatenation", "2", "2", "0", "221,108", "0.749"]  # counted layer by layer
    assert lines[2].split() == ["AFF", "2", "2", "0", "224,052", "0.784"]
    assert lines[3].startswith("gluon-aff train-cifar --fusion Concatenation --r 2 --blocks 2 --seed 0")
    assert os.listdir(tmp_path) == []


@pytest.mark.engine
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "ablation table4 --host resnet --fusions AFFF",
            "unknown fusion (--fusion, --askc-type) 'AFFF': did you mean AFF?",
        ),
        ("ablation table3 --host resnet --blocks 0", "argument --blocks: invalid positive value: '0'"),
        ("ablation table5 --host resnet", "invalid choice: 'table5'"),
        ("ablation table4 --host resnet --seeds -1", "argument --seeds: invalid"),
        ("ablation table4 --host resnet --flags='", "--flags ': No closing quotation"),
        ("ablation table4 --host resnet --out /proc/none", "--out /proc/none: /proc cannot be written to"),
        *(
            (f"ablation table4 --host resnet --flags={flag}", f"--flags {flag}: the ablation sets this itself")
            for flag in (
                "--fusion=AFF",
                "--seed=7",
                "--logging-dir=x",
                "--summary",
                "--summ",
                "--r=2",
                "--askc-type=SK",
            )
        ),
    ],
)
def test_what_cannot_be(arguments, message, capsys):
    try:
        code = main(arguments.split())
    except SystemExit as exit:
        code = exit.code
    assert code == 2
    assert message in capsys.readouterr().err


@pytest.mark.engine
def test_wrong_data_is_wrong_input_and_leaves_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    arguments = ["ablation", "table4", "--host", "resnet", "--blocks", "1", "--fusions", "Add", "--data-dir", "~/none"]
    assert main(arguments) == 2
    printed = capfd.readouterr().err
    assert "the training ended with exit code 2" in printed
    assert os.path.expanduser("~/none") in printed
    assert not list(tmp_path.rglob("Add-b1-seed0"))


SMALL = ["--blocks", "1", "--num-epochs", "2", "--fusions", "Add", "AFF"]
FEW = "--flags=--batch-size 20 --gpus ''"


@pytest.fixture(scope="module")
def trained(few_shapes, tmp_path_factory):
    """Folder in which two rows were trained, interrupted behind the first; outputs of both starts."""
    folder = tmp_path_factory.mktemp("rows")
    command = [sys.executable, "-m", "gluon_aff", "ablation", "table4", "--host", "resnet", "--data-dir", few_shapes]
    command += [*SMALL, FEW, "--out", "out"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if "device: " in line and any("AFF-b1-seed0: gluon-aff" in each for each in said):
                process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130, "".join(said)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(folder)
        assert main(command[3:]) == 0
    return folder / "out", "".join(said), out.getvalue(), err.getvalue()


@pytest.mark.engine
def test_rows_are_trained_and_an_interrupted_one_goes_on(trained):
    out, said, printed, said_again = trained
    assert "AFF-b1-seed0. To continue: give the same command again" in said
    assert "Add-b1-seed0: done" in said_again
    rows = printed.splitlines()
    assert rows[1].split()[:4] == ["Add", "1", "2", "83,700"]
    assert rows[2].split()[:4] == ["AFF", "1", "2", "95,460"]
    assert "The data are not the paper's" in printed
    assert (out / "rows.png").read_bytes().startswith(b"\x89PNG")
    with (out / "rows.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["fusion"], row["epochs"], row["data"]) for row in table] == [
        ("Add", "2", "other"),
        ("AFF", "2", "other"),
    ]
    saved = json.loads((out / "AFF-b1-seed0" / "result.json").read_text())
    assert float(table[1]["score"]) == saved["score"]
    best = [name for name in os.listdir(out / "AFF-b1-seed0") if name.endswith("-best.params")]
    assert best == [f"{saved['score']:.4f}-cifar100-ASKCFuse-resnet-8-c-1-s-1-r-2-strided-best.params"]
