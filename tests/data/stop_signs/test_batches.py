"""Batches of images and masks: their bytes, whoever makes them, and that each image comes once."""

import numpy as np
import pytest
from PIL import Image

from gluon_aff.data.batches import Share
from gluon_aff.data.imagenet.images import FOLDER_MEAN, FOLDER_STD
from gluon_aff.data.randomness import Purpose, stream
from gluon_aff.data.samples.stop_signs import write_stop_signs
from gluon_aff.data.stop_signs.annotations import load_stop_signs
from gluon_aff.data.stop_signs.batches import MaskBatches
from gluon_aff.data.stop_signs.masked_images import augment, read_pair, to_draws
from gluon_aff.errors import DataError, InputError

pytest.importorskip("pycocotools")


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("sample") / "signs")
    write_stop_signs(folder, 14, 8)
    return [load_stop_signs(folder, train) for train in (True, False)]


def batches(halves, size=4, workers=0, share=Share(), seed=5):  # noqa: B008
    return MaskBatches(*halves, size, 64, 48, seed, workers, share)


def content(epoch):
    return list(epoch)


def assert_same(one, other):
    assert len(one) == len(other) > 0
    for pair, others in zip(one, other):
        for array, another in zip(pair, others):
            np.testing.assert_array_equal(array, another)


def test_shapes_and_values(halves):
    with batches(halves) as made:
        epoch = content(made.epoch(0))
    assert len(epoch) == len(made) == len(halves[0]) // 4
    for images, masks in epoch:
        assert (images.shape, images.dtype, masks.shape, masks.dtype) == (
            (4, 3, 48, 48), np.float32, (4, 1, 48, 48), np.float32,
        )  # fmt: skip
        assert images.flags.c_contiguous
        assert masks.flags.c_contiguous
        assert set(np.unique(masks)) <= {0, 1}
    assert any(masks.any() for _, masks in epoch)


def test_an_image_is_augmented_by_its_own_numbers_and_normalised(halves):
    """Row i of the epoch's table of uniform numbers belongs to image i, wherever it comes in the epoch."""
    training = halves[0].images
    order = stream(5, 3, Purpose.SHUFFLE).permutation(len(training))
    table = stream(5, 3, Purpose.AUGMENTATION).random((len(training), 6))
    with batches(halves) as made:
        images, masks = content(made.epoch(3))[1]
    for place, number in enumerate(order[4:8]):
        pixels, mask = augment(*read_pair(training[number]), 48, to_draws(table[number].tolist(), 64))
        np.testing.assert_array_equal(masks[place, 0], mask)
        expected = (pixels - np.array(FOLDER_MEAN)) / FOLDER_STD
        np.testing.assert_allclose(images[place].transpose(1, 2, 0), expected, atol=1e-5)


def test_workers_and_where_an_epoch_goes_on_change_nothing(halves):
    with batches(halves) as alone, batches(halves, workers=2) as helped:
        whole = content(alone.epoch(2))
        assert_same(content(helped.epoch(2)), whole)
        assert_same(content(helped.epoch(2, first=2)), whole[2:])
        assert_same(content(helped.validation()), content(alone.validation()))
        assert not np.array_equal(content(alone.epoch(1))[0][0], whole[0][0])


def test_validation_has_each_image_once_over_all_shares(halves):
    with batches(halves, size=3) as made:
        everything = content(made.validation())
    sizes = [len(images) for images, _ in everything]
    assert sizes[:-1] == [3] * (len(sizes) - 1)
    assert sum(sizes) == len(halves[1])
    for (images, masks), place in zip(zip(*(np.concatenate(part) for part in zip(*everything))), halves[1].images):
        picture, mask = read_pair(place)
        np.testing.assert_array_equal(masks[0], np.asarray(mask.resize((64, 64), Image.Resampling.NEAREST)))
        pixels = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(images.transpose(1, 2, 0), (pixels - np.array(FOLDER_MEAN)) / FOLDER_STD, atol=1e-5)
    parts = []
    for rank in range(2):
        with batches(halves, size=3, share=Share(rank, 2)) as part:
            parts.append(content(part.validation()))
    alternating = [parts[i % 2][i // 2] for i in range(len(everything))]
    assert_same(alternating, everything)


def test_an_image_that_cannot_be_read_is_named(halves, tmp_path):
    write_stop_signs(str(tmp_path / "signs"), 6, 1)
    training = load_stop_signs(str(tmp_path / "signs"), True)
    for place in training.images:
        with open(place.path, "r+b") as file:
            file.truncate(900)
    for workers in (0, 1):
        with batches([training, halves[1]], 2, workers) as made, pytest.raises(InputError, match=r"\.jpg cannot be re"):
            next(made.epoch(0))


def test_sizes_that_do_not_fit(halves):
    with pytest.raises(DataError, match="fewer than one batch of 99"):
        batches(halves, size=99)
    with pytest.raises(InputError, match="crop size 0"):
        MaskBatches(*halves, 2, 64, 0, 0, 0)
    with MaskBatches(*halves, 1, 1, 1, 0, 0) as made:
        assert next(made.epoch(0))[0].shape == (1, 3, 1, 1)
