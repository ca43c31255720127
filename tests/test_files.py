"""Files are written whole or not at all; each promise of the two helpers that every room writes through."""

import os

import pytest

from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.files import check_directories, decoded, read_text, replacing, replacing_together


@pytest.fixture
def written(tmp_path):
    """A file that is to be replaced."""
    path = tmp_path / "weights.params"
    path.write_text("before")
    return path


def test_the_new_file_takes_the_others_place_at_the_end(written):
    with replacing(str(written)) as partial:
        with open(partial, "w") as file:
            file.write("after")
        assert written.read_text() == "before"
        assert os.path.dirname(partial) == str(written.parent)  # on the same file system, or it could not be renamed
    assert written.read_text() == "after"
    assert os.listdir(written.parent) == ["weights.params"]


@pytest.mark.parametrize("error", [RuntimeError("a fault"), KeyboardInterrupt()], ids=repr)
def test_a_fault_while_writing_leaves_what_was_there(error, written):
    def write():
        with replacing(str(written)) as partial:
            with open(partial, "w") as file:
                file.write("aft")
            raise error

    with pytest.raises(type(error)):
        write()
    assert written.read_text() == "before"
    assert os.listdir(written.parent) == ["weights.params"]


def test_a_full_disk_is_one_line_and_leaves_what_was_there(written):
    def write():
        with replacing(str(written)) as partial:
            with open(partial, "w") as file:
                file.write("aft")
            raise OSError(28, "No space left on device")

    with pytest.raises(
        GluonAFFError, match=r"weights\.params cannot be written \(.*No space left.*\): check free space"
    ):
        write()
    assert written.read_text() == "before"
    assert os.listdir(written.parent) == ["weights.params"]


def test_a_link_stays_and_its_target_is_replaced(written, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    link = place / "link"
    link.symlink_to(written)
    with replacing(str(link)) as partial, open(partial, "w") as file:
        file.write("after")
    assert link.is_symlink()
    assert written.read_text() == "after"
    assert os.listdir(place) == ["link"]


def test_files_that_belong_together_are_written_together(written):
    other = written.with_name("other")
    other.write_text("before")

    def write():
        with replacing_together(str(written), str(other)) as partials:
            for partial in partials:
                with open(partial, "w") as file:
                    file.write("after")
                if not full:
                    continue
                raise OSError(28, "No space left on device")

    full = True
    with pytest.raises(GluonAFFError, match=r"weights\.params, .*other cannot be written \(.*No space left"):
        write()
    assert (written.read_text(), other.read_text()) == ("before", "before")
    full = False
    write()
    assert (written.read_text(), other.read_text()) == ("after", "after")
    assert sorted(os.listdir(written.parent)) == ["other", "weights.params"]


def test_the_working_directory_has_a_name_in_messages(monkeypatch):
    def refused(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(InputError, match=r"^-o \.: .* cannot be written to \(Permission denied\)"):
        check_directories({"-o": ""})


def test_the_folder_of_a_file_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("new/deep/file", "file"):
        with replacing(path) as partial, open(partial, "w") as file:
            file.write("x")
        assert (tmp_path / path).read_text() == "x"


def test_a_folder_that_can_be_made_is_not_made_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_directories({"--save-dir": "new/deep", "--logging-dir": "", "--out": str(tmp_path)})
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named_with_its_flag(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/logs", "gone/logs"):
        with pytest.raises(
            InputError, match=f"--save-dir .*{name}: .* cannot be written to .*choose another directory"
        ):
            check_directories({"--logging-dir": "", "--save-dir": str(tmp_path / name)})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_as_editors_save_it(encoding, tmp_path):
    """Notepad puts a mark before UTF-8; PowerShell writes UTF-16."""
    path = tmp_path / "names.txt"
    path.write_bytes("chequers\r\ncaf\u00e9\r\n".encode(encoding))
    assert read_text(str(path)).splitlines() == ["chequers", "caf\u00e9"]


@pytest.mark.parametrize("content", [b"\xe9", b"\xff\xfea", b"\x80\x04"])
def test_what_is_no_text_is_refused(content):
    with pytest.raises(UnicodeDecodeError):
        decoded(content)


def test_text_is_read_up_to_a_bound(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("12345")
    assert read_text(str(path), 5) == "12345"
    with pytest.raises(ValueError, match="it is larger than 4 bytes"):
        read_text(str(path), 4)
