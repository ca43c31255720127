"""The augmentation of images and masks against Pillow and NumPy, step by step."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from gluon_aff.data.stop_signs.masked_images import NUMBERS, Draws, augment, squash, to_draws

STILL = Draws(mirror=False, long_side=40, column=0.0, row=0.0, blur=0.0)


def pair(height=30, width=40, seed=0):
    dice = np.random.default_rng(seed)
    image = dice.integers(1, 256, (height, width, 3), np.uint8)
    return Image.fromarray(image), Image.fromarray(dice.integers(0, 2, (height, width), np.uint8))


def arrays(image, mask):
    return np.asarray(image), np.asarray(mask)


def assert_equal(found, expected):
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(one, other)


def padded(array, size):
    """Black below and on the right, up to size x size."""
    missing = [(0, max(size - side, 0)) for side in array.shape[:2]]
    return np.pad(array, [*missing, (0, 0)][: array.ndim])


def test_an_image_of_the_long_side_is_padded_below_and_on_the_right():
    image, mask = pair()
    assert_equal(augment(image, mask, 50, STILL), [padded(array, 50) for array in arrays(image, mask)])


def test_mirror():
    image, mask = pair()
    mirrored = augment(image, mask, 40, STILL._replace(mirror=True))
    assert_equal(mirrored, [padded(array[:, ::-1], 40) for array in arrays(image, mask)])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9999999])
def test_crops_reach_all_places_and_no_further(share):
    image, mask = pair()
    left, top = int(share * 21), int(share * 11)  # 21 and 11 places for 20 pixels in 40 and 30
    cropped = augment(image, mask, 20, STILL._replace(column=share, row=share))
    assert_equal(cropped, [array[top : top + 20, left : left + 20] for array in arrays(image, mask)])


def test_a_side_that_is_too_short_is_padded_and_the_other_cropped():
    image, mask = pair()
    found = augment(image, mask, 35, STILL._replace(column=0.9, row=0.9))
    assert_equal(found, [padded(array[:, 5:40], 35) for array in arrays(image, mask)])


@pytest.mark.parametrize(("height", "width", "scaled"), [(30, 40, (69, 52)), (40, 30, (52, 69)), (40, 40, (69, 69))])
def test_the_longer_side_is_scaled_and_the_aspect_kept(height, width, scaled):
    """52 = 69 * 30 / 40 = 51.75, rounded; the mask is the nearest pixel at each pixel's centre."""
    image, mask = pair(height, width)
    found = augment(image, mask, 69, STILL._replace(long_side=69))
    resized = np.asarray(image.resize(scaled, Image.Resampling.BILINEAR))
    rows, columns = (
        ((np.arange(side) + 0.5) * before / side).astype(int) for side, before in zip(scaled[::-1], (height, width))
    )
    nearest = np.asarray(mask)[rows][:, columns]
    assert_equal(found, [padded(array, 69) for array in (resized, nearest)])


def test_only_the_image_is_blurred():
    image, mask = pair()
    found = augment(image, mask, 25, STILL._replace(blur=0.7))
    cropped = Image.fromarray(np.asarray(image)[:25, :25]).filter(ImageFilter.GaussianBlur(0.7))
    assert_equal(found, (np.asarray(cropped), np.asarray(mask)[:25, :25]))
    assert (found[0] != np.asarray(image)[:25, :25]).any()


def test_validation_images_are_squashed_to_a_square():
    image, mask = Image.new("RGB", (40, 10), (9, 8, 7)), Image.fromarray(np.repeat([[0, 1]], 10, 0).astype(np.uint8))
    mask = mask.resize((40, 10), Image.Resampling.NEAREST)
    pixels, squashed = squash(image, mask, 20)
    assert (pixels.shape, np.unique(pixels).tolist()) == ((20, 20, 3), [7, 8, 9])
    np.testing.assert_array_equal(squashed, np.repeat([[0] * 10 + [1] * 10], 20, 0))


def test_draws_are_spread_as_the_chain_asks():
    """Mirror and blur in half of all, long sides 256 to 1024 for base 512, each as often, radii in 0..1."""
    draws = [to_draws(row, 512) for row in np.random.default_rng(1).random((40_000, NUMBERS)).tolist()]
    mirror, sides, columns, rows, blur = (np.array(column) for column in zip(*draws))
    assert mirror.mean() == pytest.approx(0.5, abs=0.01)
    assert (sides.min(), sides.max()) == (256, 1024)
    assert np.histogram(sides, 8, (256, 1025))[0] == pytest.approx(5000, rel=0.06)
    assert (blur == 0).mean() == pytest.approx(0.5, abs=0.01)
    assert blur[blur > 0].mean() == pytest.approx(0.5, abs=0.01)
    assert blur.max() < 1
    for places in (columns, rows):
        assert np.histogram(places, 4, (0, 1))[0] == pytest.approx(10_000, rel=0.05)
    assert abs(np.corrcoef([mirror, sides, columns, rows, blur]) - np.eye(5)).max() < 0.03
    assert to_draws([0.5, 0.5, 0.3, 0.2, 0.5, 0.1], 64) == Draws(False, 80, 0.3, 0.2, 0.0)
    assert to_draws([0.4, 0.5, 0.3, 0.2, 0.4, 0.1], 64) == Draws(True, 80, 0.3, 0.2, 0.1)
    assert to_draws([0.9, 0.0, 0, 0, 0.9, 0], 33).long_side == 16
    assert to_draws([0.9, 0.9999, 0, 0, 0.9, 0], 33).long_side == 66
