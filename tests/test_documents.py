"""What the documents say of the code: the files they name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OF_THE_ORIGINAL = {"utils/flops.py"}
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_modules_that_are_named_exist(document):
    named = set(re.findall(r"`([\w/]+/\w+\.py)`", document.read_text(encoding="utf-8")))
    there = {path for path in named if (ROOT / path).is_file() or (ROOT / "gluon_aff" / path).is_file()}
    assert named - there <= OF_THE_ORIGINAL
