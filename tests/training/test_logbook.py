"""The log of a run that goes on: it ends with the run's lines, and holds those of other runs as they were."""

import os

import pytest

from gluon_aff.errors import GluonAFFError
from gluon_aff.training.logbook import SILENT_LOG, open_log

RUN = "Namespace(a=1)\n[Epoch 0]\n"
OTHER = "Namespace(b=2)\n[Epoch 0]\n"


@pytest.mark.parametrize(
    ("there", "earlier", "start", "expected", "begins"),
    [
        ("", "", 0, "", 0),
        ("old\n", "", 0, "old\n", 4),
        ("old", "", 0, "old\n", 4),
        (f"old\n{RUN}", RUN, 4, f"old\n{RUN}", 4),
        (f"old\n{RUN}[Epoch 1]\n[Ep", RUN, 4, f"old\n{RUN}", 4),  # killed later than its checkpoint was written
        (f"old\n{RUN[:20]}", RUN, 4, f"old\n{RUN}", 4),  # lost its end
        (f"old\n{RUN}{OTHER}", RUN, 4, f"old\n{RUN}{OTHER}{RUN}", 4 + len(RUN + OTHER)),
        (OTHER, RUN, 4, f"{OTHER}{RUN}", len(OTHER)),
        ("", RUN, 4, RUN, 0),
    ],
)
def test_a_log_ends_with_the_lines_of_the_run(there, earlier, start, expected, begins, tmp_path):
    path = tmp_path / "train.log"
    path.write_text(there)
    with open_log(str(path), "%(message)s", earlier.encode(), start) as log:
        assert path.read_text() == expected
        assert log.start == begins
        log.info("more")
        assert log.text().decode() == f"{earlier}more\n"
        assert log.lines("more", "and more") == b"more\nand more\n"


def test_a_log_that_another_file_has_replaced_is_not_read(tmp_path):
    path = tmp_path / "logs/train.log"
    with open_log(str(path)) as log:
        (tmp_path / "new").write_text("of another run")
        os.replace(tmp_path / "new", path)
        reason = r"train.log disappeared during the run \(another file is in its place\): --resume auto writes it again"
        with pytest.raises(GluonAFFError, match=reason):
            log.text()


def test_a_log_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_log("train.log") as log:
        log.info("a line")
    assert (tmp_path / "train.log").read_bytes() == log.lines("a line") == b"INFO:root:a line\n"


def test_all_workers_but_the_first_log_nothing():
    SILENT_LOG.info("a line")
    assert (SILENT_LOG.path, SILENT_LOG.text(), SILENT_LOG.lines("a")) == (os.devnull, b"", b"INFO:root:a\n")


def test_a_terminal_can_be_the_log(capsys):
    ours, its = os.openpty()
    with open_log(os.ttyname(its)) as log:
        log.info("a line")
        assert log.text() == b""
    assert os.read(ours, 100) == b"INFO:root:a line\r\n"
    for descriptor in (ours, its):
        os.close(descriptor)
