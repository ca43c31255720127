"""The pages of the documentation, and what their blocks of code hold."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    str(path.relative_to(ROOT))
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "logs/README.md", "params/README.md")),
        *sorted((ROOT / "docs").glob("*.md")),
    )
]
SCRIPTS = {f"train_{name}.py": f"train-{name}" for name in ("cifar", "imagenet", "segmentation")}
PROGRAMS = ("gluon-aff", "python", "torchrun", "make", "pip", "git", "export", "cd", ".")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ASSIGNMENT = re.compile(r"\w+=")


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def python_blocks(page):
    return [text for language, text in _BLOCK.findall(text_of(page)) if language == "python"]


def commands(page):
    """Return the words of each command line on the page, in order, without what it sets in the environment.

    In a block with output a command follows a $; in others every line whose first word is a program is one.
    """
    found = []
    for language, text in _BLOCK.findall(text_of(page)):
        lines = text.splitlines() if not language else []
        prompted = [line[2:] for line in lines if line.startswith("$ ")]
        for line in prompted or lines:
            found += _commands_in(line, certain=bool(prompted))
    return found


def _commands_in(line, certain):
    if not certain and not _starts_with_a_program(line):
        return []
    commands = [[]]
    for word in shlex.split(line, comments=True):
        if word == "&&":
            commands.append([])
        elif commands[-1] or not _ASSIGNMENT.match(word):
            commands[-1].append(word)
    return commands


def _starts_with_a_program(line):
    words = [word for word in line.split() if not _ASSIGNMENT.match(word)]
    return bool(words) and words[0] in PROGRAMS
