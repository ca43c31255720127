"""What the documents say: the files they name exist, and their links lead somewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
OF_THE_ORIGINAL = {"utils/flops.py"}
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = ("CHANGELOG.md", "CONTRIBUTING.md", "logs/README.md", "params/README.md", "tests/goldens/README.md")
LINKED = [*DOCUMENTS, *(ROOT / name for name in OTHERS)]
FENCED = re.compile(r"^ *(```+|~~~+).*?^ *\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)(`+)(?!`)(?:[^\n]|\n(?!\s*\n))*?(?<!`)\1(?!`)")
INLINE_LINK = re.compile(r"\]\(\s*<?([^()\s<>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
DEFINITION = re.compile(r"^ {0,3}\[[^]]+\]:\s+(\S+)", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*$", re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_modules_that_are_named_exist(document):
    named = set(re.findall(r"`([\w/]+/\w+\.py)`", document.read_text(encoding="utf-8")))
    there = {path for path in named if (ROOT / path).is_file() or (ROOT / "gluon_aff" / path).is_file()}
    assert named - there <= OF_THE_ORIGINAL


class Attributes(HTMLParser):
    """What HTML within Markdown refers to, and the ids it has."""

    def __init__(self):
        super().__init__()
        self.targets, self.ids = [], set()

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src"):
                self.targets.append(value)
            elif name == "srcset":
                self.targets += [part.split()[0] for part in value.split(",")]
            elif name in ("id", "name"):
                self.ids.add(value)


def html_of(text):
    parser = Attributes()
    parser.feed(without_code(text))
    return parser


def without_code(text):
    return CODE.sub("", FENCED.sub("", text))


def targets(text):
    """Where the links and pictures of a document lead to."""
    words = without_code(text)
    return [*INLINE_LINK.findall(words), *DEFINITION.findall(words), *html_of(text).targets]


def anchors(text):
    """The fragments of a document: GitHub's slugs of its headings, and ids."""
    found = set()
    for heading in HEADING.findall(FENCED.sub("", text)):
        words = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", heading)
        words = re.sub(r"(?<!\w)([*_]{1,3})(\S|\S.*?\S)\1(?!\w)", r"\2", words)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found | html_of(text).ids


def broken_links(document):
    """Targets of a document that lead nowhere in the repository."""
    text = document.read_text(encoding="utf-8")
    return [
        target
        for target in targets(text)
        if not re.match(r"[a-z]+:", target) and not _is_there(document, unquote(target))
    ]


def _is_there(document, target):
    path, _, fragment = target.partition("#")
    file = (document.parent / path).resolve() if path else document
    if not file.exists() or ROOT.resolve() not in file.resolve().parents:
        return False
    file = file / "README.md" if file.is_dir() and fragment else file
    return not fragment or fragment in anchors(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(document):
    assert broken_links(document) == []


# As GitHub makes them (its documentation, "Basic writing and formatting syntax", and pages of its own)
SLUGS = """# Example headings
## Sample Section
## This'll be a _Helpful_ Section About the Greek Letter Θ!
## This heading is not unique
### This heading is not unique
## `utils/flops.py`, and [more](x.md)
## 20 or 100 classes?
## snake_case stays - dashes too ##
```
# no heading
```
<a id="by-hand"></a>
"""


def test_anchors_are_those_that_github_gives_headings():
    assert anchors(SLUGS) == {
        "example-headings",
        "sample-section",
        "thisll-be-a-helpful-section-about-the-greek-letter-θ",
        "this-heading-is-not-unique",
        "this-heading-is-not-unique-1",
        "utilsflopspy-and-more",
        "20-or-100-classes",
        "snake_case-stays---dashes-too",
        "by-hand",
    }


LINKS = """[a](there.md), [`b`](missing.md) ![c](missing.png "title") [d](there.md#here) [e](there.md#nowhere)
[f](#self) [g](#nobody) [h](https://example.org/missing) [i]: `[code](missing-code.md)`

[j]: missing-definition.md

<picture><source srcset="missing-dark.svg"><img src="there.md" alt="k"></picture>

```
[code](missing-fence.md)
```
# Self
"""


def test_broken_links_are_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "there.md").write_text("# Here\n")
    (tmp_path / "page.md").write_text(LINKS)
    assert set(broken_links(tmp_path / "page.md")) == {
        "missing.md", "missing.png", "there.md#nowhere", "#nobody", "missing-definition.md", "missing-dark.svg",
    }  # fmt: skip
