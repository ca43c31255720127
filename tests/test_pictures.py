"""The pictures of the documents: they show published figures, can be read on light and dark pages, and are small."""

import csv
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axis import Tick
from matplotlib.text import Text

from tools.pictures import __main__ as pictures
from tools.pictures.comparison import draw_comparison
from tools.pictures.errors import draw_errors
from tools.pictures.fusion_modules import draw_fusion_modules
from tools.pictures.heat_maps import HeatMap, draw_heat_maps, overlay
from tools.pictures.theme import THEMES

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/pictures"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LARGEST = 150_000  # bytes
GROUNDS = {"light": "#ffffff", "dark": "#0d1117"}  # GitHub's
LIGHT, DARK = THEMES
DRAWN = [pytest.param(draw, id=name) for name, draw in pictures.DRAWINGS.items()]


class Shown(HTMLParser):
    """Faults of the pictures in a page: (file, what is wrong)."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.faults, self.dark = folder, [], None

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "picture":
            self.dark = ""
        if tag == "source":
            self.dark = attributes["srcset"]
            if attributes.get("media") != "(prefers-color-scheme: dark)":
                self.faults.append((self.dark, "is not for dark pages"))
        if tag == "img":
            self.image(attributes["src"], attributes.get("alt", ""))

    def handle_endtag(self, tag):
        if tag == "picture":
            self.dark = None

    def image(self, light, alternative):
        if re.match(r"https?:", light):
            return
        if len(alternative.split()) < 5:
            self.faults.append((light, "has no alternative text"))
        if "-light." in light and light.replace("-light.", "-dark.") != self.dark:
            self.faults.append((light, "has no dark one beside it"))
        for file in filter(None, (light, self.dark)):
            if not (self.folder / file).is_file():
                self.faults.append((file, "is missing"))
            elif (self.folder / file).stat().st_size >= LARGEST:
                self.faults.append((file, "is large"))


def faults_of(text, folder):
    """What is wrong with the pictures of a page in `folder`."""
    shown = Shown(folder)
    shown.feed(re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    for alternative, file in re.findall(r"!\[([^]]*)\]\(([^)\s]+)", text):
        shown.image(file, alternative)
    return shown.faults


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pictures_of_a_page_exist_are_small_have_alternative_text_and_a_dark_one(page):
    assert faults_of(page.read_text(encoding="utf-8"), page.parent) == []


GOOD = """<picture>
<source media="(prefers-color-scheme: dark)" srcset="docs/pictures/errors-dark.svg">
<img alt="Errors of the networks over parameters" src="docs/pictures/errors-light.svg" width="800">
</picture>"""


@pytest.mark.parametrize(
    ("old", "new", "faults"),
    [
        ("", "", []),
        ("errors-", "error-", ["is missing", "is missing"]),
        ("docs/pictures/errors-dark.svg", "docs/pictures/comparison-dark.svg", ["has no dark one beside it"]),
        ("dark)", "light)", ["is not for dark pages"]),
        ("Errors of the networks over parameters", "errors.svg", ["has no alternative text"]),
        (
            GOOD,
            "![The errors](docs/pictures/errors-light.svg)",
            ["has no alternative text", "has no dark one beside it"],
        ),
    ],
)
def test_faults_of_a_page_are_found(old, new, faults):
    assert [fault for _, fault in faults_of(GOOD.replace(old, new) if old else GOOD, ROOT)] == faults


def test_every_picture_is_small_and_those_for_light_and_dark_pages_are_pairs():
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    expected = {f"{name}-{theme.name}.svg" for name in pictures.DRAWINGS for theme in THEMES}
    assert set(files) == expected | {"heatmaps.jpg"}
    assert max(files.values()) < LARGEST


@pytest.mark.parametrize("name", pictures.DRAWINGS)
@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_the_pictures_are_those_that_the_script_draws(tmp_path, name, theme):
    kept = FOLDER / f"{name}-{theme.name}.svg"
    if f"Matplotlib v{matplotlib.__version__}," not in kept.read_text(encoding="utf-8"):
        pytest.skip("another Matplotlib draws the same figures with other digits")
    pictures.write_svg(pictures.DRAWINGS[name](theme), tmp_path / kept.name)
    (words, numbers), (expected_words, expected_numbers) = map(words_and_numbers, (tmp_path / kept.name, kept))
    assert words == expected_words
    np.testing.assert_allclose(numbers, expected_numbers, atol=1e-3)  # NumPy's versions round differently


def words_and_numbers(path):
    """Return the text of an SVG file without its numbers and the identifiers that are hashes, and its numbers."""
    text = re.sub(r"\b[a-z][0-9a-f]{10}\b", "", path.read_text(encoding="utf-8"))
    number = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
    return re.sub(number, "#", text), [float(each) for each in re.findall(number, text)]


def luminance(colour):
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_text_of_every_colour_has_the_contrast_that_wcag_asks_for(theme):
    for ground in (GROUNDS[theme.name], theme.fill):
        for colour in (theme.ink, theme.faint, theme.blue, theme.orange, theme.green):
            dark, light = sorted((luminance(ground), luminance(colour)))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (colour, ground)


@pytest.mark.parametrize("draw", DRAWN)
def test_no_text_covers_another_or_leaves_the_picture(draw):
    figure = draw(LIGHT)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    ticks = {
        text for tick in figure.findobj(Tick) for text in tick.findobj(Text)
    }  # those beyond the axes are not drawn
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text not in ticks]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    assert len(boxes) >= 8
    for text, box in boxes:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        assert not a.padded(-1).overlaps(b.padded(-1)), (first, second)


def marks(axes):
    """Points of the marks by their legend."""
    return {
        line.get_label(): [(round(float(x), 6), round(float(y), 6)) for x, y in zip(*line.get_data())]
        for line in axes.lines
        if line.get_marker() != "None"
    }


# Table 5 of the AFF paper without its own networks, Table 5 of the AFINets paper, the names of the published weights
OTHERS_ON_IMAGENET = [
    (42.5, 23.2), (42.5, 21.4), (45.4, 21.3), (49.4, 20.9), (58.4, 20.7), (42.9, 20.7),
    (25.56, 24.7), (60.19, 23), (28.07, 23.29), (66.77, 21.57),
]  # fmt: skip
ON_IMAGENET = {
    "others, as the papers quote them": OTHERS_ON_IMAGENET,
    "AFINets: AFI, and AFI-B with more parameters": [(23.85, 23.81), (33.86, 22.98), (54.67, 21.76)],
    "AFF and iAFF, published weights": [
        (30.373192, 20.28), (29.953704, 20.28), (35.17012, 20.22), (34.750632, 19.78)
    ],
}  # fmt: skip
# The first release's README; Table 4 of the AFINets paper
OTHERS_ON_CIFAR100 = [
    (36.2, 18.4), (35, 17.8), (27.7, 17.3), (26, 16.4), (9, 11.7), (26, 10.7),
    (0.47276, 28.84), (1.74, 26.27), (0.94, 29.29), (2.41, 24.8), (4.87, 21.56),
]  # fmt: skip
AFINETS_ON_CIFAR100 = [
    (0.37823, 28.91), (0.66898, 27.43), (1.35, 25.97), (2.57, 24.31), (0.95, 27.94), (1.29, 27.76),
    (2.25, 24.06), (2.84, 22.92), (4.26, 20.63), (5.23, 20.15),
]  # fmt: skip
ON_CIFAR100 = {
    "others, as the papers quote them": OTHERS_ON_CIFAR100,
    "AFINets: AFI, and AFI-B with more parameters": AFINETS_ON_CIFAR100,
    "AFF, published weights": [(7.897156, 16.43), (9.605828, 14.62)],
    "AFF, published weights, 20 superclasses": [(7.897156, 9.22), (7.770148, 8.77), (9.605828, 8.16)],
}


def test_the_errors_are_the_published_ones():
    imagenet, cifar100 = draw_errors(LIGHT).axes
    for axes, expected in ((imagenet, ON_IMAGENET), (cifar100, ON_CIFAR100)):
        drawn = marks(axes)
        assert list(drawn) == list(expected)
        for legend, points in expected.items():
            assert sorted(drawn[legend]) == sorted(points), legend
            for x, y in points:
                assert axes.get_xlim()[0] < x < axes.get_xlim()[1]
                assert axes.get_ylim()[0] < y < axes.get_ylim()[1]


def test_names_stand_at_the_marks_of_their_networks():
    imagenet, cifar100 = draw_errors(LIGHT).axes
    named = {text.get_text(): tuple(text.xy) for text in imagenet.texts}
    assert named["iAFF-ResNeXt-50-32x4d"] == (34.750632, 19.78)
    assert named["GE-θ+-ResNet-101"] == (58.4, 20.7)
    assert len(named) == len(OTHERS_ON_IMAGENET) + 4
    named = {text.get_text(): tuple(text.xy) for text in cifar100.texts}
    assert named["SKNet-29"] == pytest.approx((27.7, 17.3))
    assert len(cifar100.texts) == len(OTHERS_ON_CIFAR100) + 5


def test_a_line_leads_from_a_plain_network_to_its_afinets():
    _, cifar100 = draw_errors(LIGHT).axes
    lines = [line for line in cifar100.lines if line.get_marker() == "None"]
    assert len(lines) == 5
    assert list(zip(*lines[0].get_data())) == [(0.47276, 28.84), (0.37823, 28.91), (0.66898, 27.43)]


def test_the_curves_are_those_of_the_published_logs():
    accuracy, loss, rate = draw_comparison(DARK).axes
    for number, run in enumerate(("run1", "run3")):
        file = ROOT / f"logs/published/cifar100/aff_resnext47_32x4d_superclass_{run}.csv"
        rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
        for axes, column, factor in ((accuracy, "val_acc", 100), (loss, "loss", 1), (rate, "lr", 1)):
            drawn = axes.lines[number].get_ydata()
            np.testing.assert_allclose(drawn, [factor * float(row[column]) for row in rows])
    legends = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert [re.search(r"[\d.]+ %", legend)[0] for legend in legends] == ["90.91 %", "91.84 %"]


def test_equations_of_the_fusion_modules_are_the_papers():
    equations = {text.get_text() for text in draw_fusion_modules(LIGHT).findobj(Text)}
    mscam = r"$X' = M(X)\,X, \quad M(X) = \sigma\,(g(X) + L(X))$"
    aff = r"$Z = M(X + Y)\,X + (1 - M(X + Y))\,Y$"
    iaff = r"$Z = M_2(U)\,X + (1 - M_2(U))\,Y, \quad U = M_1(X + Y)\,X + (1 - M_1(X + Y))\,Y$"
    assert {mscam, aff, iaff} <= equations


def test_the_hotter_the_lighter():
    row = np.linspace(0, 1, 64)
    heat = HeatMap(np.full((4, 64, 3), 128, np.uint8), "discs", np.tile(row, (4, 1)), "discs", 1)
    grey = overlay(heat) @ (0.299, 0.587, 0.114)
    assert (np.diff(grey, axis=1) > 0).all()


def test_a_missed_class_is_marked_with_a_cross():
    pixels, heat = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4))
    figure = draw_heat_maps([HeatMap(pixels, "sky", heat, said, 0.5) for said in ("sky", "trees")])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["sky", "sky 0.50", "sky", "trees 0.50 \N{MULTIPLICATION SIGN}"]


def test_without_the_demo_one_line_says_what_to_run_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    output = tmp_path / "pictures"
    arguments = ["pictures", "--demo", str(tmp_path / "demo"), "-o", str(output)]
    monkeypatch.setattr("sys.argv", arguments)
    assert pictures.main() == 2
    assert re.fullmatch(r"pictures: error: .*/demo has no weights .*`make demo-imagenet`.*\n", capsys.readouterr().err)
    assert not output.exists()
    monkeypatch.setattr("sys.argv", [*arguments, "comparison"])
    assert pictures.main() == 0
    assert sorted(path.name for path in output.iterdir()) == ["comparison-dark.svg", "comparison-light.svg"]


def test_an_unknown_picture_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pictures", "error"])
    with pytest.raises(SystemExit, match="2"):
        pictures.parse_arguments()
    assert "there is no picture error; there are comparison, errors, fusion-modules" in capsys.readouterr().err
