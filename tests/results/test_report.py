"""The report page: whole, self-contained, true to the log, and clean in a browser."""

import hashlib
import html.parser
import io
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from shared_by_tests.browser import browser, view
from shared_by_tests.written_logs import SEGMENTATION, log_lines

from gluon_aff.cli import main
from gluon_aff.published import curve, published_runs
from gluon_aff.results.report import write_report

RUNS = published_runs()
ROOT = Path(__file__).parents[2]
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
        "params/mine.params": "blob",
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
    assert "<script" not in page.read_text()
    assert not re.search(r"url\((?!#)", page.read_text())


def test_says_what_the_log_says(page):
    text = page.read_text()
    assert "Training report: run &lt;1&gt;" in text
    assert "640 epochs; best top-1 accuracy <strong>90.78 %</strong> at epoch 617, last 90.64 %" in text
    assert "best accuracy differs by +0.00 points so far (the run is unfinished)" in text
    assert "No published run has these settings." in text
    assert "differs in learning rate 0.3 (published 0.2)" in text
    assert text.count("<svg") == 3
    blob = hashlib.sha1(b"blob 4\0blob").hexdigest()
    assert f'mine.params</td><td class="number">4</td><td>{blob}</td><td>no</td>' in text


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
    table = page.split(source)[1].split("</table>")[0]
    return [re.findall(r"<td[^>]*>([^<]*)", row) for row in table.split("<tr")[2:]]


def test_a_table_of_errors_has_the_runs_error(page):
    """Epoch 30 of AFF-ResNet-50: the best error so far stands below all of the README's, which are sorted by it."""
    best = 100 * curve(RUNS["aff_resnet50"])["err_top1"][:30].min()
    for source in ("open-aff README at 0bcfd8a", "AFF paper, Table 5"):
        rows = table_rows(page.read_text().split("<h2>logs/imagenet.log")[1], source)
        assert rows[-1][:2] == ["this run", f"{best:.2f}"]
        errors = [float(row[1]) for row in rows]
        assert errors == sorted(errors)
        assert "ResNet-101" in [row[0] for row in rows]


def header_line(data):
    libraries = "<b>MXNet</b> & more"
    return (
        f"gluon_aff 0.1.0, {libraries}, devices gpu(0), 256 images per step, {data} data, 20 label values under a "
        "100-way head"
    )


@pytest.mark.parametrize(("data", "shown"), [("official", True), ("other", False)])
def test_figures_on_other_images_stand_beside_none_of_the_papers(data, shown, tmp_path):
    first, *figures = log_lines(RUNS["aff_resnet32_superclass_run2"], 3)
    text = reported(tmp_path, [first, header_line(data), *figures])
    assert ("Beside the tables" in text) == shown
    assert ("AFF-ResNeXt-47-32x4d" in text.split("<svg")[1]) == shown


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
    assert "host &lt;u&gt;resnet (published ResNet)" in text
    assert "Not compared: its settings line is none of a training run (invalid literal" in text
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
    (tmp_path / "nan.log").write_text("\n".join(nan))
    (tmp_path / os.fsdecode(b"name\xff.log")).write_text("\n".join(lines))
    write_report(str(tmp_path), str(tmp_path / "report.html"))
    text = (tmp_path / "report.html").read_text()
    assert "nan %" not in text
    assert "Not compared: its settings line is none of a training run" in text
    assert "name\\udcff.log" in text


def test_a_segmentation_run_is_drawn_and_compared_with_nothing(tmp_path):
    (tmp_path / "train.log").write_text(SEGMENTATION)
    write_report(str(tmp_path), str(tmp_path / "report.html"))
    text = (tmp_path / "report.html").read_text()
    assert "3 epochs; best IoU <strong>85.41 %</strong> at epoch 1, last 79.16 %" in text
    assert "Not compared: it is of a segmentation run" in text
    assert "IoU (%)" in text[text.index("<svg") :]


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
