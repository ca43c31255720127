"""Comparison with the published runs: which one fits, what differs, by how much."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from shared_by_tests.written_logs import SEGMENTATION, log_lines, settings_line

from gluon_aff.cli import main
from gluon_aff.errors import InputError
from gluon_aff.published import curve, paper_tables, published_runs
from gluon_aff.results.compare import compare, fitting_run, nearest_runs
from gluon_aff.results.logs import read_log

ROOT = Path(__file__).parents[2]
RUNS = published_runs()
RESULTS = [name for name, run in RUNS.items() if run.status != "aborted"]
FINE = RUNS["aff_resnet32_fine"]


def logged(tmp_path, run, epochs=None):
    path = tmp_path / "train.log"
    path.write_text("\n".join(log_lines(run, epochs)) + "\n")
    return str(path)


def read(tmp_path, run, epochs=None):
    return read_log(logged(tmp_path, run, epochs))[-1]


@pytest.mark.parametrize("name", RESULTS)
def test_every_published_run_fits_itself_with_differences_of_zero(name, tmp_path):
    run = read(tmp_path, RUNS[name])
    assert fitting_run(run).name == name
    comparison = compare(run, RUNS[name])
    assert comparison.best.difference == comparison.last.difference == comparison.final.difference == 0
    assert {column.largest for column in comparison.columns} == {0.0}
    assert comparison.epochs_per_hour[0] == comparison.epochs_per_hour[1]
    assert comparison.differing == []
    assert comparison.unfinished == (name == "aff_resnet32_superclass_run1")  # stopped at epoch 525 of 640


def test_aborted_runs_are_never_a_match(tmp_path):
    for name, run in RUNS.items():
        if run.status == "aborted":
            ranked = [published.name for published, _ in nearest_runs(read(tmp_path, run))]
            assert name not in ranked
            assert sorted(ranked) == sorted(RESULTS)


def test_differences_against_numpy(tmp_path):
    """Figures of ResNet-32's fine run beside the ResNeXt-47's, computed here from the CSV files."""
    other = RUNS["aff_resnext47_32x4d_fine"]
    comparison = compare(read(tmp_path, FINE, 300), other)
    this, that = curve(FINE), curve(other)
    gap = 100 * (this["val_acc"][:300] - that["val_acc"][:300])
    accuracy, loss = (next(c for c in comparison.columns if c.column == name) for name in ("top1_accuracy", "loss"))
    assert accuracy.epoch == np.abs(gap).argmax()
    assert accuracy.largest == pytest.approx(gap[accuracy.epoch])
    assert accuracy.mean == pytest.approx(np.abs(gap).mean())
    assert loss.mean == pytest.approx(np.abs(this["loss"][:300] - that["loss"][:300]).mean())
    assert comparison.best.this == pytest.approx(100 * this["val_acc"][:300].max())
    assert comparison.best.published == pytest.approx(100 * that["val_acc"][:300].max())
    assert comparison.unfinished
    assert [d.setting for d in comparison.differing] == ["host", "depth"]


@pytest.mark.parametrize(
    ("setting", "value", "row"),
    [
        ("lr", 0.1, ("learning rate", 0.1, 0.2)),
        ("gpus", "0", ("images per step", 128, 256)),
        ("warmup_epochs", 0, ("schedule", "times 0.1 at epochs 300, 450", "times 0.1 at epochs 290, 440")),
        ("num_epochs", 1, ("epochs", 1, 640)),
        ("num_epochs", 10**6, ("epochs", 10**6, 640)),
        ("blocks", 3, ("depth", 20, 32)),
        ("auto_aug", False, ("AutoAugment", False, True)),
        ("resume_from", "my.params", ("start", "weights of another run", "scratch")),
        ("model", "inception", ("host", "inception", "ResNet")),
        ("askc_type", "MS-SA", ("fusion", "MS-SA", "AFF")),
        ("r", 8, ("network in detail", "r 8", "the original's")),
        ("scale", 1.0, ("network in detail", "scale 1.0", "the original's")),
        ("shortcut", "strided", ("network in detail", "shortcut strided", "the original's")),
        ("optimizer", "sgd", ("optimizer", "sgd", "nag")),
    ],
)
def test_one_changed_setting_is_named(setting, value, row, tmp_path, capsys):
    path = tmp_path / "train.log"
    path.write_text("\n".join([settings_line(FINE, **{setting: value}), *log_lines(FINE, 3)[1:]]))
    run = read_log(str(path))[0]
    assert fitting_run(run) is None
    differing = {published.name: found for published, found in nearest_runs(run)}[FINE.name]
    assert [(d.setting, d.this, d.published) for d in differing][:1] == [row]
    assert main(["compare", str(path)]) == 2
    out = capsys.readouterr().out
    assert "no run has these settings" in out
    assert "--with " in out
    assert main(["compare", str(path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["published"] is None


def changed(tmp_path, run, **settings):
    """Settings in which three epochs of `run`, logged with other settings, differ from it."""
    path = tmp_path / "train.log"
    path.write_text("\n".join([settings_line(run, **settings), *log_lines(run, 3)[1:]]))
    found = {published.name: found for published, found in nearest_runs(read_log(str(path))[0])}[run.name]
    return [(each.setting, each.this, each.published) for each in found]


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"mixup_alpha": 0.2}, [("mixup", "alpha 0.2", "alpha 1")]),
        ({"mixup_off_epoch": 20}, [("mixup off for the last", "20 epochs", "40 epochs")]),
        (
            {"mixup": False},
            [("mixup", "none", "alpha 1"), ("mixup off for the last", "all epochs", "40 epochs")],
        ),
        ({"label_smoothing": False}, [("label smoothing", False, True)]),
        ({"wd": 0.0005}, [("weight decay", 0.0005, 0.0001)]),
        ({"momentum": 0.8}, [("momentum", 0.8, 0.9)]),
        ({"channel_times": 2}, [("width", 2, 4)]),
        ({"start_layer": 2}, [("first fused stage", 2, 1)]),
        ({"deep_stem": True}, [("deep stem", True, False)]),
        ({"init": "msraprelu"}, [("initial weights", "msraprelu", "xavier")]),
        ({"lr_decay": 0.5}, [("schedule", "times 0.5 at epochs 290, 440", "times 0.1 at epochs 290, 440")]),
        ({"batch_size": 64}, [("images per step", 128, 256)]),
        ({"context": "features"}, [("network in detail", "context features", "the original's")]),
        ({"inner": "paper"}, [("network in detail", "inner paper", "the original's")]),
        ({"r": 4}, []),  # the ratio that the original's CIFAR ResNet has
        ({"r": 16}, [("network in detail", "r 16", "the original's")]),
        (
            {"cosine": True, "no_wd": True},
            [
                ("schedule", "cosine after 10 warm-up epochs", "times 0.1 at epochs 290, 440"),
                ("no decay of beta, gamma, bias", True, False),
            ],
        ),
    ],
    ids=str,
)
def test_a_setting_of_a_cifar_run_is_compared(settings, rows, tmp_path):
    assert changed(tmp_path, FINE, **settings) == rows


@pytest.mark.parametrize(
    ("name", "settings", "rows"),
    [
        ("aff_resnet50", {"dtype": "float32"}, [("number format", "float32", "float16")]),
        ("aff_resnet50", {"input_size": 160}, [("input size", 160, 224)]),
        ("aff_resnet50", {"last_gamma": False}, [("last gamma at zero", False, True)]),
        ("iaff_resnext50_32x4d", {"last_gamma": False}, []),  # the flag reached the ResNet only
        ("aff_resnet50", {"no_wd": False}, [("no decay of beta, gamma, bias", False, True)]),
        ("aff_resnet50", {"num_gpus": 1}, [("images per step", 128, 512)]),
        ("aff_resnet50", {"num_gpus": 0}, [("images per step", 128, 512)]),  # on a CPU
        ("aff_resnet50", {"use_rec": False}, [("AutoAugment", True, False), ("record files", False, True)]),
        ("aff_resnet50", {"teacher": "resnet152"}, [("teacher", "resnet152", "none")]),
        ("aff_resnet50", {"r": 4}, []),  # which had no effect in the original
        ("aff_resnet50", {"r": 4, "exact_layers": False}, [("channel reduction ratio", 4, 16)]),
        ("aff_resnet50", {"exact_layers": True}, [("all 152 layers", True, False)]),
        ("aff_resnet50", {"num_layer": 101}, [("depth", 101, 50)]),
        ("aff_resnet50", {"start_layer": 1}, [("first fused stage", 1, 3)]),
        ("iaff_resnext50_32x4d", {"use_se": True}, []),
        ("iaff_resnext50_32x4d", {"use_se": True, "exact_layers": False}, [("squeeze-and-excitation", True, False)]),
        ("aff_resnet50", {"use_se": True, "exact_layers": False}, []),
        ("aff_resnet50", {"mixup_off_epoch": 0}, [("mixup off for the last", "0 epochs", "5 epochs")]),
        (
            "aff_resnet50",
            {"warmup_epochs": 0},
            [("schedule", "cosine after 0 warm-up epochs", "cosine after 5 warm-up epochs")],
        ),
        ("aff_resnet50", {"resume_params": "my.params"}, [("start", "weights of another run", "scratch")]),
        (
            "aff_resnet50",
            {"lr_mode": "step"},
            [("schedule", "times 0.1 at epochs 40, 60", "cosine after 5 warm-up epochs")],
        ),
    ],
    ids=str,
)
def test_a_setting_of_an_imagenet_run_is_compared(name, settings, rows, tmp_path):
    assert changed(tmp_path, RUNS[name], **settings) == rows


SINCE_THE_FIRST_RELEASE = [
    ("mixup off for the last", "20 epochs", "40 epochs"),
    ("label smoothing", False, True),
    ("AutoAugment", False, True),
]


@pytest.mark.parametrize(
    ("first", "today", "rows"),
    [
        (
            "aff_resnet32_superclass_first_release",
            "aff_resnet32_fine",
            [
                ("release", "first", "head"),
                ("epochs", 400, 640),
                ("images per step", 128, 256),
                ("schedule", "times 0.1 at epochs 300, 350", "times 0.1 at epochs 290, 440"),
                *SINCE_THE_FIRST_RELEASE,
            ],
        ),
        (
            "aff_resnext29_32x4d_first_release",
            "aff_resnext47_32x4d_fine",
            [
                ("data set", "cifar10", "cifar100"),
                ("release", "first", "head"),
                ("depth", 29, 47),
                ("labels", "cifar10", "fine"),
                ("images per step", 512, 256),
                ("schedule", "times 0.1 at epochs 300, 450", "times 0.1 at epochs 290, 440"),
                *SINCE_THE_FIRST_RELEASE,
            ],
        ),
        (
            "ablation_resnet50_global_global",
            "aff_resnet50",
            [
                ("release", "first", "head"),
                ("fusion", "Global + Global", "AFF"),
                ("epochs", 160, 240),
                ("images per step", 256, 512),
                ("mixup", "none", "alpha 0.2"),
                ("mixup off for the last", "all epochs", "5 epochs"),
            ],
        ),
    ],
)
def test_what_a_log_of_the_first_release_does_not_say_is_what_its_scripts_did(first, today, rows, tmp_path):
    found = {published.name: each for published, each in nearest_runs(read(tmp_path, RUNS[first], 3))}[today]
    assert [(each.setting, each.this, each.published) for each in found] == rows


def test_mixup_of_the_first_release_ended_20_epochs_before_the_end(tmp_path):
    """Its script said so, and its settings do not."""
    first = RUNS["aff_resnet32_superclass_first_release"]
    assert "mixup_off_epoch" not in first.settings
    found = changed(tmp_path, first, mixup_off_epoch=40)
    assert found == [("mixup off for the last", "40 epochs", "20 epochs")]
    assert changed(tmp_path, first, mixup_off_epoch=20) == []


def test_accuracies_have_two_digits_and_errors_of_the_softmax_six(tmp_path, capsys):
    """An accuracy is printed in percent, whose hundredths are one image of 10,000."""
    assert main(["compare", logged(tmp_path, FINE, 400)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^top-1 accuracy \(%\) +400 +0\.00 +\+0\.00 +0$", printed, re.MULTILINE)
    assert re.search(r"^train RMSE +400 +0\.000000 +\+0\.000000 +0$", printed, re.MULTILINE)


def assert_flush_right(text, *titles):
    """That the columns with these titles, of the table in `text` that has them all, end where the titles do."""
    tables = (part.splitlines() for part in text.split("\n\n"))
    header, *rows = next(table for table in tables if all(f"  {title}" in table[0] for title in titles))
    for title in titles:
        last = header.index(f"  {title}") + len(title) + 1
        assert all(row[last] != " " and row[last + 1 : last + 2] in ("", " ") for row in rows), title


def test_figures_are_flush_right(tmp_path, capsys):
    assert main(["compare", logged(tmp_path, FINE, 400)]) == 0
    printed = capsys.readouterr().out
    assert_flush_right(printed, "this log", "difference")
    assert_flush_right(printed, "epochs", "mean |difference|", "largest", "at epoch")


def table(text):
    """Cells of a printed table, row by row."""
    return [re.split(" {2,}", line.strip()) for line in text.splitlines()]


def with_better_accuracy(line, by):
    return re.sub(r"val=(\S+)", lambda found: f"val={float(found[1]) + by:f}", line)


def test_a_comparison_is_printed(tmp_path, capsys):
    """Of five epochs, each a point better than the published one, but the third by two, and twice as long."""
    better = [0, 0.01, 0.01, 0.02, 0.01, 0.01]
    lines = [
        re.sub(r"time: (\S+)", lambda found: f"time: {2 * float(found[1]):f}", line)
        for line in map(with_better_accuracy, log_lines(FINE, 5), better)
    ]
    (tmp_path / "train.log").write_text("\n".join(lines))
    assert main(["compare", str(tmp_path / "train.log")]) == 1
    head, figures, columns, said = capsys.readouterr().out.rstrip().split("\n\n")
    published = curve(FINE)
    accuracy = 100 * published["val_acc"][:5]
    this = accuracy + 100 * np.array(better[1:])
    best, other = this.argmax(), accuracy.argmax()
    seconds = 2 * np.median(published["seconds"][:5]), np.median(published["seconds"])
    assert head.splitlines() == [
        f"log        {tmp_path}/train.log, run 1 of 1 (lines 2-6): 5 of 640 epochs",
        "published  aff_resnet32_fine: aff_resnet32_cifar100, fine labels, from scratch",
        "assumed    labels fine: the log does not say",
    ]
    difference = f"{this[best] - accuracy[other]:+.2f} points"
    assert table(figures) == [
        ["this log", "published", "difference"],
        ["best accuracy", f"{this[best]:.2f} % (epoch {best})", f"{accuracy[other]:.2f} % (epoch {other})", difference],
        ["accuracy at epoch 4", f"{this[4]:.2f} %", f"{accuracy[4]:.2f} %", "+1.00 points"],
        [
            "epochs per hour",
            *(f"{3600 / each:.1f}" for each in seconds),
            f"x {seconds[1] / seconds[0]:.2f}",
        ],
    ]
    assert table(columns)[:3] == [
        ["at equal epochs", "epochs", "mean |difference|", "largest", "at epoch"],
        ["top-1 accuracy (%)", "5", "1.20", "+2.00", "2"],
        ["train RMSE", "5", "0.000000", "+0.000000", "0"],
    ]
    assert said == f"outside 0.5 points: best accuracy differs by {difference} so far (the run is unfinished)"


def test_a_finished_run_is_beside_the_last_epoch_of_a_longer_one(tmp_path, capsys):
    lines = [settings_line(FINE, num_epochs=3), *log_lines(FINE, 3)[1:]]
    (tmp_path / "train.log").write_text("\n".join(lines))
    assert main(["compare", str(tmp_path / "train.log"), "--with", FINE.name]) == 0
    head, figures, _, said = capsys.readouterr().out.rstrip().split("\n\n")
    assert "settings   differ: epochs 3 (published 640)" in head.splitlines()
    accuracy = 100 * curve(FINE)["val_acc"]
    last = [f"{accuracy[2]:.2f} %", f"{accuracy[-1]:.2f} %", f"{accuracy[2] - accuracy[-1]:+.2f} points"]
    assert ["accuracy of the last epoch", *last] in table(figures)
    assert said.endswith(" points")


def test_a_run_of_other_settings_is_said_to_fit_none(tmp_path, capsys):
    (tmp_path / "train.log").write_text("\n".join([settings_line(FINE, lr=0.3), *log_lines(FINE, 3)[1:]]))
    assert main(["compare", str(tmp_path / "train.log")]) == 2
    head, differing, hint = capsys.readouterr().out.rstrip().split("\n\n")
    assert head.splitlines() == [
        f"log        {tmp_path}/train.log, run 1 of 1 (lines 2-4)",
        "published  no run has these settings, so there is nothing to compare with",
        "nearest    aff_resnet32_fine, which differs in",
    ]
    assert table(differing) == [["setting", "this log", "published"], ["learning rate", "0.3", "0.2"]]
    assert hint == "To compare with it anyway: --with aff_resnet32_fine"


def test_paces_are_of_the_median_epoch(tmp_path):
    """One epoch that waited for the file system changes nothing."""
    lines = log_lines(FINE, 5)
    for number, seconds in enumerate((20.0, 10.0, 12.0, 9.0, 1000.0), 1):
        lines[number] = re.sub(r"time: .*", f"time: {seconds:f}", lines[number])
    (tmp_path / "train.log").write_text("\n".join(lines))
    this, published = compare(read_log(str(tmp_path / "train.log"))[0], FINE).epochs_per_hour
    assert this == pytest.approx(3600 / 12)
    assert published == pytest.approx(3600 / np.median(curve(FINE)["seconds"]))


def test_a_network_of_the_list_is_called_by_its_name(tmp_path):
    """Not what the flags say that it does not take, such as --blocks; a published one is what was published."""
    path = tmp_path / "train.log"
    settings = {"seed": 1, "blocks": 1, "askc_type": None, "stages": "1", "r": None, "attention": None}

    def differing(model, published):
        run = RUNS[published]
        path.write_text("\n".join([settings_line(run, **{**settings, "model": model}), *log_lines(run, 3)[1:]]))
        found = {each.name: differences for each, differences in nearest_runs(read_log(str(path))[0])}[published]
        return [(each.setting, each.this) for each in found]

    assert differing("aff_resnet32_cifar100", "aff_resnet32_fine") == []
    assert differing("iaff_resnet50", "iaff_resnet50") == []
    integrating = [("host", "afi_resnet32_cifar100"), ("network in detail", "stages 1")]
    assert differing("afi_resnet32_cifar100", "aff_resnet32_fine") == integrating
    assert differing("resnext29_32x4d_cifar100", "aff_resnext47_32x4d_fine")[0] == ("host", "resnext29_32x4d_cifar100")
    assert differing("resnet50", "aff_resnet50")[0] == ("host", "resnet50")


def test_what_has_no_effect_is_no_difference(tmp_path):
    """--no-wd without --cosine; AutoAugment on record files; the number of workers."""
    path = tmp_path / "train.log"
    path.write_text("\n".join([settings_line(FINE, no_wd=False, num_workers=2), *log_lines(FINE, 3)[1:]]))
    assert fitting_run(read_log(str(path))[0]) == FINE
    imagenet = RUNS["aff_resnet50"]
    path.write_text("\n".join([settings_line(imagenet, auto_aug=False), *log_lines(imagenet, 1)[1:]]))
    assert fitting_run(read_log(str(path))[0]) == imagenet


def test_labels_and_devices_are_read_off_our_logs(tmp_path):
    path = tmp_path / "train.log"
    header = (
        "INFO:root:gluon_aff 0.1.0, MXNet 1.9.1, NumPy 1.23.5, Python 3.11.7, devices gpu(0),gpu(1), 256 images per "
        "step, official data, 100 label values under a 100-way head"
    )
    lines = log_lines(FINE, 3)
    path.write_text("\n".join([settings_line(FINE, gpus="0,1,2,3", fine_label=True), header, *lines[1:]]))
    assert fitting_run(read_log(str(path))[0]) == FINE
    path.write_text("\n".join([settings_line(FINE, gpus="0,1,2,3", fine_label=False), header, *lines[1:]]))
    differing = dict((published.name, found) for published, found in nearest_runs(read_log(str(path))[0]))
    assert [(d.setting, d.this, d.published) for d in differing[FINE.name]] == [("labels", "superclass", "fine")]


def test_the_outputs_of_an_imagenet_run_are_read_off_our_logs(tmp_path):
    path, run = tmp_path / "train.log", RUNS["aff_resnet50"]
    first, *rest = log_lines(run, 3)
    for outputs, rows in ((1000, []), (10, [("outputs", 10, 1000)])):
        header = (
            "gluon_aff 0.1.0, MXNet 1.9.1, NumPy 1.23.5, Python 3.11.7, devices gpu(0),gpu(1),gpu(2),gpu(3), 512 "
            f"images per step, official data, 1000 label values under a {outputs}-way head"
        )
        path.write_text("\n".join([first, header, *rest]))
        differing = compare(read_log(str(path))[0], run).differing
        assert [(each.setting, each.this, each.published) for each in differing] == rows


@pytest.mark.parametrize(
    "line", ["Namespace(a=1)", "Namespace(lr='x', num_epochs='many')", "Namespace(num_gpus=None, warmup_epochs=[1])"]
)
def test_settings_of_something_else(line, tmp_path):
    path = tmp_path / "train.log"
    path.write_text("\n".join([line, *log_lines(FINE, 3)[1:]]))
    run = read_log(str(path))[0]
    with pytest.raises(InputError, match="--with"):
        fitting_run(run)
    assert compare(run, FINE).best.difference == 0


def test_accuracies_that_are_not_finite_are_passed_over(tmp_path):
    run = read(tmp_path, FINE, 4)
    run.epochs["val_acc"][1:3] = np.nan
    comparison = compare(run, FINE)
    assert comparison.last.this_epoch == 3
    json.dumps(comparison.as_dict(), allow_nan=False)
    run.epochs["val_acc"][:] = np.nan
    with pytest.raises(InputError, match="no accuracy"):
        compare(run, FINE)


@pytest.mark.parametrize(
    ("best", "code", "said"),
    [
        (0.8557, 1, "outside 0.5 points: best accuracy differs by +2.00 points"),
        (0.8407, 0, "within 0.5 points: best accuracy differs by +0.50 points"),
        (0.8307, 0, "within 0.5 points: best accuracy differs by -0.50 points"),
        (0.8306, 1, "outside 0.5 points: best accuracy differs by -0.51 points"),
    ],
)
def test_a_run_that_is_better_or_worse_by_more_than_half_a_point_is_outside(best, code, said, tmp_path, capsys):
    """The published best is 83.57 %, by the name of its weights; far better is as suspicious as far worse."""
    lines = [
        re.sub(r"val=(\S+)", lambda found: f"val={min(float(found[1]), best):f}", each) for each in log_lines(FINE)
    ]
    lines[1 + 635] = re.sub(r"val=\S+", f"val={best:f}", lines[1 + 635])
    (tmp_path / "train.log").write_text("\n".join(lines))
    assert main(["compare", str(tmp_path / "train.log")]) == code
    assert said in capsys.readouterr().out


def test_exit_codes_and_output(tmp_path, capsys):
    path = logged(tmp_path, FINE, 400)
    assert main(["compare", path]) == 0
    assert (
        "within 0.5 points: best accuracy differs by +0.00 points so far (the run is unfinished)"
        in capsys.readouterr().out
    )
    assert main(["compare", path, "--with", "aff_resnet32_superclass_run2"]) == 1
    out = capsys.readouterr().out
    assert "settings   differ: start scratch (published weights of another run)" in out
    assert "outside 0.5 points" in out
    assert main(["compare", path, "--with", "aff_resnet32_superclass_run2", "--tolerance", "50", "--run", "1"]) == 0
    capsys.readouterr()
    for arguments, message in (
        ([path, "--with", "aff_resnet32_fin"], "did you mean aff_resnet32_fine?"),
        ([path, "--with", "aff_resnet32"], "did you mean aff_resnet32_fine?"),
        ([path, "--run", "2"], "--run 2: the last run in the log has number 1"),
        ([path, "--tolerance", "nan"], "--tolerance"),
        ([str(tmp_path / "gone.log")], "No such file"),
        ([path, "--plot", str(tmp_path / "train.log" / "x.png")], "cannot be written"),
        ([path, "--tolerance", "inf"], "--tolerance inf"),
    ):
        assert main(["compare", *arguments]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert len(err.splitlines()) == 1


def test_json_and_plot(tmp_path, capsys):
    path, picture = logged(tmp_path, FINE, 5), tmp_path / "both.png"
    assert main(["compare", path, "--json", "--plot", str(picture)]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["published"] == "aff_resnet32_fine"
    assert comparison["within"] is True
    assert comparison["best"]["difference"] == 0
    assert comparison["columns"][0]["epochs"] == 5
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_published_command(capsys):
    assert main(["published"]) == 0
    overview = capsys.readouterr().out
    assert all(name in overview for name in RUNS)
    parts = overview.split("\n\n")
    titles = [part.partition(" in ")[0].strip() for part in parts[::2]]
    assert titles == [
        "Training runs",
        "Weights",
        "Tables",
        "gluon-aff published NAME shows one run, model, weight file or table.",
    ]
    header, first = parts[1].splitlines()[:2]
    assert re.fullmatch(r"run +labels +epochs +best +last +GPUs +how", header)
    assert header.index("how") == first.index("from scratch")
    assert re.fullmatch(r"aff_resnet32_fine +fine +640 +83.57 % +83.\d\d % +2 +from scratch", first)
    header, first = parts[3].splitlines()[:2]
    assert re.fullmatch(r"model +labels +top-1 error +epoch +file", header)
    assert re.fullmatch(r"\S+ +(superclass|fine|imagenet|cifar10) +\d+\.\d\d % +\d+ +\S+\.params", first)
    assert header.index("file") == first.rindex(" ") + 1
    assert re.match(r"table +source\n", parts[5])
    assert re.search(r"^aff_table5_imagenet +\S.*Table 5", parts[5], re.MULTILINE)
    assert_flush_right(overview, "epochs", "best", "last", "GPUs")
    assert_flush_right(overview, "top-1 error", "epoch")
    assert main(["published", "aff_resnext47_32x4d_superclass_run3"]) == 0
    shown = capsys.readouterr().out
    third = "  3. aff_resnext47_32x4d_superclass_run3: best 91.84 %, lr 0.2 stepped, 640 epochs, 512 images per step"
    assert third in shown.splitlines()
    assert main(["published", "aff_table5_imagenet"]) == 0
    published_table = paper_tables()["aff_table5_imagenet"]
    table = capsys.readouterr().out
    assert "iAFF-ResNet-50" in table
    assert table.startswith("aff_table5_imagenet\nsource: ")
    assert_flush_right(table, *published_table.columns)
    assert main(["published", "aff_resnext38_32x4d_cifar100", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert main(["published", "aff_table9"]) == 2
    assert "did you mean aff_table" in capsys.readouterr().err


def test_a_published_run_is_described_by_its_files(capsys):
    """The index of the original's logs, and the curve that was read from one of them."""
    assert main(["published", FINE.name]) == 0
    lines = capsys.readouterr().out.splitlines()
    accuracy = curve(FINE)["val_acc"]
    weights = FINE.weights["path"].rpartition("/")[2]
    assert lines[-5:-2] == [
        f"{weights}: aff_resnet32_cifar100, fine labels",
        "  top-1 error     16.43 % at epoch 635 of aff_resnet32_fine",
        f"  git blob SHA-1  {FINE.weights['git_blob_sha1']}",
    ]
    assert re.fullmatch(rf"  place           open-aff@[0-9a-f]{{7}} \S+/{weights}", lines[-2])
    assert re.fullmatch(rf"  download        https://\S+/{weights}", lines[-1])
    assert lines[:5] == [
        "aff_resnet32_fine: aff_resnet32_cifar100, fine labels, complete",
        "  how       from scratch",
        f"  best      83.57 % at epoch {accuracy.argmax()}",
        f"  last      {100 * accuracy[-1]:.2f} % at epoch 639",
        "  hardware  2 GPUs, 256 images per step",
    ]
    assert lines[5].startswith("  notes     ")
    said = dict(re.fullmatch(r"  (\w+) +(\S.*)", line).groups() for line in lines[5:11] if re.match(r"  \w", line))
    assert said["weights"] == f"{FINE.weights['path']} (epoch 635)"
    assert f"            git blob SHA-1 {FINE.weights['git_blob_sha1']}" in lines
    assert re.fullmatch(r"open-aff@[0-9a-f]{7} \S+\.log, lines \d+ to \d+", said["source"])
    assert (ROOT / said["curve"]).is_file()
    assert "batch_size=128, " in said["settings"]
    assert "One run from scratch." in lines
    assert main(["published", "ablation_resnet50_global_local"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("resumed at epoch 65 from the weights and optimizer states") == 2
    assert main(["published", "aff_resnext47_32x4d_superclass_run1"]) == 0
    assert not re.search("notes|weights|None", capsys.readouterr().out.split("settings")[0])


def test_log_of_a_run_that_has_not_finished_an_epoch(tmp_path, capsys):
    path = logged(tmp_path, FINE, 0)
    assert main(["compare", path]) == 2
    assert "no run has finished an epoch yet" in capsys.readouterr().err


def test_published_runs_are_plain_records():
    json.dumps([dataclasses.asdict(run) for run in RUNS.values()])


def test_what_a_log_does_not_say_is_said_to_be_assumed(tmp_path, capsys):
    """The original's CIFAR-100 logs never name their labels."""
    assert main(["compare", logged(tmp_path, FINE, 3)]) == 0
    assert "assumed    labels fine: the log does not say" in capsys.readouterr().out
    assert main(["compare", logged(tmp_path, RUNS["aff_resnet50"], 3)]) == 0
    assert "assumed" not in capsys.readouterr().out


def test_labels_are_read_off_the_header_where_settings_lack_them(tmp_path):
    path, lines = tmp_path / "train.log", log_lines(FINE, 3)
    header = (
        "gluon_aff 0.1.0, MXNet 1.9.1, devices gpu(0), 256 images per step, official data, 20 label values under a "
        "100-way head"
    )
    path.write_text("\n".join([lines[0], header, *lines[1:]]))
    assert fitting_run(read_log(str(path))[0]) is None


def test_the_nearest_run_is_one_of_the_same_host(tmp_path):
    path = tmp_path / "train.log"
    settings = {"blocks": 1, "channel_times": 1, "num_epochs": 32, "fine_label": False, "gpus": "0", "lr": 0.1}
    path.write_text("\n".join([settings_line(FINE, **settings), *log_lines(FINE, 3)[1:]]))
    assert nearest_runs(read_log(str(path))[0])[0][0].name.startswith("aff_resnet32_superclass")


def test_a_resnet_is_nearer_to_a_resnet_than_to_a_resnext_with_the_same_schedule(tmp_path):
    """The ResNeXt of the first release has no width to differ in, and more of the schedule in common with this log."""
    path = tmp_path / "train.log"
    resnext = RUNS["aff_resnext29_32x4d_first_release"].settings
    schedule = {name: resnext[name] for name in ("lr", "num_epochs", "lr_decay_epoch")}
    run = settings_line(FINE, dataset="cifar10", blocks=1, channel_times=1, **schedule)
    path.write_text("\n".join([run, *log_lines(FINE, 3)[1:]]))
    assert nearest_runs(read_log(str(path))[0])[0][0].name == "aff_resnet32_first_release"


@pytest.mark.parametrize(
    "changed",
    [
        {"num_epochs": "640"},
        {"lr_decay_period": 1, "num_epochs": 10**9},
        {"num_epochs": -1},
        {"wd": b"x"},
        {"wd": {1, 2}},
        {"resume_from": ["a"]},
    ],
)
def test_odd_settings_are_no_traceback_and_no_endless_work(changed, tmp_path, capsys):
    path = tmp_path / "train.log"
    path.write_text("\n".join([settings_line(FINE, **changed), *log_lines(FINE, 3)[1:]]))
    assert main(["compare", str(path), "--json"]) in (0, 2)
    assert main(["compare", str(path), "--with", FINE.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.split("\n}\n")[-2] + "}")["within"] is True


def test_a_text_that_quotes_a_log_is_told_from_one(tmp_path, capsys):
    """As the README does, whose only line of a log is the one that it quotes."""
    path = tmp_path / "README.md"
    path.write_text("\n".join(["# A package", "", "The log grows by a line an epoch:", log_lines(FINE, 1)[1]]))
    assert main(["compare", str(path)]) == 2
    assert (
        f"{path}: line 4 looks like a training log's, but its run has no settings line (Namespace) before it, so this "
        "may be no log: name a training log, or the published run with --with"
    ) in capsys.readouterr().err
    path.write_text("\n".join(["", settings_line(FINE)[:-9], *log_lines(FINE, 1)[1:]]))
    assert main(["compare", str(path)]) == 2
    assert "line 2 is a settings line (Namespace), but not a complete one: name a" in capsys.readouterr().err


def test_settings_beyond_floating_point(tmp_path, capsys):
    path, lines = tmp_path / "train.log", log_lines(FINE, 3)
    path.write_text(
        "\n".join([lines[0].replace("num_epochs=640", "num_epochs=1e999").replace("wd=0.0001", "wd=1e999"), *lines[1:]])
    )
    assert main(["compare", str(path)]) == 2
    assert "not one of a training run" in capsys.readouterr().err
    assert main(["compare", str(path), "--with", FINE.name, "--json"]) == 0
    json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


@pytest.mark.parametrize("seconds", ["0.000000", "inf"])
def test_seconds_of_no_pace_and_a_last_epoch_without_accuracy(seconds, tmp_path, capsys):
    path, lines = tmp_path / "train.log", log_lines(FINE, 3)
    lines = [line.split(" time: ")[0] + f" time: {seconds}" for line in lines]
    lines[-1] = lines[-1].replace("val=0.076400", "val=nan")
    path.write_text("\n".join([settings_line(FINE), *lines[1:]]))
    assert main(["compare", str(path), "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert comparison["epochs_per_hour"] is None
    assert comparison["final"]["this_epoch"] == 1


@pytest.mark.parametrize("plot", ["train.log", "both.pdf", ""])
def test_a_plot_takes_the_place_of_nothing_but_a_picture(plot, tmp_path, capsys):
    path = logged(tmp_path, FINE, 3)
    before = (tmp_path / "train.log").read_bytes()
    assert main(["compare", path, "--plot", plot and str(tmp_path / plot)]) == 2
    assert "does not end in .png" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "-o", path]) == 2
    assert (tmp_path / "train.log").read_bytes() == before


def test_aborted_runs_are_refused(tmp_path, capsys):
    assert main(["compare", logged(tmp_path, FINE, 3), "--with", "aff_resnet32_superclass_aborted1"]) == 2
    assert "was aborted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        ([], slice(None)),
        (["--with", "aff_resnet32_fine"], slice(None)),
        (["--json"], slice(2, None)),  # only its epochs
        (["--run", "1"], slice(2)),  # only its settings
    ],
)
def test_a_segmentation_run_has_no_counterpart(flags, lines, tmp_path, capsys):
    (tmp_path / "train.log").write_text("".join(SEGMENTATION.splitlines(keepends=True)[lines]))
    assert main(["compare", str(tmp_path / "train.log"), *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "train.log: the log belongs to a segmentation run, and the original published no log of one" in err
    assert len(err.splitlines()) == 1


def test_settings_that_would_fill_the_memory_are_none_of_a_run(tmp_path):
    """A text times a number is a text, so many times as long."""
    run = dataclasses.replace(FINE, settings={**FINE.settings, "batch_size": "x" * 1000, "num_gpus": 10**12})
    with pytest.raises(InputError, match="not one of a training run"):
        nearest_runs(read(tmp_path, run, 2))
