import builtins

import numpy as np
import pytest
from PIL import Image
from shared_by_tests.golden_samples import check_figures, pictures_figures

from gluon_aff.data.imagenet.training_batches import folder_batches
from gluon_aff.data.imagenet.validation_batches import validation_data
from gluon_aff.data.samples.pictures import write_pictures
from gluon_aff.errors import DataError, InputError

CLASSES = ("chequers", "dahlia", "discs", "gratings", "leaves", "pagoda", "sky", "trees")


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jpg")}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "pictures"
    write_pictures(str(folder))
    return folder


def test_what_is_written(pictures):
    files = content(pictures)
    for half, each in (("train", 40), ("val", 10)):
        for name in CLASSES:
            assert sum(path.startswith(f"{half}/{name}/") for path in files) == each
    assert len(files) == len(set(files.values())) == 400 == sum(path.is_file() for path in pictures.rglob("*"))
    for path in pictures.rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (128, 100))


def test_a_set_is_the_same_as_ever(pictures):
    check_figures(pictures_figures(pictures), "pictures")


def test_writing_is_deterministic(tmp_path):
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        write_pictures(str(tmp_path / name), 16, 8, seed)
    a, b, c = (content(tmp_path / name) for name in "abc")
    assert a == b
    assert not set(a.values()) & set(c.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_an_equal_set_stays_and_other_content_is_kept(tmp_path):
    write_pictures(str(tmp_path / "set"), 8, 8)
    before = (tmp_path / "set" / "train").stat().st_mtime_ns
    write_pictures(str(tmp_path / "set"), 8, 8)
    assert (tmp_path / "set" / "train").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="holds something else"):
        write_pictures(str(tmp_path / "set"), 8, 8, seed=1)
    (tmp_path / "set" / "val" / "mine").mkdir()
    (tmp_path / "set" / "val" / "mine" / "x.txt").write_text("x")
    with pytest.raises(DataError, match="holds something else"):
        write_pictures(str(tmp_path / "set"), 8, 8)


def test_numbers_that_do_not_fit(tmp_path):
    for numbers in ((12, 8, 0), (8, 0, 0), (8, 8, -1)):
        with pytest.raises(InputError):
            write_pictures(str(tmp_path / "set"), *numbers)
    assert list(tmp_path.iterdir()) == []


def test_without_scikit_learn_there_is_a_remedy(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *more, **others):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="pip install scikit-learn"):
        write_pictures(str(tmp_path / "set"))


def test_a_linear_classifier_learns_it_from_augmented_images(pictures):
    """Colours and edge strengths are enough for well above chance, an eighth, with augmentation and without."""
    from sklearn.linear_model import LogisticRegression

    def features(batches):
        images, labels = zip(*batches)
        pixels = np.concatenate(images)
        edges = [np.abs(np.diff(pixels, axis=axis)).mean(axis=(2, 3)) for axis in (2, 3)]
        return np.concatenate([pixels.mean(axis=(2, 3)), pixels.std(axis=(2, 3)), *edges], axis=1), np.concatenate(
            labels
        )

    train = folder_batches(str(pictures), 32, 0, 64, False, 0)
    augmented = [features(train.epoch(number)) for number in range(3)]
    inputs, labels = (np.concatenate(parts) for parts in zip(*augmented))
    model = LogisticRegression(max_iter=2000).fit(inputs, labels)
    assert model.score(*features(validation_data(str(pictures), 64, 16, 0).batches)) > 0.7
