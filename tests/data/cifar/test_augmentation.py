import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet.gluon.data.vision import transforms
from PIL import Image, ImageOps

from gluon_aff.data.autoaugment import AutoAugmentDraws
from gluon_aff.data.cifar.augmentation import AugmentationDraws, augment_batch, crop_and_flip, draw_epoch, normalise
from gluon_aff.errors import InputError

# Of red, green and blue, in the original's train_cifar.py
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGES = np.random.default_rng(2).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)


def pixel_by_pixel(image, offset, flip):
    """The image seen through a 32 x 32 window at `offset` in its padded self, mirrored if `flip`."""
    out = np.zeros_like(image)
    for y in range(32):
        for x in range(32):
            row, column = y + offset[0] - 4, (31 - x if flip else x) + offset[1] - 4
            if 0 <= row < 32 and 0 <= column < 32:
                out[y, x] = image[row, column]
    return out


@settings(deadline=None, max_examples=25)
@given(
    offset=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=4),
    flips=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_crop_and_flip(offset, flips):
    batch, flips = len(offset), np.array(flips[: len(offset)])
    result = crop_and_flip(IMAGES[:batch], np.array(offset), flips)
    for index in range(batch):
        np.testing.assert_array_equal(result[index], pixel_by_pixel(IMAGES[index], offset[index], flips[index]))


def test_crop_is_gluoncvs_random_crop(monkeypatch):
    """Zero padding 4 and MXNet's random_crop, which GluonCV's RandomCrop(32, pad=4) is made of, offsets handed in."""
    import random

    for offset in ((0, 8), (4, 4), (7, 1)):
        picks = iter((offset[1], offset[0]))
        monkeypatch.setattr(random, "randint", lambda low, high, picks=picks: next(picks))
        padded = mx.nd.array(np.pad(IMAGES[0], ((4, 4), (4, 4), (0, 0))))
        expected, _ = mx.image.random_crop(padded, (32, 32), 2)
        result = crop_and_flip(IMAGES[:1], np.array([offset]), np.array([False]))
        np.testing.assert_array_equal(result[0], expected.asnumpy())


def test_normalise_is_gluons():
    reference = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)])
    expected = np.stack([reference(mx.nd.array(image, dtype="uint8")).asnumpy() for image in IMAGES])
    result = normalise(IMAGES)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_normalise_every_value():
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    expected = (values / 255 - MEAN) / DEVIATION
    np.testing.assert_allclose(normalise(values), expected.transpose(0, 3, 1, 2), rtol=0, atol=1e-6)


def flat(draws):
    return [draws.auto.policy, draws.auto.uniform, draws.auto.sign, draws.offset, draws.flip]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 1000), samples=st.integers(2, 300))
def test_draws_of_a_sample_do_not_depend_on_the_others(seed, epoch, samples):
    draws = draw_epoch(seed, epoch, samples)
    for some, all_of_them in zip(flat(draw_epoch(seed, epoch, samples // 2)), flat(draws)):
        np.testing.assert_array_equal(some, all_of_them[: samples // 2])
    rows = np.arange(samples)[::-2]
    for taken, all_of_them in zip(flat(draws.take(rows)), flat(draws)):
        np.testing.assert_array_equal(taken, all_of_them[rows])


def test_draws_are_those_of_the_published_seeds():
    """Of nine uniform numbers for each image, from PCG64 of the seed, the epoch and the purpose, 1."""
    table = np.random.Generator(np.random.PCG64((11, 4, 1))).random((90, 9))
    draws = draw_epoch(11, 4, 90)
    np.testing.assert_array_equal(draws.auto.policy, np.floor(25 * table[:, 0]))
    np.testing.assert_array_equal(draws.auto.uniform, table[:, 1:3])
    np.testing.assert_array_equal(draws.auto.sign == 1, table[:, 3:5] >= 0.5)
    np.testing.assert_array_equal(draws.offset, np.floor(9 * table[:, 6:8]))
    np.testing.assert_array_equal(draws.flip, table[:, 8] < 0.5)


def test_draws_differ_between_samples_epochs_and_seeds():
    draws = np.concatenate([draw_epoch(seed, epoch, 100).auto.uniform for seed in (0, 1) for epoch in (0, 1)])
    assert len(np.unique(draws)) == 800


def test_draws_are_in_range_and_even():
    draws = draw_epoch(0, 0, 90_000)
    for axis in range(2):
        share = np.bincount(draws.offset[:, axis], minlength=9) / 90_000
        assert len(share) == 9
        assert np.abs(share - 1 / 9).max() < 5 * np.sqrt(1 / 9 * 8 / 9 / 90_000)
    assert abs(draws.flip.mean() - 0.5) < 5 * np.sqrt(0.25 / 90_000)
    assert (
        np.abs(np.corrcoef(np.column_stack([draws.offset, draws.flip, draws.auto.policy]).T) - np.eye(4)).max() < 0.02
    )


def test_negative_seed():
    with pytest.raises(InputError, match="--seed"):
        draw_epoch(-1, 0, 3)


def test_augmented_sample_is_the_same_in_any_batch():
    draws = draw_epoch(7, 2, len(IMAGES))
    whole = augment_batch(IMAGES, draws, auto_augment=True)
    assert whole.dtype == np.uint8
    assert whole.shape == IMAGES.shape
    rows = np.array([40, 3, 21])
    np.testing.assert_array_equal(augment_batch(IMAGES[rows], draws.take(rows), True), whole[rows])
    assert (augment_batch(IMAGES, draws, auto_augment=False) != whole).any()


def test_auto_augment_comes_before_crop_and_flip():
    """Policy 0 begins with an inversion: what the crop fills in afterwards stays black."""
    choices = AutoAugmentDraws(np.array([0]), np.array([[0.0, 1.0]]), np.array([[1, 1]]))
    offset, flip = np.array([[1, 6]]), np.array([True])
    inverted = np.asarray(ImageOps.invert(Image.fromarray(IMAGES[0])))
    found = augment_batch(IMAGES[:1], AugmentationDraws(choices, offset, flip), auto_augment=True)
    np.testing.assert_array_equal(found[0], pixel_by_pixel(inverted, offset[0], flip[0]))


def test_streams_are_those_of_the_published_seeds():
    """PCG64 of the seed, the epoch and the purpose, 1: another number would make every seed another."""
    table = np.random.Generator(np.random.PCG64((11, 4, 1))).random((90, 9))
    np.testing.assert_array_equal(draw_epoch(11, 4, 90).auto.uniform, table[:, 1:3])
