"""The same label stands for the same class in training and validation, or it is said that it does not."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gluon_aff.data.imagenet.class_folders import class_folders
from gluon_aff.data.imagenet.class_lists import (
    check_same_classes,
    class_list,
    classes_content,
    named,
    read_classes,
    record_classes,
    strangers,
)
from gluon_aff.data.imagenet.record_writing import write_records
from gluon_aff.data.imagenet.validation_batches import folder_validation, record_validation, validation_data
from gluon_aff.errors import DataError

CLASSES = ("ant", "bee", "cat", "dog")


def write_images(root, classes=CLASSES, ending="png"):
    """A picture for each class, as bright as its place in CLASSES says."""
    for name in classes:
        (root / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), (10 * (1 + CLASSES.index(name)),) * 3).save(root / name / f"1.{ending}")
    return root


def written(root, part, **more):
    out = root / "rec" / part
    result = write_records(str(root / part), str(out), shuffle=False, num_workers=0, **more)
    return str(out), result


def labels_of(out):
    return [int(float(line.split("\t")[1])) for line in Path(f"{out}.lst").read_text().splitlines()]


def test_records_of_a_validation_set_that_lacks_a_class_have_the_training_sets_labels(tmp_path):
    write_images(tmp_path / "train")
    write_images(tmp_path / "val", ("ant", "cat", "dog"))
    (train, _), (val, result) = written(tmp_path, "train"), written(tmp_path, "val")
    assert (labels_of(train), labels_of(val)) == ([0, 1, 2, 3], [0, 2, 3])
    assert Path(f"{val}.classes").read_text() == Path(f"{train}.classes").read_text() == "ant\nbee\ncat\ndog\n"
    assert result.notes == (f"{tmp_path / 'val'}: 1 classes have no images: bee",)
    data = validation_data(str(tmp_path / "rec"), 32, 4, 0)
    ((_, labels),) = data.batches
    assert labels.tolist() == [0, 2, 3]
    assert (data.as_in_training, data.class_list.ordered) == (True, list(CLASSES))
    Path(f"{val}.classes").unlink()  # the list of images names only classes that have some
    assert validation_data(str(tmp_path / "rec"), 32, 4, 0).as_in_training


def test_the_training_set_can_be_named_by_its_folder_or_by_its_records(tmp_path):
    write_images(tmp_path / "here" / "train")
    write_images(tmp_path / "there" / "val", ("bee", "dog"))
    train, _ = written(tmp_path / "here", "train")
    for number, classes in enumerate((str(tmp_path / "here" / "train"), f"{train}.classes")):
        out = str(tmp_path / str(number))
        write_records(str(tmp_path / "there" / "val"), out, shuffle=False, classes=classes)
        assert labels_of(out) == [1, 3]
    alone, _ = written(tmp_path / "there", "val")
    assert labels_of(alone) == [0, 1]


def test_a_class_folder_that_the_training_set_has_not_gets_no_label(tmp_path):
    write_images(tmp_path / "train", ("ant", "cat"))
    write_images(tmp_path / "val", ("ant", "bee", "cat"))
    with pytest.raises(DataError, match=r"val has class folders that .*train does not have \(bee\).*--classes"):
        written(tmp_path, "val")
    assert not (tmp_path / "rec").exists()
    val, _ = written(tmp_path, "val", classes=str(tmp_path / "val"))
    assert labels_of(val) == [0, 1, 2]


def test_a_missing_class_and_a_junk_folder_do_not_make_up_for_each_other(tmp_path):
    """Three folders each: the number alone says nothing."""
    write_images(tmp_path / "train", ("ant", "bee", "cat"))
    write_images(tmp_path / "val", ("ant", "cat", "dog"))
    with pytest.raises(DataError, match=r"train and .*val have different classes \(bee, dog\)"):
        validation_data(str(tmp_path), 32, 4, 0)
    written(tmp_path, "train")
    written(tmp_path, "val", classes=str(tmp_path / "val"))
    with pytest.raises(DataError, match=r"train\.classes and .*val\.classes have different classes \(bee, dog\)"):
        validation_data(str(tmp_path / "rec"), 32, 4, 0)


def test_records_of_im2rec_are_held_against_each_other_by_their_lists(tmp_path):
    """It numbers each set's folders by itself, and lists only classes with images."""
    write_images(tmp_path / "train")
    write_images(tmp_path / "val", ("ant", "cat", "dog"))
    written(tmp_path, "train")
    val, _ = written(tmp_path, "val", classes=str(tmp_path / "val"))
    for path in (tmp_path / "rec").glob("*.classes"):
        path.unlink()
    with pytest.raises(DataError, match=r"train\.lst and .*val\.lst have different classes \(bee, cat, dog\)"):
        validation_data(str(tmp_path / "rec"), 32, 4, 0)
    Path(f"{val}.lst").unlink()
    data = validation_data(str(tmp_path / "rec"), 32, 4, 0)
    assert (data.class_list, data.as_in_training) == (None, False)


@pytest.mark.parametrize(
    "line",
    [
        "0\t3\timage.jpg",
        "0\t3\ta/1.jpg\n1\t3\tb/2.jpg",
        "0\t3\tval/1.jpg\n1\t4\tval/2.jpg",
        "0\tx\ta/1.jpg",
        "0 3 a/1.jpg",
    ],
)
def test_a_list_that_is_not_one_of_class_folders_says_nothing(tmp_path, line):
    (tmp_path / "val.lst").write_text(f"{line}\n")
    assert record_classes(str(tmp_path / "val.rec")) is None


def test_names_come_back_as_they_were_written(tmp_path):
    names = ("a b", "\udcff", "ä", "z")
    (tmp_path / "x.classes").write_bytes(classes_content(names))
    assert read_classes(str(tmp_path / "x.classes")).ordered == list(names)


@pytest.mark.parametrize("text", ["", "a\n\nb\n", "a\nb\na\n"])
def test_what_is_no_list_of_classes_is_refused(tmp_path, text):
    (tmp_path / "x.classes").write_text(text)
    with pytest.raises(DataError, match=r"x\.classes is not a list of classes"):
        read_classes(str(tmp_path / "x.classes"))


def test_a_list_with_fewer_classes_than_labels_is_out_of_date(tmp_path):
    write_images(tmp_path / "train")
    train, _ = written(tmp_path, "train")
    Path(f"{train}.classes").write_text("ant\nbee\n")
    with pytest.raises(DataError, match=r"names 2 classes, but .*train\.rec has labels up to 3"):
        record_validation(f"{train}.rec", f"{train}.idx", 32, 4, 0)


def test_two_lists_agree_where_every_label_stands_for_the_same_class():
    one = class_list("one", CLASSES)
    assert check_same_classes(one, class_list("two", CLASSES))
    assert not check_same_classes(one, None)
    with pytest.raises(DataError, match=r"one and two have different classes \(dog\)"):
        check_same_classes(one, class_list("two", CLASSES[:3]))


def test_names_that_are_none_of_imagenets_stand_out():
    ids = [f"n{number:08}" for number in range(9)]
    assert strangers([*ids, "lost+found"]) == ["lost+found"]
    assert strangers([*ids[:3], "a", "b"]) == ["a", "b"]
    assert strangers(ids) == strangers(CLASSES) == strangers([ids[0], "lost+found"]) == []


def test_of_many_names_the_first_are_said():
    assert named("abcde") == "a, b, c, d, e"
    assert named("abcdef") == "a, b, c, d, e, ..."


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "JPEG", "png", "bmp", "webp", "tif", "tiff", "ppm", "pgm", "pbm"])
def test_pictures_of_every_format_that_is_decoded_are_taken(tmp_path, ending):
    write_images(tmp_path, ending=ending)
    data = folder_validation(str(tmp_path), 32, 4, 0)
    ((images, labels),) = data.batches
    assert (data.images, data.notes, labels.tolist()) == (4, (), [0, 1, 2, 3])
    assert len(np.unique(images[:, 0, 0, 0])) == 4


def test_what_is_left_out_and_what_is_empty_is_said(tmp_path):
    write_images(tmp_path)
    (tmp_path / "ant" / "2.gif").write_bytes(b"x")
    (tmp_path / "ant" / "3.GIF").write_bytes(b"x")
    (tmp_path / "bee" / "README").write_text("x")
    (tmp_path / "bee" / "more").mkdir()
    (tmp_path / "bee" / ".DS_Store").write_text("x")
    shutil.copy(tmp_path / "ant" / "1.png", tmp_path / "loose.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "dog" / "1.png").unlink()
    found = class_folders(str(tmp_path), "CLASS/IMAGE")
    left_out, empty = found.notes
    assert left_out == (
        f"{tmp_path}: 5 entries are left out (2 .gif, 1 .png, 1 folder, 1 without an ending): only files in class "
        "folders with these endings are read: .jpg, .jpeg, .png, .bmp, .webp, .tif, .tiff, .ppm, .pgm, .pbm"
    )
    assert empty == f"{tmp_path}: 1 classes have no images: dog"
    assert [label for _, label in found.samples] == [0, 1, 2]
