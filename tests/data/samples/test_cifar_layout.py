import builtins
import hashlib
import subprocess

import numpy as np
import pytest

from gluon_aff.data.cifar.files import load_cifar
from gluon_aff.data.samples.cifar_layout import SHAPES, write_digits, write_shapes
from gluon_aff.errors import DataError, InputError


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_digits(digits_dir):
    train = load_cifar("cifar10", True, data_dir=str(digits_dir))
    test = load_cifar("cifar10", False, data_dir=str(digits_dir))
    assert (len(train), len(test)) == (1501, 296)
    share = np.bincount(test.labels) / np.bincount(np.concatenate([train.labels, test.labels]))
    assert len(share) == 10
    assert (np.abs(share - 1 / 6) < 0.01).all()
    images = np.concatenate([train.images, test.images])
    assert (images[..., :1] == images).all()
    for margin in (images[:, :4], images[:, -4:], images[:, :, :4], images[:, :, -4:]):
        assert (margin == 0).all()
    assert images.max() == 255
    assert (digits_dir / "batches.meta.txt").read_text().split() == [str(digit) for digit in range(10)]


def test_digits_are_scikit_learns(digits_dir):
    """Scaled back down, the pictures are the 8 x 8 originals in order, every sixth of a digit in the test half."""
    from sklearn.datasets import load_digits

    originals = load_digits()
    seen = dict.fromkeys(range(10), 0)
    rows = {True: [], False: []}
    for index, digit in enumerate(originals.target):
        seen[digit] += 1
        rows[seen[digit] % 6 != 0].append(index)
    for train, chosen in rows.items():
        half = load_cifar("cifar10", train, data_dir=str(digits_dir))
        np.testing.assert_array_equal(half.labels, originals.target[chosen])
        small = half.images[:, 4:28, 4:28, 0].reshape(-1, 8, 3, 8, 3).mean(axis=(2, 4))
        for picture, original in zip(small, originals.images[chosen]):
            assert np.corrcoef(picture.ravel(), original.ravel())[0, 1] > 0.97


def test_shapes_are_balanced(shapes_dir):
    for train, each in ((True, 20), (False, 5)):
        fine = load_cifar("cifar100", train, True, str(shapes_dir)).labels
        coarse = load_cifar("cifar100", train, False, str(shapes_dir)).labels
        np.testing.assert_array_equal(np.bincount(fine), np.full(100, each))
        np.testing.assert_array_equal(coarse, fine // 5)
    names = (shapes_dir / "coarse_label_names.txt").read_text().split()
    fine_names = (shapes_dir / "fine_label_names.txt").read_text().split()
    assert (len(names), len(set(fine_names))) == (20, 100)
    assert all(fine_names[label].endswith("_" + names[label // 5]) for label in range(100))
    assert names == list(SHAPES)


@pytest.mark.parametrize(
    ("fixture", "sum_of_sums"),
    [
        ("digits_dir", "a07213f808d6494ced2b934df2ed16dd1f650be5"),
        ("shapes_dir", "912508b19a0fda8b590f029baf66a91367cbdbab"),
    ],
)
def test_sums_are_sha1sums_and_the_same_as_ever(fixture, sum_of_sums, request):
    folder = request.getfixturevalue(fixture)
    assert hashlib.sha1((folder / "SHA1SUMS").read_bytes()).hexdigest() == sum_of_sums
    subprocess.run(["sha1sum", "--check", "--strict", "SHA1SUMS"], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def test_writing_is_deterministic(tmp_path, digits_dir):
    write_digits(str(tmp_path / "digits"))
    assert content(tmp_path / "digits") == content(digits_dir)
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        write_shapes(str(tmp_path / name), train_images=100, test_images=100, seed=seed)
    a, b, c = (content(tmp_path / name) for name in "abc")
    assert a == b
    assert a["train.bin"] != c["train.bin"]
    assert a["train.bin"] != a["test.bin"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "digits"]


def test_an_equal_set_stays_and_other_content_is_kept(tmp_path):
    folder = tmp_path / "shapes"
    folder.mkdir()
    write_shapes(str(folder), 100, 100)
    stamp = (folder / "train.bin").stat().st_mtime_ns
    write_shapes(str(folder), 100, 100)
    assert (folder / "train.bin").stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="holds something else") as error:
        write_shapes(str(folder), 100, 100, seed=1)
    assert str(folder) in str(error.value)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else"):
        write_shapes(str(folder), 100, 100)
    assert (folder / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="holds something else"):
        write_shapes(str(tmp_path / "file"), 100, 100)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="cannot be written"):
        write_shapes(str(tmp_path / "file" / "shapes"), 100, 100)


@pytest.mark.parametrize("arguments", [{"train_images": 150}, {"test_images": 0}, {"train_images": -100}, {"seed": -1}])
def test_numbers_that_do_not_fit(tmp_path, arguments):
    with pytest.raises(InputError):
        write_shapes(str(tmp_path / "shapes"), **{"train_images": 100, "test_images": 100, **arguments})
    assert not (tmp_path / "shapes").exists()


def test_scikit_learn_missing(tmp_path, monkeypatch):
    original = builtins.__import__

    def without_sklearn(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_sklearn)
    with pytest.raises(InputError, match="pip install scikit-learn"):
        write_digits(str(tmp_path / "digits"))


def halves(dataset, folder, fine=False):
    return [load_cifar(dataset, train, fine, str(folder)) for train in (True, False)]


def test_digits_can_be_learnt(digits_dir):
    from sklearn.neighbors import KNeighborsClassifier

    train, test = halves("cifar10", digits_dir)
    pixels = [half.images[:, ::2, ::2, 0].reshape(len(half), -1) / 255 for half in (train, test)]
    model = KNeighborsClassifier(3).fit(pixels[0], train.labels)
    assert model.score(pixels[1], test.labels) > 0.9


def centred(images):
    """The shape alone, moved to the middle and scaled to fill it, and its colour: N x (16 * 16 + 3)."""
    colourful = (images.max(axis=-1).astype(int) - images.min(axis=-1)) > 60
    features = []
    for image, mask in zip(images, colourful):
        rows, columns = np.flatnonzero(mask.sum(axis=1) > 1), np.flatnonzero(mask.sum(axis=0) > 1)
        pick = [np.linspace(index[0], index[-1], 16).round().astype(int) for index in (rows, columns)]
        colour = image[mask].mean(axis=0)
        features.append(np.concatenate([mask[np.ix_(*pick)].ravel(), 3 * colour / colour.max()]))
    return np.array(features)


@pytest.mark.parametrize("fine", [False, True])
def test_shapes_can_be_learnt(shapes_dir, fine):
    from sklearn.neighbors import KNeighborsClassifier

    train, test = halves("cifar100", shapes_dir, fine)
    model = KNeighborsClassifier(3).fit(centred(train.images), train.labels)
    assert model.score(centred(test.images), test.labels) > 0.75
