"""`make docs`: where links of the repository's pages lead on the site, and which pages it has."""

import re
from pathlib import Path

import pytest

from tools.site_pages import API, OUTSIDE, with_links_of_the_site

ROOT = Path(__file__).parents[2]
NAVIGATION = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].partition("\n\n")[0]

FENCED = "```\n[x](../README.md)\n```\n"


@pytest.mark.parametrize(
    ("page", "repository", "site"),
    [
        ("index.md", "[oddities](docs/quirks.md)", "[oddities](quirks.md)"),
        ("index.md", "[GPUs](docs/engines.md#gpus)", "[GPUs](engines.md#gpus)"),
        ("index.md", "[format](logs/README.md)", "[format](logs.md)"),
        ("index.md", "[below](#citation)", "[below](#citation)"),
        ("index.md", "[`cmd_scripts.txt`](cmd_scripts.txt) has", "`cmd_scripts.txt` has"),
        ("index.md", "[paper](https://arxiv.org/abs/2009.14082)", "[paper](https://arxiv.org/abs/2009.14082)"),
        ("index.md", "[gone](docs/gone.md)", "[gone](docs/gone.md)"),
        ("index.md", "![Errors](docs/pictures/errors-light.svg)", "![Errors](pictures/errors-light.svg)"),
        ("index.md", "![Errors](docs/gone.svg)", "![Errors](docs/gone.svg)"),
        ("index.md", '<img src="docs/pictures/heatmaps.jpg">', '<img src="pictures/heatmaps.jpg">'),
        ("index.md", '<a href="docs/quirks.md#top">', '<a href="quirks.html#top">'),
        ("engines.md", "[goldens](../tests/goldens/README.md)", "[goldens](goldens.md)"),
        ("engines.md", "[goldens](../tests/goldens/)", "[goldens](goldens.md)"),
        ("engines.md", "[start](../README.md#citation)", "[start](index.md#citation)"),
        ("engines.md", "[the other](pytorch.md)", "[the other](pytorch.md)"),
        ("goldens.md", "[logs](../../logs/README.md)", "[logs](logs.md)"),
        ("engines.md", f"{FENCED}[x](../README.md)", f"{FENCED}[x](index.md)"),
    ],
)  # fmt: skip
def test_links_lead_to_the_sites_pages(page, repository, site):
    assert with_links_of_the_site(repository, page) == site


def test_the_navigation_has_every_page_and_no_other():
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {path for path in OUTSIDE if not (ROOT / path).is_file()} == set()
    assert set(re.findall(r"[\w/]+\.md$", NAVIGATION, re.MULTILINE)) == pages | set(OUTSIDE.values())


@pytest.mark.parametrize("module", API)
def test_modules_of_the_api_exist(module):
    path = ROOT / module.replace(".", "/")
    assert (path / "__init__.py").is_file() or Path(f"{path}.py").is_file()


def test_what_builds_the_site_is_pinned():
    lines = (ROOT / "requirements-docs.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"#.*|[\w-]+==[\w.]+", line)] == []
    assert any(line.startswith("mkdocs-material==") for line in lines)
