"""What files, folders and servers name reaches the terminal as text that can do nothing there."""

import ast
import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_by_tests.written_logs import log_lines, settings_line

import gluon_aff
from gluon_aff.cli import main
from gluon_aff.commands.doctor import finding_text
from gluon_aff.machine.findings import mend
from gluon_aff.printing import printable, show, without_control_sequences
from gluon_aff.published import published_runs
from gluon_aff.weights.params_format import write_params_file

PACKAGE = Path(gluon_aff.__file__).parent
# Its own colours; what runs without the package, and answers a program
PRINTING = ("printing.py", "commands/doctor.py", "distributed/guard.py", "machine/probes.py")
EVIL = "a\x1b[2J\x1b]0;title\x07\n100 arrays\r\u202etxt.exe\x9b1m\ufeff\u2028\x7f"


def harmless(text):
    return all(character.isprintable() or character == "\n" for character in text)


def test_all_but_text_is_escaped():
    assert printable("caf\u00e9 5\u00a0% \u65e5\u672c \U0001f469\u200d\U0001f52c \\ ~") == (
        "caf\u00e9 5\u00a0% \u65e5\u672c \U0001f469\u200d\U0001f52c \\ ~"
    )
    assert printable(EVIL) == (r"a\x1b[2J\x1b]0;title\x07\n100 arrays\r\u202etxt.exe\x9b1m\ufeff\u2028\x7f")
    assert printable("\udc80\ud800") == r"\udc80\ud800"
    assert printable(Path("a\tb")) == r"a\tb"


@given(st.text())
def test_a_line_stays_one_line(text):
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()  # no error
    assert printable(shown) == shown


def test_lines_are_shown_one_by_one(capsys):
    show("a\nb", 3)
    assert capsys.readouterr().out == "a\\nb\n3\n"


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (b"\x1b[1;31mred\x1b[0m", b"red"),
        (b"\xc2\x9b2K\x1b[?25hline", b"line"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x07", b"link"),
        (b"\x1b(B[Epoch 1] \xc2\xb5", b"[Epoch 1] \xc2\xb5"),
        (b"plain [0m", b"plain [0m"),
    ],
)
def test_what_colours_a_line_is_taken_out(line, left):
    assert without_control_sequences(line) == left


def test_nothing_is_printed_but_through_here():
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = [
        f"{file}:{node.lineno}"
        for file, path in sorted(files.items())
        if file not in PRINTING
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert found == []


def assert_harmless(capsys):
    out, err = capsys.readouterr()
    assert harmless(out)
    assert harmless(err)
    return out, err


def test_params_shows_names_of_arrays_as_one_line_each(tmp_path, capsys):
    """A line break in one could forge the line that says whether the weights were published."""
    path = tmp_path / "evil\x1b[31m.params"
    write_params_file(str(path), {"weight\npublished: aff_resnet50\x1b[2J": np.zeros(3, np.float32)})
    with contextlib.suppress(SystemExit):
        main(["params", str(path)])
    out, _ = assert_harmless(capsys)
    assert r"weight\npublished: aff_resnet50\x1b[2J  3  float32" in out
    assert "published: no" in out.splitlines()


def test_errors_name_files_as_one_line(tmp_path, capsys):
    for command in (["params"], ["compare"], ["report"], ["convert", "-o", "a.params"], ["params", "--nothing"]):
        with contextlib.suppress(SystemExit):
            main([*command, str(tmp_path / EVIL)])
        _, err = assert_harmless(capsys)
        assert len(err.splitlines()) == 1
        assert EVIL not in err


def test_compare_and_report_show_names_and_settings_as_text(tmp_path, capsys):
    run = published_runs()["aff_resnet32_fine"]
    lines = log_lines(run, 3)
    lines[0] = settings_line(run, model="resnet", askc_type="ASKCFuse\x1b[2J\n\udc80\u202e")
    path = tmp_path / "train\x1b[2J\n.log"
    path.write_text("\n".join(lines))
    assert main(["compare", str(path)]) == 2
    out, _ = assert_harmless(capsys)
    assert r"ASKCFuse\x1b[2J\n\udc80\u202e" in out
    assert main(["compare", str(path), "--with", run.name]) == 0
    out, _ = assert_harmless(capsys)
    assert out.startswith("log        ")
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path), "-o", str(page)]) == 0
    assert_harmless(capsys)
    assert "\x1b" not in page.read_text(encoding="utf-8")


def test_the_doctor_shows_what_it_finds_as_text():
    shown = finding_text(mend("settings", f"MXNET_HOME={EVIL}", f"unset {EVIL}"))
    assert harmless(shown)
    assert len(shown.splitlines()) == 2
