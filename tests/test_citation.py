"""The BibTeX that `gluon-aff --cite` prints."""

import re
import subprocess
import sys
from pathlib import Path

from gluon_aff._version import __version__
from gluon_aff.citation import PACKAGE, PAPER

ROOT = Path(__file__).parents[1]
WITHOUT_ENGINES = """
import sys
sys.modules.update(mxnet=None, torch=None, numpy=None)
from gluon_aff_command import main
sys.argv[1:] = ["--cite"]
sys.exit(main())
"""


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def fields(entry):
    """Fields of a BibTeX entry by name, as they are printed."""
    found = dict(re.findall(r"^  (\w+) *= \{(.*)\},?$", entry, re.MULTILINE))
    return {name: re.sub(r"[{}\\]", "", value) for name, value in found.items()}


def test_the_papers_entry_is_that_of_the_readme():
    assert f"```\n{PAPER}\n```" in text_of("README.md").replace("```bibtex", "```")


def test_the_packages_entry_says_what_the_citation_file_says():
    said = dict(re.findall(r'^(\w+): "?([^"\n]+)"?$', text_of("CITATION.cff"), re.MULTILINE))
    (author,) = re.findall(r"^  - name: (.*)$", text_of("CITATION.cff"), re.MULTILINE)
    expected = {"title": said["title"], "author": author, "note": f"Version {said['version']}", "year": "2026"}
    assert fields(PACKAGE) == expected
    assert said["version"] == __version__
    assert PACKAGE.count("{") == PACKAGE.count("}")


def test_the_command_prints_paper_and_package_without_an_engine():
    result = subprocess.run([sys.executable, "-c", WITHOUT_ENGINES], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{PAPER}\n\n{PACKAGE}\n"
