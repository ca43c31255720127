"""The report page: whole, self-contained, true to the log, and clean in a browser."""

import base64
import hashlib
import html.parser
import io
import json
import os
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared_by_tests.browser import browser, opened, value_of, view
from shared_by_tests.written_logs import SEGMENTATION, log_lines

from gluon_aff.cli import main
from gluon_aff.published import curve, published_runs, published_weights
from gluon_aff.results import report_contents
from gluon_aff.results.evaluations import COLUMNS, append_row
from gluon_aff.results.report import write_report

RUNS = published_runs()
ROOT = Path(__file__).parents[2]
PARAMS = struct.pack("<3Q", 0x112, 0, 0)  # head of a list of no arrays, in MXNet's NDArray::Save
VOID = {"meta", "link", "br"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report on a finished CIFAR run, an unfinished ImageNet one, one that nothing published fits, and weights."""
    folder = tmp_path_factory.mktemp("report")
    run_dir = folder / "run <1>"
    for name, text in {
        "logs/superclass.log": "\n".join(log_lines(RUNS["aff_resnet32_superclass_run2"])),
        "logs/imagenet.log": "\n".join(log_lines(RUNS["aff_resnet50"], 30)),
        "other.log": "\n".join(log_lines(RUNS["aff_resnet32_fine"], 3)).replace("lr=0.2", "lr=0.3"),
        "notes.log": "no training log",
        "params/mine.params": PARAMS.decode(),
    }.items():
        path = run_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    output = folder / "report.html"
    assert write_report(str(run_dir), str(output)) == ["logs/imagenet.log", "logs/superclass.log", "other.log"]
    return output


class Checker(html.parser.HTMLParser):
    """Follows opening and closing tags; gathers text and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.words, self.addresses = [], [], []

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_is_whole_and_fetches_nothing(page):
    checker = Checker()
    checker.feed(page.read_text())
    checker.close()
    assert checker.open == []
    assert all(address.startswith(("data:", "#")) for address in checker.addresses)
    assert not re.search(r"url\(|@import", page.read_text())


def test_no_script_or_style_but_its_own_takes_effect(page):
    """The hashes are those that the standard asks for: of what stands between the tags."""
    text = page.read_text()
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    directives = dict(each.split(" ", 1) for each in policy.split("; "))
    assert directives["default-src"] == "'none'"
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives[f"{tag}-src"] == f"'sha256-{digest}'"
    assert " style=" not in text


def test_says_what_the_log_says(page):
    text = page.read_text()
    assert "Training report: run &lt;1&gt;" in text
    assert (
        "640 epochs; best top-1 error <strong>9.22\u00a0%</strong> (accuracy 90.78\u00a0%) at epoch 617, last "
        "9.36\u00a0% (accuracy 90.64\u00a0%)."
    ) in text
    assert "best accuracy differs by +0.00 points so far (the run is unfinished)" in text
    assert "No published run has these settings" in text
    differing = text.split("Settings that differ")[1].split("</table>")[0]
    assert cells(differing) == [["setting", "this run", "nearest published run"], ["learning rate", "0.3", "0.2"]]
    assert "<caption>Taken to be as published, since the log does not say: labels fine.</caption>" in differing
    superclass = text.split("<h2>logs/superclass.log")[1].split("<section")[0]
    assert "last top-1 error" in [row[0] for row in cells(superclass)]
    (quantities,) = [cells(table) for table in superclass.split("<table>") if "mean |difference|" in table]
    assert quantities[:3] == [
        ["quantity", "mean |difference|", "largest", "at epoch"],
        ["top-1 accuracy (%)", "0.00", "+0.00", "0"],
        ["train RMSE", "0.000000", "+0.000000", "0"],
    ]
    assert "<summary>Environment</summary><p>The log does not say.</p>" in superclass
    settings = RUNS["aff_resnet32_superclass_run2"].settings
    assert f"<summary>All {len(settings) + 2} settings</summary>" in superclass
    assert ["batch_size", "128"] in cells(superclass)
    assert "nearest published run" in [cell for row in cells(text.split("<h2>other.log")[1]) for cell in row]
    blob = hashlib.sha1(b"blob 24\0" + PARAMS).hexdigest()
    assert ["params/mine.params", "24", blob, "no"] in cells(text.split("<h2>Weights")[1])


def numbers(page):
    """Titles of the columns that are aligned to the right, of tables whose cells are as their titles."""
    found = set()
    for table in re.findall("<thead>.*?</table>", page, re.DOTALL):
        rows = [re.findall(r"<t[dh]([^>]*)>", row) for row in table.split("<tr")[1:]]
        right = [["number" in cell for cell in row] for row in rows]
        assert all(row == right[0] for row in right)
        found |= {title for title, is_number in zip(cells(table)[0], right[0]) if is_number}
    return found


def test_columns_of_numbers_are_aligned_to_the_right(page):
    of_runs = {"this run", "published run", "nearest published run", "difference"}
    of_columns = {"mean |difference|", "largest", "at epoch"}
    of_papers = {"accuracy percent", "top1 error percent", "params millions"}
    assert numbers(page.read_text()) == {*of_runs, *of_columns, *of_papers, "bytes"}


def test_own_row_stands_where_its_figure_belongs(page):
    """README at the last commit: ResNeXt-38 91.2, ResNet-32 90.8, the next one 89.3; this run 90.78."""
    rows = table_rows(page.read_text().split("<h2>logs/superclass.log")[1], "open-aff README at 0bcfd8a")
    names = [row[0] for row in rows]
    own = names.index("this run")
    assert rows[own - 1] == ["AFF-ResNet-32", "90.8", "7.9"]
    assert rows[own] == ["this run", "90.78", ""]
    assert rows[own + 1][1] == "89.3"


def reported(folder, lines):
    """The page on a folder with one log of those lines."""
    (folder / "train.log").write_text("\n".join(lines))
    write_report(str(folder), str(folder / "report.html"))
    return (folder / "report.html").read_text()


def table_rows(page, source):
    """Cells of the rows of the table whose source that is."""
    return cells(page.split(source)[1].split("</table>")[0])[1:]


def cells(table):
    """Texts of the cells, row by row."""
    return [re.findall(r"<t[dh][^>]*>([^<]*)", row) for row in table.split("<tr")[1:]]


def test_a_table_of_errors_has_the_runs_error(page):
    """Epoch 30 of AFF-ResNet-50: the best error so far stands below all of the README's, which are sorted by it."""
    best = 100 * curve(RUNS["aff_resnet50"])["err_top1"][:30].min()
    for source in ("open-aff README at 0bcfd8a", "AFF paper, Table 5"):
        rows = table_rows(page.read_text().split("<h2>logs/imagenet.log")[1], source)
        assert rows[-1][:2] == ["this run", f"{best:.2f}"]
        errors = [float(row[1]) for row in rows]
        assert errors == sorted(errors)
        assert "ResNet-101" in [row[0] for row in rows]


@dataclass
class Figure:
    """A figure of the page.

    Of each curve it has the data, the path and its points; of each axis, the ticks' positions and texts; and the other
    paths by their class.
    """

    curves: list
    span: str
    title: str = ""
    label: str = ""
    reading: str = ""
    view: str = ""
    paths: dict = field(default_factory=dict)
    lines: dict = field(default_factory=dict)
    up: list = field(default_factory=list)
    along: list = field(default_factory=list)
    marks: dict = field(default_factory=dict)


class FigureReader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.figures, self.within = [], None

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "figure":
            self.figures.append(Figure(json.loads(attributes["data-curves"]), attributes["data-span"]))
        if not self.figures:
            return
        figure, kind = self.figures[-1], attributes.get("class", "")
        if tag == "svg" and "aria-label" in attributes:
            figure.label, figure.view = attributes["aria-label"], attributes["viewbox"]
        name = kind.split(" ")[0]
        if tag == "path" and name in ("this", "published") and name not in figure.lines:
            figure.paths[name] = (kind, attributes["d"])
            figure.lines[name] = np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", attributes["d"]), float)
        if tag == "path":
            figure.marks.setdefault(kind, []).append(attributes["d"])
        if tag == "text" and kind in ("up", "along"):
            getattr(figure, kind).append((float(attributes["y" if kind == "up" else "x"]), ""))
        self.within = "title" if tag == "figcaption" else kind

    def handle_data(self, data):
        if self.within in ("title", "reading"):
            setattr(self.figures[-1], self.within, data)
        if self.within in ("up", "along"):
            ticks = getattr(self.figures[-1], self.within)
            ticks[-1] = (ticks[-1][0], data)

    def handle_endtag(self, tag):
        self.within = None


def figures(text):
    reader = FigureReader()
    reader.feed(text)
    return reader.figures


def header_line(data, libraries="<b>MXNet</b> & more"):
    return (
        f"gluon_aff 0.1.0, {libraries}, devices gpu(0), 256 images per step, {data} data, 20 label values under a "
        "100-way head"
    )


@pytest.mark.parametrize(("data", "shown"), [("official", True), ("other", False)])
def test_figures_on_other_images_stand_beside_none_of_the_papers(data, shown, tmp_path):
    first, *figures = log_lines(RUNS["aff_resnet32_superclass_run2"], 3)
    text = reported(tmp_path, [first, header_line(data), *figures])
    assert ("Beside the tables" in text) == shown
    assert ("AFF-ResNeXt-47-32x4d" in text) == shown


def test_whatever_a_log_says_is_text_on_the_page(tmp_path):
    """Settings, environment and names of files come from whoever wrote them."""
    first, *figures = log_lines(RUNS["aff_resnet32_superclass_run2"], 3)
    folder = tmp_path / "<s>folder"
    folder.mkdir()
    (folder / "<i>.params").write_text("blob")
    (folder / "<i>.log").write_text("\n".join([first.replace("num_epochs=640", "num_epochs='<u>'"), *figures]))
    bomb = "<img src=x onerror=alert(1)>"
    first = first.replace("Namespace(", f"Namespace(note={bomb!r}, ").replace("model='", "model='<u>")
    text = reported(folder, [first, header_line("official"), *figures])
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "&lt;b&gt;MXNet&lt;/b&gt; &amp; more" in text
    assert "<h2>&lt;i&gt;.log</h2>" in text
    assert ["host", "&lt;u&gt;resnet", "ResNet"] in cells(text)
    assert "The settings line is not one of a training run (invalid literal" in text
    assert not re.search("<[sbiu]>|<img ", text)


@pytest.mark.parametrize(("more", "said"), [(0.0049, "good within"), (0.0052, "bad outside"), (-0.0052, "bad outside")])
def test_half_a_point_more_or_less_is_marked(more, said, tmp_path):
    """As `gluon-aff compare` does on its own."""
    lines = log_lines(RUNS["aff_resnet32_fine"], 3)
    best = 0.0764  # of its first three epochs
    text = reported(tmp_path, [line.replace(f"val={best:f}", f"val={best + more:f}") for line in lines])
    kind, word = said.split()
    assert f'<span class="{kind}">{word} 0.5 points: best accuracy differs by {100 * more:+.2f} points' in text


def test_bad_input_is_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for directory, message in ((tmp_path / "gone", "no directory"), (tmp_path / "empty", "no training log")):
        assert main(["report", str(directory), "-o", str(tmp_path / "r.html")]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "r.html").exists()


def test_a_log_with_odd_figures_does_not_stop_the_page(tmp_path):
    lines = log_lines(RUNS["aff_resnet32_fine"], 3)
    odd = lines[0].replace("num_epochs=640", "num_epochs=1e999")
    (tmp_path / "odd.log").write_text("\n".join([odd, *lines[1:]]))
    nan = [line.replace(f"val={0.0764:f}", "val=nan") for line in lines]
    (tmp_path / "unknown.log").write_text("\n".join(nan))
    (tmp_path / os.fsdecode(b"name\xff.log")).write_text("\n".join(lines))
    write_report(str(tmp_path), str(tmp_path / "report.html"))
    text = (tmp_path / "report.html").read_text()
    shown = re.sub("<details>.*?</details>|<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(nan|inf)\b", shown, re.IGNORECASE)
    assert "The settings line is not one of a training run" in text
    assert "name\\udcff.log" in text


def test_a_segmentation_run_is_drawn_and_compared_with_nothing(tmp_path):
    (tmp_path / "train.log").write_text(SEGMENTATION)
    write_report(str(tmp_path), str(tmp_path / "report.html"))
    text = (tmp_path / "report.html").read_text()
    assert "3 epochs; best IoU <strong>85.41\u00a0%</strong> at epoch 1, last 79.16\u00a0%." in text
    assert "The original published no log of a segmentation run." in text
    assert [figure.title for figure in figures(text)] == [
        *("Validation: IoU (%)", "Validation: nIoU (%)", "Training: IoU (%)", "Training: loss", "Learning rate")
    ]


def shifted(name, by, epochs=None):
    """Lines of the log of that published run, with accuracies that are higher by so many points."""
    lines = log_lines(RUNS[name], epochs)
    return [re.sub(r"(?<= val=)[\d.]+", lambda found: f"{float(found[0]) + by / 100:f}", line) for line in lines]


@pytest.mark.parametrize(
    ("by", "state", "words"),
    [
        (0.0, "reproduced", "Reproduced: best top-1 error 16.43 %, equal to the published 16.43 %"),
        (0.006, "reproduced", "Reproduced: best top-1 error 16.42 %, 0.01 points better than the published 16.43 %"),
        (0.4, "reproduced", "Reproduced: best top-1 error 16.03 %, 0.40 points better than the published 16.43 %"),
        (-3.0, "worse", "Not reproduced: best top-1 error 19.43 %, 3.00 points worse than the published 16.43 %"),
        (0.6, "better", "Not reproduced, but better: best top-1 error 15.83 %, 0.60 points better than the published"),
    ],
)
def test_says_first_whether_the_run_is_reproduced(by, state, words, tmp_path):
    """The published AFF-ResNet-32 has 83.57 % on the fine labels."""
    text = reported(tmp_path, shifted("aff_resnet32_fine", by)).replace("\u00a0", " ")
    assert f'<div class="verdict {state}">' in text
    assert words in re.sub("<[^>]*>", "", text)
    assert text.index(words) < text.index("<table")


def test_an_unfinished_run_is_beside_as_many_epochs(tmp_path):
    run = RUNS["aff_resnet50"]
    text = reported(tmp_path, log_lines(run, 30)).replace("\u00a0", " ")
    best = f"{100 * curve(run)['err_top1'][:30].min():.2f} %"
    assert f"Not finished, 30 of 240 epochs: best top-1 error {best}, equal to the published {best} by then" in text
    header, row, last = next(cells(table)[:3] for table in text.split("<table>") if ">best top-1 error<" in table)
    assert header[1:] == ["this run", "published run", "difference"]
    assert row[1:] == [f"{best} (epoch 29)", f"{best} (epoch 29)", "none"]
    assert last[0] == "at the last common epoch"


def test_curves_are_those_of_the_log_over_the_published_ones(tmp_path):
    run = RUNS["aff_resnet32_fine"]
    text = reported(tmp_path, shifted(run.name, 1.0, 200))
    assert [figure.title for figure in figures(text)] == [
        *("Validation: top-1 error (%)", "Training: RMSE of the softmax", "Training: loss", "Learning rate")
    ]
    columns = curve(run)
    errors = 100 * (1 - columns["val_acc"])
    for figure, column in zip(figures(text), (errors, columns["train_rmse"], columns["loss"], columns["lr"])):
        ours = column[:200] - (column is errors)
        for kind, data, expected in zip(("this", "published"), figure.curves, (ours, column)):
            assert data["epochs"] == list(range(len(expected)))
            np.testing.assert_allclose(data["values"], expected, rtol=1e-3, atol=1e-6)
            assert np.ptp(np.diff(figure.lines[kind][:, 0])) < 0.11  # equal steps to the right
        assert figure.span == "0 639 199"
        assert figure.reading == f"epoch 199: this run {ours[199]:.4g}, published run {column[199]:.4g}"
        assert figure.label == (
            f"{figure.title} over epochs: this run from {ours[0]:.4g} to {ours[-1]:.4g}; published run from "
            f"{column[0]:.4g} to {column[-1]:.4g}"
        )
        points = np.concatenate([figure.lines["this"], figure.lines["published"]])
        assert (figure.lines["this"][0, 0], figure.lines["published"][-1, 0], figure.view) == (56, 352, "0 0 360 210")
        assert np.ptp(points[:, 1]) == pytest.approx((176 - 8) / 1.1, abs=0.1)  # a twentieth is free at both ends
        assert points[:, 1].min() == pytest.approx(8 + (176 - 8) * 0.05 / 1.1, abs=0.1)
        assert_ticks_fit(figure, points[:, 1], np.concatenate([ours, column]))
        assert np.corrcoef(points[:, 1], np.concatenate([ours, column]))[0, 1] < -0.9999  # up with the figure
        assert figure.lines["this"][-1, 0] < figure.lines["published"][-1, 0]


def assert_ticks_fit(figure, heights, values):
    """That the numbers beside the axis are round and stand at their heights; below, that epochs are hundreds."""
    ticks = [(float(text), y) for y, text in figure.up]
    steps = np.diff([tick for tick, _ in ticks])
    assert 3 <= len(ticks) <= 6
    np.testing.assert_allclose(steps, steps[0])
    assert round(steps[0] / 10 ** np.floor(np.log10(steps[0] * 1.001)), 6) in (1, 2, 5)
    slope, start = np.polyfit(values, heights, 1)
    np.testing.assert_allclose([y for _, y in ticks], [slope * tick + start for tick, _ in ticks], atol=0.2)
    *epochs, title = figure.along
    assert [text for _, text in epochs] == ["0", "200", "400", "600"]
    np.testing.assert_allclose(
        [x for x, _ in epochs], [56 + 296 * epoch / 639 for epoch in (0, 200, 400, 600)], atol=0.1
    )
    assert title == (204, "epoch")
    assert figure.marks["grid"] == [f"M56 {y:.1f}H352" for y, _ in figure.up]
    assert figure.marks["axis"] == ["M56 176H352", *(f"M{x:.1f} 176v4" for x, _ in epochs)]
    assert figure.marks["pointer"] == ["M56 8V176"]


def deeper(*epochs):
    """Lines of a log with these lines of epochs, of a network that was not published."""
    return [log_lines(RUNS["aff_resnet32_fine"], 0)[0].replace("blocks=5", "blocks=7"), *epochs]


@pytest.mark.parametrize(
    ("epochs", "along"),
    [(1, ["0"]), (3, ["0", "1", "2"]), (7, list("0123456"))],
)
def test_a_figure_that_stays_the_same_is_in_the_middle(epochs, along, tmp_path):
    line = "[Epoch {}] train=0.100000 val=0.500000 loss=55.000000 lr: 0.000000 time: 1.000000"
    error, rmse, loss, rate = figures(reported(tmp_path, deeper(*map(line.format, range(epochs)))))
    assert [text for _, text in error.up] == ["46", "48", "50", "52", "54"]
    assert [text for _, text in rmse.up] == ["0.09", "0.095", "0.1", "0.105", "0.11"]
    assert [text for _, text in loss.up] == ["50", "55", "60"]
    assert [text for _, text in rate.up] == ["-1", "-0.5", "0", "0.5", "1"]
    for figure in (error, rmse, loss, rate):
        assert [text for _, text in figure.along] == [*along, "epoch"]
        assert set(figure.lines["this"][:, 1]) == {92}  # from 176 up to 8
        assert figure.paths["this"][0] == ("this lone" if epochs == 1 else "this")
    assert error.lines["this"][0, 0] == (204 if epochs == 1 else 56)


def test_curves_have_a_gap_where_the_log_has_no_figure(tmp_path):
    """Nor one that fits on an axis: ten to the 300th is what a run that diverged may say."""
    lines = log_lines(RUNS["aff_resnet32_fine"], 5)
    lines[3] = re.sub(r"val=\S+ loss=\S+", f"val=nan loss=1{'0' * 300}.000000", lines[3])
    accuracy, _, loss, _ = figures(reported(tmp_path, lines))
    for figure in (accuracy, loss):
        assert [value is None for value in figure.curves[0]["values"]] == [False, False, True, False, False]
        kind, path = figure.paths["this"]
        assert (kind, path.count("M")) == ("this", 2)
        assert re.fullmatch(r"(M[\d.]+ [\d.]+h0(L[\d.]+ [\d.]+)*)+", path)  # h0 makes a dot of a lone point


def test_the_legend_tells_engine_and_date(tmp_path):
    first, *lines = log_lines(RUNS["aff_resnet32_superclass_run2"], 3)
    (tmp_path / "train.log").write_text("\n".join([first, header_line("official", "PyTorch 2.4.1, NumPy"), *lines]))
    day = datetime(2021, 2, 3, 12).timestamp()
    os.utime(tmp_path / "train.log", (day, day))
    write_report(str(tmp_path), str(tmp_path / "report.html"))
    legend = (tmp_path / "report.html").read_text().split('<ul class="legend">')[1].split("</ul>")[0]
    assert re.sub("<[^>]*>", "", legend.replace("</li>", "\n")).splitlines() == [
        "this run: PyTorch 2.4.1, 2021-02-03",
        "published run aff_resnet32_superclass_run2: MXNet, October 2020 or later",
    ]


def test_a_run_of_another_network_is_over_no_published_curves(tmp_path):
    deeper = [line.replace("blocks=5", "blocks=7") for line in log_lines(RUNS["aff_resnet32_fine"], 3)]
    faster = [line.replace("lr=0.2", "lr=0.3") for line in log_lines(RUNS["aff_resnet32_fine"], 3)]
    assert [len(figure.curves) for figure in figures(reported(tmp_path, deeper))] == [1, 1, 1, 1]
    assert [len(figure.curves) for figure in figures(reported(tmp_path, faster))] == [2, 2, 2, 2]


def test_settings_that_differ_are_on_top_and_the_rest_is_folded(tmp_path):
    text = reported(tmp_path, [line.replace("lr=0.2", "lr=0.3") for line in log_lines(RUNS["aff_resnet32_fine"], 3)])
    unfolded = re.sub("<details>.*?</details>", "", text, flags=re.DOTALL)
    assert unfolded.index("learning rate") < unfolded.index("<figure")
    assert "weight decay" not in unfolded
    assert "momentum" not in unfolded
    assert ["momentum", "0.9"] in cells(text)


def test_only_the_best_weights_are_unfolded(tmp_path):
    """Named as train_cifar.py and train_imagenet.py name them, by the highest accuracy and the lowest error."""
    (tmp_path / "imagenet.log").write_text("\n".join(log_lines(RUNS["aff_resnet50"])))
    names = [f"{i / 250:.4f}-cifar100-ASKCFuse-resnet-32-c-4-s-1-best.params" for i in range(200)]
    best = ["0.2028-imagenet-resnet-235-best.params", "0.8357-cifar100-ASKCFuse-resnet-32-c-4-s-1-best.params"]
    for name in [*names, *best, "optimizer.params"]:
        (tmp_path / name).write_bytes(PARAMS + name.encode())
    overview, section = reported(tmp_path, log_lines(RUNS["aff_resnet32_fine"])).split("<h2>Weights")
    assert 'href="#run-2"' in overview
    unfolded, folded = section.split("<details>")
    assert [row[0] for row in cells(unfolded)[1:]] == best
    assert "<summary>201 other weights files</summary>" in folded
    assert [row[0] for row in cells(folded)[1:]] == sorted([*names, "optimizer.params"])


def test_published_weights_are_called_by_their_network(tmp_path, monkeypatch):
    weights = published_weights()[0]
    monkeypatch.setattr(report_contents, "weights_with_hash", lambda digest: weights)
    (tmp_path / "mine.params").write_bytes(PARAMS)
    section = reported(tmp_path, log_lines(RUNS["aff_resnet32_fine"], 1)).split("<h2>Weights")[1]
    assert "<p>No file has the name of a run's best weights.</p><details><summary>1 other weights file<" in section
    assert cells(section)[1][3] == f"{weights.model}, {weights.labels}"


def test_a_score_between_two_names_is_that_of_the_nearer_one(tmp_path):
    """Another number of validation images than 10,000 gives accuracies of more digits."""
    for score in ("0.0800", "0.0801"):
        (tmp_path / f"{score}-cifar100-ASKCFuse-resnet-32-c-4-s-1-best.params").write_bytes(PARAMS)
    lines = [line.replace("val=0.076400", "val=0.080030") for line in log_lines(RUNS["aff_resnet32_fine"], 3)]
    unfolded, folded = reported(tmp_path, lines).split("<h2>Weights")[1].split("<details>")
    assert [row[0][:6] for row in (*cells(unfolded)[1:], *cells(folded)[1:])] == ["0.0800", "0.0801"]


def test_what_is_only_called_params_is_no_weights(tmp_path):
    """An empty file, a page of HTML, and what a run's checkpoints hold, also those that a new run moved aside."""
    best = "0.8357-cifar100-ASKCFuse-resnet-32-c-4-s-1-best.params"
    kept = ("a.checkpoint.params", "my.checkpoints/b.params")
    checkpoints = ("run.checkpoint/epoch-3/parameters.params", "params/run.checkpoint.1/epoch-2/optimizer.params")
    for name in (*kept, *checkpoints):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PARAMS)
    (tmp_path / best).write_text("<!DOCTYPE html>")
    (tmp_path / "empty.params").write_bytes(b"")
    section = reported(tmp_path, log_lines(RUNS["aff_resnet32_fine"])).split("<h2>Weights")[1]
    unfolded, others, wrong = section.split("<details>")
    assert best not in unfolded
    assert [row[0] for row in cells(others)[1:]] == list(kept)
    assert "<summary>2 without weights: called .params, but not in that format</summary>" in wrong
    assert [row[0] for row in cells(wrong)[1:]] == [best, "empty.params"]


def test_earlier_runs_of_a_log_are_said_to_be_left_out(tmp_path):
    """Also one that was stopped in its first epoch; a run that nothing preceded has no such note."""
    run = log_lines(RUNS["aff_resnet32_fine"], 2)
    note = "earlier run"
    assert note not in reported(tmp_path, run)
    said = (
        "run 2 of 2 \\(lines 5-6\\), engine not logged, last written [-0-9]*. 1 earlier run in this log is not shown; "
    )
    assert re.search(f"{said}<code>gluon-aff compare LOG --run N</code> reads it\\.</p>", reported(tmp_path, run * 2))
    text = reported(tmp_path, [*run, run[0], *run])
    assert "2 earlier runs in this log are not shown; <code>gluon-aff compare LOG --run N</code> reads them." in text
    text = reported(tmp_path, SEGMENTATION.splitlines() * 2)
    assert "1 earlier run in this log is not shown.</p>" in text  # compare refuses it


def test_a_run_that_went_on_under_another_engine_names_both(tmp_path):
    first, *epochs = log_lines(RUNS["aff_resnet32_fine"], 5)
    began, goes_on = (
        header_line("official", f"{engine}, NumPy 1") for engine in ("<b>PyTorch 2.13.0", "<i>MXNet 1.9.1")
    )
    lines = [first, began, *epochs[:3], f"INFO:root:from epoch 3 on: {goes_on}", *epochs[3:]]
    text = reported(tmp_path, lines)
    both = "&lt;b&gt;PyTorch 2.13.0, from epoch 3 on &lt;i&gt;MXNet 1.9.1"
    assert f"run 1 of 1 (lines 3-8), {both}, last written" in text
    assert f"this run: {both}, 2" in text
    environment = cells(text.split("<summary>Environment")[1].split("</table>")[0])
    assert environment[0] == ["name", "value", "from epoch 3 on"]
    versions = ["&lt;b&gt;PyTorch 2.13.0, NumPy 1", "&lt;i&gt;MXNet 1.9.1, NumPy 1"]
    assert ["libraries", *versions] in environment
    text = reported(tmp_path, [*lines, f"from epoch 5 on: {began}"])
    assert f"{both}, from epoch 5 on &lt;b&gt;PyTorch 2.13.0, last written" in text


def evaluated(folder, **changed):
    """Append an evaluation to the folder's table."""
    row = {
        **dict.fromkeys(COLUMNS, ""),
        "date": "2026-11-28T12:00:00+00:00",
        "network": "aff_resnet32_cifar100",
        "dataset": "cifar100",
        "labels": "fine",
        "official_data": True,
        "top1": 0.8357,
        "top5": 0.96414,
        "loss": 0.7512345,
        "versions": "gluon_aff 0.1.0, MXNet 1.9.1, NumPy 1.23.5, Python 3.11.7",
    }
    append_row(str(folder / "evaluations.csv"), {**row, **changed})


def test_evaluations_are_shown_and_more_than_three_are_folded(tmp_path):
    run = log_lines(RUNS["aff_resnet32_fine"], 2)
    assert "Evaluations" not in reported(tmp_path, run)
    (tmp_path / "evaluations.csv").write_text(",".join(COLUMNS))
    assert "Evaluations" not in reported(tmp_path, run)
    evaluated(tmp_path)
    mine = {"dataset": "cifar10", "labels": "cifar10", "official_data": False, "network": "<i>mine"}
    evaluated(tmp_path, **mine, loss="<u>", top1="0,5", versions="gluon_aff 0.1.0, <s>")
    section = reported(tmp_path, run).replace("\u00a0", " ").split("<h2>Evaluations")[1]
    assert "<details>" not in section
    assert numbers(section) == {"top-1 accuracy", "top-5 accuracy", "loss"}
    figures = ["83.57 %", "96.41 %", "0.7512", "MXNet 1.9.1"]
    first = ["2026-11-28T12:00:00+00:00", "aff_resnet32_cifar100", "cifar100, fine labels", *figures]
    second = [first[0], "&lt;i&gt;mine", "cifar10, other images", "0,5", "96.41 %", "&lt;u&gt;", "&lt;s&gt;"]
    assert cells(section)[1:] == [first, second]
    evaluated(tmp_path, versions="an engine")
    section = reported(tmp_path, run).split("<h2>Evaluations")[1]
    assert "<details>" not in section
    assert cells(section)[-1][-1] == "an engine"
    evaluated(tmp_path)
    section = reported(tmp_path, run).split("<h2>Evaluations")[1]
    assert "<details><summary>4 evaluations in evaluations.csv</summary>" in section
    assert len(cells(section)[1:]) == 4


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe\xff", "cannot be read as CSV"),
        (b"a,<b>\n1,2\n", "is no table of gluon-aff evaluate, by its columns"),
        (",".join(COLUMNS).encode() + b"\n" + b"x" * 200_000, "cannot be read as CSV (field larger than field limit"),
        (b"\n" * (5 << 20), "is larger than 4 MiB"),
    ],
    ids=["bytes", "columns", "cell", "size"],
)
def test_a_table_that_cannot_be_read_is_left_out(content, reason, tmp_path):
    (tmp_path / "evaluations.csv").write_bytes(content)
    text = reported(tmp_path, log_lines(RUNS["aff_resnet32_fine"], 2))
    assert f'<p class="bad">Left out: evaluations.csv: {reason}' in text
    assert str(tmp_path) not in text
    assert "<h2>Evaluations" not in text


def test_several_logs_have_an_overview_that_leads_to_each(page):
    text = page.read_text()
    overview = text[: text.index("<h2")]
    assert re.findall('<a href="#([^"]*)">([^<]*)</a></th><td>([^<]*?)(?::|,|</td>)', overview) == [
        ("run-1", "logs/imagenet.log", "\u2022 Not finished"),
        ("run-2", "logs/superclass.log", "\u2713 Reproduced"),
        ("run-3", "other.log", "\u2022 No published run has these settings"),
    ]
    assert re.findall('<section class="run" id="([^"]*)">', text) == ["run-1", "run-2", "run-3"]


def luminance(colour):
    """WCAG 2.1's relative luminance."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_colours_have_the_contrast_that_wcag_asks_for(page):
    """4.5 for text, 3 for lines, on light and on dark ground."""
    schemes = [dict(re.findall("--(\\w+): (#\\w{6})", part)) for part in page.read_text().split("prefers-color-scheme")]
    assert len(schemes) == 2
    for colours in schemes:
        for text in ("ink", "faint", "good", "bad"):
            assert contrast(colours[text], colours["ground"]) >= 4.5
        for line in ("this", "published", "good", "bad", "open"):
            assert contrast(colours[line], colours["ground"]) >= 3
        assert contrast(colours["ink"], colours["own"]) >= 4.5


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A headless Chromium: $CHROMIUM, one that is installed, or the one tools/get-chromium fetches with npm."""
    installed = [os.environ.get("CHROMIUM"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))]
    path = next(filter(None, installed), None)
    if path is None and shutil.which("npm"):
        got = subprocess.run([str(ROOT / "tools" / "get-chromium")], stdout=subprocess.PIPE, text=True, timeout=250)
        path = got.stdout.strip()
    if not path:
        pytest.skip("no Chromium here and no npm to fetch one")
    with browser(path, tmp_path_factory.mktemp("profile")) as connection:
        yield connection


@pytest.mark.parametrize("size", [(390, 844), (1280, 900)], ids=["phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_opens_in_a_browser_without_complaint(page, chromium, size, dark):
    picture, scroll_width, complaints = view(chromium, page.as_uri(), *size, dark)
    assert complaints == []
    assert scroll_width == size[0]
    with Image.open(io.BytesIO(picture)) as image:
        assert image.size == size
        colours = image.convert("L").getcolors()
    ground = max(colours)[1]
    assert ground < 40 if dark else ground > 240
    assert len(colours) > 20  # text and lines were drawn


def readings(call):
    return value_of(call, "[...document.querySelectorAll('#run-2 .reading')].map(each => each.textContent)")


@pytest.mark.parametrize("width", [390, 1440])
def test_shows_the_figures_under_the_pointer(page, chromium, width):
    """In all figures of the run; the plot reaches from 56 to 352 of 360 units, and from epoch 0 to 639."""
    columns = curve(RUNS["aff_resnet32_superclass_run2"])
    with opened(chromium, page.as_uri(), width, 900) as call:
        picture = "document.querySelector('#run-2 figure svg')"
        call("Runtime.evaluate", expression=f"{picture}.scrollIntoView({{block: 'center'}})")
        left, top, size = value_of(call, f"(b => [b.left, b.top, b.width])({picture}.getBoundingClientRect())")
        x = left + size * (56 + (352 - 56) * 0.5) / 360
        call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=top + 50)
        shown = readings(call)
        epoch = int(re.match(r"epoch (\d+):", shown[0])[1])
        assert abs(epoch - 639 / 2) <= 640 / size
        for text, figure in zip(
            shown, (100 * (1 - columns["val_acc"]), *map(columns.get, ("train_rmse", "loss", "lr")))
        ):
            found = re.fullmatch(rf"epoch {epoch}: this run ([\d.]+), published run ([\d.]+)", text)
            np.testing.assert_allclose([float(found[1]), float(found[2])], figure[epoch], rtol=1e-3)
        call("Runtime.evaluate", expression=f"{picture}.focus()")
        for key, expected in (("ArrowRight", epoch + 1), ("Home", 0), ("ArrowLeft", 0), ("End", 639)):
            call("Input.dispatchKeyEvent", type="keyDown", key=key)
            assert all(text.startswith(f"epoch {expected}: this run ") for text in readings(call))
        assert value_of(call, f"{picture}.getAttribute('aria-valuetext')") == readings(call)[0]
        assert not [event for event in chromium.events if event.get("method") == "Runtime.exceptionThrown"]


@pytest.mark.parametrize("paper", [(8.27, 11.69), (8.5, 11)], ids=["A4", "letter"])
def test_a_run_prints_on_two_pages(chromium, paper, tmp_path):
    """One with two tables beside it, and one with a long list of settings that differ."""
    first, *lines = log_lines(RUNS["aff_resnet32_superclass_run2"])
    other = (
        first.replace("lr=0.2", "lr=0.3").replace("blocks=5", "blocks=1").replace("channel_times=4", "channel_times=1")
    )
    (tmp_path / "0.9078-cifar100-ASKCFuse-resnet-32-c-4-s-1-best.params").write_bytes(PARAMS)
    for settings in (first, other):
        reported(tmp_path, [settings, header_line("official"), *lines])
        with opened(chromium, (tmp_path / "report.html").as_uri(), 1440, 900, dark=True) as call:
            pdf = call("Page.printToPDF", paperWidth=paper[0], paperHeight=paper[1])["data"]
        assert len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(pdf))) <= 2


def test_a_script_from_elsewhere_does_not_run(page, chromium, tmp_path):
    intruder = "<h1><script>document.title = 'gone'</script><img src=x onerror=\"document.title = 'gone'\">"
    (tmp_path / "page.html").write_text(page.read_text().replace("<h1>", intruder))
    with opened(chromium, (tmp_path / "page.html").as_uri(), 390, 844) as call:
        assert value_of(call, "document.title") == "run <1>: training report"


def test_the_browser_does_notice_complaints(page, chromium, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text("<script>console.error(1); nothing()</script><img src='gone.png'><img src='https://a.test/b'>")
    complaints = view(chromium, broken.as_uri(), 390, 844, False)[2]
    methods = {event["method"] for event in complaints}
    assert methods >= {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Network.requestWillBeSent"}


def test_a_log_that_cannot_be_read_is_named(tmp_path, capsys):
    """Figures with commas, as some languages write them."""
    run = published_runs()["aff_resnet32_fine"]
    lines = log_lines(run, 2)
    (tmp_path / "other.log").write_text("\n".join([lines[0], *(re.sub(r"\.(?=\d{6})", ",", x) for x in lines[1:])]))
    (tmp_path / "notes.log").write_text("nothing of a run")
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "report.html")]) == 2
    assert "other.log: line 2 and 1 more look like a training log's, but cannot be read" in capsys.readouterr().err
    (tmp_path / "train.log").write_text("\n".join(lines))
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "report.html")]) == 0
    assert '<p class="bad">Left out: other.log: line 2 and 1 more' in (tmp_path / "report.html").read_text()


def test_a_log_that_cannot_be_read_is_named_without_the_folders_above(tmp_path):
    (tmp_path / "other.log").write_text("[Epoch 0] train=0,07 val=0,03")
    text = reported(tmp_path, log_lines(RUNS["aff_resnet32_fine"], 2))
    assert "Left out: other.log: line 1 looks like a training log" in text
    assert str(tmp_path) not in text
