"""Every command on every page is one that its program understands."""

import re
from dataclasses import replace

import pytest
from shared_by_tests.documents import PAGES, PROGRAMS, ROOT, SCRIPTS, commands, python_blocks

from gluon_aff import cli, operators

EVERY_COMMAND = [(page, words) for page in PAGES for words in commands(page)]


@pytest.fixture
def understands(monkeypatch, tmp_path, capsys):
    """Let commands only parse their arguments."""
    for name, command in cli.COMMANDS.items():
        monkeypatch.setitem(cli.COMMANDS, name, replace(command, run=lambda options: 0, computes=False))
    monkeypatch.setattr(operators, "OPERATORS", dict(operators.OPERATORS))
    (tmp_path / "my_operators.py").write_text(python_blocks("docs/operators.md")[0])
    monkeypatch.chdir(tmp_path)

    def check(arguments, script=None, command=None):
        code = cli.main(arguments, script, command)
        assert code == 0, capsys.readouterr().err

    return check


def check_command(words, understands):
    program, *rest = words
    if program == "gluon-aff":
        understands(rest)
        if "--" in rest:
            check_command(rest[rest.index("--") + 1 :], understands)
    elif program in ("python", "torchrun"):
        start = next(
            number for number, word in enumerate(rest) if word in SCRIPTS or word in ("benchmarks", "gluon_aff")
        )
        name, *arguments = rest[start:]
        if name in SCRIPTS:
            understands(arguments, name, SCRIPTS[name])
        elif name == "gluon_aff":
            understands(arguments)
        else:
            assert not arguments or f'"{arguments[0]}"' in (ROOT / "benchmarks/__main__.py").read_text(encoding="utf-8")
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in rest if "=" not in word} <= set(targets)
    elif program == "pip":
        extras = [extra for word in rest for extra in re.findall(r"\[(\w+)\]", word)]
        assert all(f'"{extra}": ' in (ROOT / "setup.py").read_text(encoding="utf-8") for extra in extras)
    else:
        assert program in PROGRAMS


@pytest.mark.parametrize(
    ("page", "words"), EVERY_COMMAND, ids=[f"{page}: {' '.join(words)}" for page, words in EVERY_COMMAND]
)
def test_a_command_is_understood(page, words, understands):
    if "my_operators.py" in words:
        pytest.importorskip("mxnet")
    check_command(words, understands)


def test_pages_have_commands():
    assert len(EVERY_COMMAND) > 60
    assert {words[0] for _, words in EVERY_COMMAND} <= set(PROGRAMS) | {"OMP_NUM_THREADS=1"}
