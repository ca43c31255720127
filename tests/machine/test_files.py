"""Data sets and weights by their names."""

from pathlib import Path

import pytest

from gluon_aff.data.cifar import files as cifar
from gluon_aff.machine.files import CIFAR, CLONE_VARIABLE, PUBLISHED_ROOT, check_data, check_weights
from gluon_aff.machine.findings import MEND, NOTE, OK
from gluon_aff.published import published_weights
from gluon_aff.settings.imagenet import ImageNetSettings
from gluon_aff.weights import store


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home directory, and an empty working directory in it."""
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "work")
    for name in ("MXNET_HOME", CLONE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return home


def touch(*parts):
    path = Path(*map(str, parts))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def states(findings):
    return {finding.check: finding.state for finding in findings}


def test_names_are_those_that_training_reads():
    layouts = {"CIFAR-10": cifar._LAYOUTS["cifar10"], "CIFAR-100": cifar._LAYOUTS["cifar100"]}
    assert set(CIFAR) == set(layouts)
    for name, layout in layouts.items():
        files = CIFAR[name]
        assert (files.archive, files.folder, files.files) == (layout.archive, layout.folder, layout.files)
        assert cifar._LAYOUTS[files.gluon_folder] == layout


def test_nothing_is_there():
    findings = check_data([])
    assert states(findings) == {"CIFAR-10": NOTE, "CIFAR-100": NOTE, "ImageNet": NOTE}
    assert all(finding.remedy for finding in findings)


def test_cifar_at_gluons_place(home, monkeypatch):
    touch(home, ".mxnet/datasets/cifar100/train.bin")
    touch(home, ".mxnet/datasets/cifar100/test.bin")
    assert states(check_data([]))["CIFAR-100"] == OK
    monkeypatch.setenv("MXNET_HOME", str(home / "elsewhere"))
    assert states(check_data([]))["CIFAR-100"] == NOTE
    touch(home, "elsewhere/datasets/cifar10/cifar-10-binary.tar.gz")
    assert states(check_data([]))["CIFAR-10"] == OK


@pytest.mark.parametrize(
    "names",
    [
        ["cifar-100-binary.tar.gz"],
        ["train.bin", "test.bin"],
        ["cifar-100-binary/train.bin", "cifar-100-binary/test.bin"],
    ],
)
def test_cifar_where_data_dir_says(tmp_path, names):
    for name in names:
        touch(tmp_path / "data", name)
    finding = check_data([str(tmp_path / "data")])[1]
    assert finding.state == OK
    assert finding.message.endswith("verified when loaded")
    found = cifar._find(cifar._LAYOUTS["cifar100"], tmp_path / "data")  # what training would read
    assert finding.message.startswith(f"{found};")


def test_the_archive_itself(tmp_path):
    archive = touch(tmp_path, "cifar-10-binary.tar.gz")
    assert states(check_data([str(archive)]))["CIFAR-10"] == OK


def test_half_of_cifar(tmp_path):
    touch(tmp_path, "data/data_batch_1.bin")
    message = check_data([str(tmp_path / "data")])[0].message
    assert "(without data_batch_2.bin, data_batch_3.bin, data_batch_4.bin, data_batch_5.bin, test_batch.bin)" in message


def test_imagenet_at_its_usual_place(home):
    rec = touch(home, ".mxnet/datasets/imagenet/rec/train.rec")
    finding = check_data([])[2]
    assert (finding.state, finding.message) == (OK, f"{rec} (without train.idx); verified when loaded")
    assert Path(ImageNetSettings().rec_train).expanduser() == rec
    touch(home, ".mxnet/datasets/imagenet/rec/train.idx")
    assert check_data([])[2].message == f"{rec}; verified when loaded"


def test_imagenet_folders(tmp_path):
    touch(tmp_path, "imagenet/train/n01440764/a.JPEG")
    touch(tmp_path, "imagenet/val/a.JPEG")  # not in class folders
    finding = check_data([str(tmp_path / "imagenet")])[2]
    assert (finding.state, finding.message) == (OK, f"{tmp_path}/imagenet/train/; verified when loaded")


def test_directories_named_in_vain(tmp_path):
    touch(tmp_path, "some/thing.txt")
    touch(tmp_path, "data/train.bin")
    findings = check_data([str(tmp_path / "some"), str(tmp_path / "gone"), str(tmp_path / "data")])[3:]
    assert [(finding.check, finding.state) for finding in findings] == [("--data-dir", MEND)] * 2
    assert findings[1].message == f"{tmp_path}/gone: neither CIFAR nor ImageNet is there"


HEAD = [weights for weights in published_weights() if weights.release == "head"]


def test_weights_are_found_where_evaluate_looks_for_them(tmp_path, monkeypatch):
    clone = tmp_path / "open-aff"
    for place in range(3):
        touch(store._candidates(HEAD[place], PUBLISHED_ROOT, str(clone))[place])
    assert PUBLISHED_ROOT == store.ROOT
    assert check_weights().message == f"2 of {len(HEAD)} published files in params/; verified when loaded"
    monkeypatch.setenv(store.CLONE_VARIABLE, str(clone))
    finding = check_weights()
    assert finding.state == OK
    assert finding.message == f"3 of {len(HEAD)} published files in params/ and {clone}; verified when loaded"


def test_weights_of_the_first_release(tmp_path):
    first = next(weights for weights in published_weights() if weights.release == "first")
    touch(PUBLISHED_ROOT, first.file_name)
    finding = check_weights()
    assert finding.state == NOTE
    assert finding.message == f"0 of {len(HEAD)} published files in params/, 1 of 14 of the first release"


def test_a_clone_that_is_not_there(monkeypatch):
    monkeypatch.setenv(CLONE_VARIABLE, "/nowhere/open-aff")
    finding = check_weights()
    assert (finding.state, finding.message) == (MEND, "$GLUON_AFF_OPEN_AFF=/nowhere/open-aff is not a directory")
