"""Validation images of ImageNet's layouts are evaluated under their own labels, or not without a word."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from gluon_aff.data.imagenet.record_writing import write_records
from gluon_aff.errors import InputError
from gluon_aff.evaluation.weights_file import validation_set
from gluon_aff.weights.card import Card

IDS = [f"n{number:08}" for number in range(5)]


def network(outputs):
    return Card(
        network="x", for_cifar=False, input_size=32, outputs=outputs, git_blob_sha1="", labels=None, dataset="imagenet"
    )


def validation_of(folder, outputs):
    return validation_set(network(outputs), "x.params", None, str(folder), 8, 0)


@pytest.fixture
def pictures(tmp_path):
    for name in IDS:
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "val" / name / "1.png")
    return tmp_path


def records(pictures, **more):
    shutil.rmtree(pictures / "rec", ignore_errors=True)
    write_records(str(pictures / "val"), str(pictures / "rec" / "val"), num_workers=0, **more)
    return pictures / "rec"


def test_as_many_classes_as_outputs_are_taken(pictures):
    for folder in (pictures / "val", records(pictures)):
        data = validation_of(folder, 5)
        assert (data.names, data.notes) == (IDS, ())


def test_another_number_of_classes_is_refused_unless_the_training_set_has_them(pictures):
    for folder in (pictures / "val", records(pictures)):
        with pytest.raises(InputError, match="has 5 classes, but the network has 6 outputs"):
            validation_of(folder, 6)
    shutil.copytree(pictures / "val", pictures / "train")
    shutil.copy(pictures / "rec" / "val.classes", pictures / "rec" / "train.classes")
    for folder in (pictures / "val", pictures / "rec"):
        assert validation_of(folder, 6).names == IDS


def test_a_junk_folder_that_makes_up_for_a_missing_class_is_refused(pictures):
    (pictures / "val" / IDS[2]).rename(pictures / "val" / "lost+found")
    for folder in (pictures / "val", records(pictures)):
        with pytest.raises(InputError, match=r"classes that ImageNet does not have \(lost\+found\)"):
            validation_of(folder, 5)


def test_records_that_do_not_say_their_classes_are_doubted_if_outputs_are_left_over(pictures):
    folder = records(pictures)
    Path(folder / "val.classes").unlink()
    assert validation_of(folder, 5).notes == ()
    (note,) = validation_of(folder, 6).notes
    assert "go up to 4, the network's outputs up to 5" in note
