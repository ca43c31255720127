"""The table that `gluon-aff evaluate` appends to: one that was begun goes on, whoever began it."""

import csv

import pytest

from gluon_aff.errors import InputError
from gluon_aff.results import evaluations
from gluon_aff.results.evaluations import COLUMNS, append_row, read_rows

# As the first release of this package wrote it
BEGUN = (
    "date,network,weights,git_blob_sha1,dataset,labels,official_data,images,top1,top5,loss,published_error_percent,"
    "images_per_second,batch_size,devices,versions,command\n"
)
ROW = {
    "command": "gluon-aff evaluate --params 'a, b.params'",
    "versions": "MXNet 1.9.1",
    "devices": "CPU",
    "batch_size": 32,
    "images_per_second": 12.5,
    "published_error_percent": None,
    "loss": 0.75,
    "top5": 0.9641,
    "top1": 0.8357,
    "images": 10_000,
    "official_data": True,
    "labels": "fine",
    "dataset": "cifar100",
    "git_blob_sha1": "e5f9164dd45269fa776b65c4eb95308ff7465e80",
    "weights": "a, b.params",
    "network": "aff_resnet32_cifar100",
    "date": "2026-11-28T12:00:00+00:00",
}
LINE = (
    '2026-11-28T12:00:00+00:00,aff_resnet32_cifar100,"a, b.params",e5f9164dd45269fa776b65c4eb95308ff7465e80,cifar100,'
    "fine,True,10000,0.8357,0.9641,0.75,,12.5,32,CPU,MXNet 1.9.1,\"gluon-aff evaluate --params 'a, b.params'\"\n"
)


@pytest.mark.parametrize("begun", ["", BEGUN, BEGUN + LINE, BEGUN + LINE[:-1]], ids=["empty", "header", "row", "cut"])
def test_a_table_goes_on_with_every_figure_under_its_name(begun, tmp_path):
    path = tmp_path / "evaluations.csv"
    path.write_text(begun)
    append_row(str(path), ROW)
    rows = begun.count("fine,") + 1
    assert path.read_text() == BEGUN + LINE * rows
    with path.open(newline="") as file:
        *_, last = csv.DictReader(file)
    assert last == {name: "" if value is None else str(value) for name, value in ROW.items()}


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["Unix", "Windows"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_table_that_a_spreadsheet_has_saved_goes_on_in_its_form(delimiter, end, quoting, tmp_path):
    """Excel puts a mark before the text, ends lines as Windows does, and in some languages takes semicolons."""
    path = tmp_path / "evaluations.csv"
    rows = csv.reader((BEGUN + LINE).splitlines())
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    before = path.read_bytes()
    append_row(str(path), ROW)
    assert path.read_bytes().startswith(before)
    assert path.read_bytes().endswith(end.encode())
    with path.open(newline="", encoding="utf-8-sig") as file:
        first, second = csv.DictReader(file, delimiter=delimiter)
    assert first == second


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["Unix", "Windows"])
def test_rows_are_read_as_pythons_csv_reads_them(delimiter, end, tmp_path):
    """Also one that was cut, a line that holds nothing, and one with a cell too many."""
    path = tmp_path / "evaluations.csv"
    lines = [*csv.reader((BEGUN + LINE * 2).splitlines()), [], ["2026-11-28", "cut"], [*COLUMNS, "more"]]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(lines)
    first, second, cut, long = read_rows(str(path))
    assert first == second == {name: "" if value is None else str(value) for name, value in ROW.items()}
    assert cut == {**dict.fromkeys(COLUMNS, ""), "date": "2026-11-28", "network": "cut"}
    assert long == dict(zip(COLUMNS, COLUMNS))


def test_a_table_of_the_largest_size_is_read(tmp_path, monkeypatch):
    (tmp_path / "evaluations.csv").write_text(BEGUN + LINE)
    monkeypatch.setattr(evaluations, "LARGEST", len(BEGUN + LINE))
    assert len(read_rows(str(tmp_path / "evaluations.csv"))) == 1


def test_a_table_is_begun_in_a_new_folder_or_the_working_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("new/evaluations.csv", "evaluations.csv"):
        append_row(path, ROW)
        assert (tmp_path / path).read_text() == BEGUN + LINE
    with pytest.raises(InputError, match="new cannot be written: name another file with --csv"):
        append_row("new", ROW)


@pytest.mark.parametrize("content", ["", BEGUN])
def test_a_table_without_rows_is_read(content, tmp_path):
    (tmp_path / "evaluations.csv").write_text(content)
    assert read_rows(str(tmp_path / "evaluations.csv")) == []


@pytest.mark.parametrize("content", [BEGUN.encode("utf-16"), b"\xff\xff\n", b"\n", b"date"])
def test_what_is_no_table_of_ours_stays_as_it_is(content, tmp_path):
    path = tmp_path / "evaluations.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match="name another file with --csv"):
        append_row(str(path), ROW)
    assert path.read_bytes() == content


def test_a_table_with_its_columns_in_another_order_is_refused(tmp_path):
    path = tmp_path / "evaluations.csv"
    path.write_text(BEGUN.replace("top1,top5", "top5,top1"))
    with pytest.raises(InputError, match="has other columns: name another file with --csv"):
        append_row(str(path), ROW)
    assert path.read_text() == BEGUN.replace("top1,top5", "top5,top1")
